"""Photos made to look like uploads are found; what the phone draws never is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.runtime.contract import Contract
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import PATTERNS
from sfumato.server.model import CloudModel
from sfumato.server.photo_check import check_uploads, largest_rate, standardised, statistics

Bytes = NDArray[np.uint8]


def threshold(picture: Bytes) -> Bytes:
    return np.where(picture > 127, 1, 0).astype(np.uint8)


def floyd_steinberg(picture: Bytes) -> Bytes:
    planes = [Image.fromarray(picture[..., c]).convert("1") for c in range(3)]
    return np.stack([np.asarray(plane, dtype=np.uint8) for plane in planes], axis=2)


def ordered(picture: Bytes) -> Bytes:
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16 + 8
    tiles = np.tile(bayer, (picture.shape[0] // 4, picture.shape[1] // 4))[..., None]
    return np.where(picture > tiles, 1, 0).astype(np.uint8)


def drawn(picture: Bytes) -> Bytes:
    """The photo itself as probabilities: a channel that adds no noise of its own."""
    dice = np.random.default_rng(1).integers(0, 256, picture.shape)
    return np.where(dice < picture, 1, 0).astype(np.uint8)


def negative(picture: Bytes) -> Bytes:
    return np.where(picture > 127, 0, 1).astype(np.uint8)


@pytest.mark.parametrize("method", [threshold, floyd_steinberg, ordered, drawn, negative])
def test_photos_in_an_uploads_form_are_found(
    method: Callable[[Bytes], Bytes], model: CloudModel, pictures: list[Bytes]
) -> None:
    for picture in pictures:
        (result,) = check_uploads([method(picture)], model.contract)
        assert not result.passed, (method.__name__, result)


def test_uploads_pass(model: CloudModel, phone: PhoneModel, pictures: list[Bytes]) -> None:
    made = [pattern(32, 32) for pattern in PATTERNS.values()]
    uploads = [phone.perturb(p).levels for p in (*pictures, *made) for _ in range(20)]
    assert max(result.score for result in check_uploads(uploads, model.contract)) < 0.8


def test_pure_noise_of_every_form_passes(model: CloudModel) -> None:
    rng = np.random.default_rng(2)
    for bits in (1, 2, 4):
        contract = changed(model.contract, {"name": "dither", "levels": 2**bits})
        (result,) = check_uploads([rng.integers(0, 2**bits, (32, 32, 3), dtype=np.uint8)], contract)
        assert result.score < 0.8


def changed(contract: Contract, channel: dict[str, object]) -> Contract:
    part = type(contract.channel).model_validate(channel)
    return contract.model_copy(update={"channel": part})


def test_gaussian_uploads_pass_and_photos_do_not(model: CloudModel, pictures: list[Bytes]) -> None:
    channel = {"name": "gaussian", "additive": False, "largest_scale": 0.5, "reference_scale": 0.3}
    contract = changed(model.contract, channel)
    noise = np.random.default_rng(3).normal(127.5, 0.3 * 255, (32, 32, 3))
    drawn, photo = check_uploads([noise.clip(0, 255).astype(np.uint8), pictures[0]], contract)
    assert drawn.passed
    assert not photo.passed


def test_the_bound_holds_for_the_worst_spending_of_a_rate() -> None:
    """All of the rate on one patch whose samples all agree: the mean of every statistic stays below its share."""
    probability = np.full((32, 32, 3), 0.5)
    probability[8:16, 8:16] = 0.62
    nats = float(
        (np.log(2) + probability * np.log(probability) + (1 - probability) * np.log(1 - probability)).sum()
    )
    mean = (2 * probability - 1).astype(np.float64)
    for name, (_, share, _) in statistics(np.ones((1, 32, 32, 3))).items():
        value = statistics(mean[None])[name][0][0]
        assert abs(value) <= share * 2 * nats, name


def test_without_a_measured_rate_nothing_can_be_checked(model: CloudModel) -> None:
    contract = model.contract.model_copy(update={"figures": {}})
    assert largest_rate(contract) == float("inf")
    (result,) = check_uploads([np.zeros((32, 32, 3), np.uint8)], contract)
    assert result.passed


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (5, 6)])
def test_signs_are_counted_as_the_formulas_say(model: CloudModel, size: tuple[int, int]) -> None:
    """The slow obvious way, sample by sample, for several uploads of two bits at once."""
    contract = changed(model.contract, {"name": "dither", "levels": 4})
    uploads = np.random.default_rng(4).integers(0, 4, (3, *size, 3), dtype=np.uint8)
    height, width = size
    for bit, plane in enumerate(standardised(uploads, contract)):
        found = statistics(plane)
        for number, levels in enumerate(uploads):
            z = 2.0 * ((levels >> (1 - bit)) & 1) - 1
            inside = z[: height - height % 4, : width - width % 4]
            blocks = [
                inside[y : y + 4, x : x + 4] for y in range(0, height - 3, 4) for x in range(0, width - 3, 4)
            ]
            expected = {
                "columns side by side": (z[:, 1:] * z[:, :-1]).sum(),
                "rows side by side": (z[1:] * z[:-1]).sum(),
                "colours of a pixel": (z[..., 1:] * z[..., :-1]).sum(),
                "blocks of pixels": sum(
                    (block.sum((0, 1)) ** 2 - (block**2).sum((0, 1))).sum() for block in blocks
                ),
            }
            assert {name: values[number] for name, (values, _, _) in found.items()} == expected


def test_closed_blocks_are_no_sign_of_a_photo(dial_export: Path, pictures: list[Bytes]) -> None:
    """They are black in every upload. What lies in open ones is judged as ever, at every strength."""
    phone = PhoneModel.load(dial_export)
    strengths = phone.contract.strengths
    uploads = [phone.perturb(p, strength=s).levels for p in pictures for s in strengths for _ in range(5)]
    assert max(result.score for result in check_uploads(uploads, phone.contract)) < 0.8
    # Without a word about closed blocks the weakest uploads look like photos, by what they tell themselves.
    weak = [phone.perturb(picture, strength=strengths[-1]) for picture in pictures]
    told = {"max": {"int8": max(upload.rate_bits for upload in weak)}}
    bounded = phone.contract.model_copy(update={"figures": {"rate_bits": told}})
    plain, levels = changed(bounded, {"name": "dither", "levels": 4}), [upload.levels for upload in weak]
    assert max(result.score for result in check_uploads(levels, bounded)) < 0.8
    assert min(result.score for result in check_uploads(levels, plain)) > 1
    for picture in pictures:
        (result,) = check_uploads([picture >> np.uint8(6)], phone.contract)
        assert not result.passed
