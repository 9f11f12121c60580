"""Points of an export, from the run to the phone, the report and the audit."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures.answer import build_answer_bundle
from typer import Typer
from typer.testing import CliRunner

from sfumato.audit import audit
from sfumato.audit.plan import Plan
from sfumato.audit.schema import read_audit
from sfumato.channels import prior_rate
from sfumato.cli import perturb
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import Split
from sfumato.export.artifact import load_export
from sfumato.export.measure import DRAWS, SEED
from sfumato.export.pipeline import chosen_points, export
from sfumato.runtime.contract import read_contract
from sfumato.runtime.exact_rate import block_rate
from sfumato.runtime.keyed_noise import keyed_noise
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger, draw_id, ledger_path
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import dither
from sfumato.runtime.test_vectors import check_vectors
from sfumato.runtime.upload_codec import decode_png
from sfumato.runtime.verification import verify
from sfumato.training.run import Run

KEY = bytes(range(32))
STRENGTHS = (128, 64, 31)


def at_strength(q: NDArray[np.uint8], strength: int) -> NDArray[np.uint8]:
    """(H, W, planes) block by block, in Python's integers."""
    found = q.copy()
    for top in range(0, q.shape[0], 8):
        for left in range(0, q.shape[1], 8):
            block = found[top : top + 8, left : left + 8]
            if block.any():
                block[:] = 128 + (((block.astype(int) - 128) * strength + 64) >> 7)
    return found


def test_every_point_is_measured_with_what_ships(dial_run: Run, dial_export: Path) -> None:
    """Again with a loop over images, on the noise that the export drew."""
    contract, phone = read_contract(dial_export), PhoneModel.load(dial_export)
    assert contract.strengths == STRENGTHS
    assert contract.points is not None
    first, figures = contract.points[0], contract.figures
    assert first.accuracy == {name: pair["int8"] for name, pair in figures["accuracy"].items()}
    assert first.rate_bits.model_dump() == {name: pair["int8"] for name, pair in figures["rate_bits"].items()}
    assert first.upload_bytes.model_dump() == figures["upload_bytes"]
    rows = dial_run.dataset.splits[Split.TEST]
    images, labels = np.array(dial_run.dataset.images[rows]), dial_run.dataset.labels["glasses"][rows]
    shipped = [phone.parameters(image)["p"] for image in images]
    for point in contract.points:
        parameters = [at_strength(q, point.strength) for q in shipped]
        rates = [block_rate(q) / math.log(2) for q in parameters]
        assert point.rate_bits.mean == pytest.approx(np.mean(rates), abs=1e-5)
        assert point.rate_bits.max == pytest.approx(max(rates), abs=1e-5)
        rng, right = np.random.default_rng(SEED), 0
        for index in list(range(len(images))) * DRAWS:
            noise = rng.integers(0, 256, shipped[0].size, dtype=np.uint8)
            rng.random(shipped[0].shape)  # for the float model's draw
            upload = torch.from_numpy(dither(parameters[index], noise, bits=2)).permute(2, 0, 1)[None] / 3
            with torch.no_grad():
                right += int(dial_run.cloud(upload)["glasses"].argmax()) == labels[index]
        assert point.accuracy["glasses"] == pytest.approx(right / DRAWS / len(images), abs=1e-5)
    rates = [point.rate_bits.mean for point in contract.points]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("strength", [None, *STRENGTHS])
def test_an_upload_is_drawn_at_its_strength(dial_run: Run, dial_export: Path, strength: int | None) -> None:
    phone, image = PhoneModel.load(dial_export), np.array(dial_run.dataset.images[5])
    q = at_strength(phone.parameters(image)["p"], strength or 128)
    assert phone.digest is not None
    noise = keyed_noise(KEY, phone.digest, q.tobytes(), image, q.size)
    upload = phone.perturb(image, key=KEY, strength=strength)
    assert upload.strength == (strength or 128)
    assert np.array_equal(upload.levels, dither(q, noise, bits=2))
    assert np.array_equal(decode_png(upload.content, height=32, width=32, bits=2), upload.levels)
    assert upload.rate_bits == pytest.approx(block_rate(q) / math.log(2), rel=1e-9)
    assert upload.draw == draw_id(KEY, phone.digest, q.tobytes(), image.tobytes())
    # Closed blocks are black at every strength, and there are some.
    closed = ~q.reshape(4, 8, 4, 8, 6).any((1, 3, 4))
    assert 0 < closed.sum() < closed.size
    assert not upload.levels.reshape(4, 8, 4, 8, 3).swapaxes(1, 2)[closed].any()


def test_a_strength_that_is_no_point_is_refused(dial_export: Path, sealed: Path) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(UsageError, match=r"no point of strength 65: it has 128, 64, 31$"):
        PhoneModel.load(dial_export).perturb(image, strength=65)
    plain = PhoneModel.load(sealed)
    with pytest.raises(UsageError, match="one strength alone"):
        plain.perturb(image, strength=64)
    assert plain.perturb(image).strength is None


def test_a_user_chooses_a_point(
    dial_export: Path, photo: Callable[[int, int], NDArray[np.uint8]], tmp_path: Path
) -> None:
    Image.fromarray(photo(40, 50)).save(tmp_path / "a.png")
    key = tmp_path / "device.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    app = Typer()
    app.command()(perturb.command)

    def go(name: str, *more: str) -> dict[str, Any]:
        arguments = [
            str(dial_export),
            str(tmp_path / "a.png"),
            "--out",
            str(tmp_path / name),
            "--key",
            str(key),
        ]
        result = CliRunner().invoke(app, [*arguments, "--json", *more])
        assert result.exit_code == 0, result.output
        told: dict[str, Any] = json.loads(result.stdout)["uploads"][0]
        return told

    full, half = go("full"), go("half", "--strength", "64")
    assert (full["strength"], half["strength"]) == (128, 64)
    assert half["rate_bits"] < full["rate_bits"]
    phone = PhoneModel.load(dial_export)
    expected = phone.perturb(tmp_path / "a.png", key=KeyRing.of(KEY).for_service("files"), strength=64)
    assert (tmp_path / "half" / "a.upload.png").read_bytes() == expected.content
    # Two points of one photo are two releases: both count. The same point again does not.
    go("again", "--strength", "64")
    total = Ledger(ledger_path(key), KEY).account("files").total
    assert total.draws == 2
    assert total.microbits / 1e6 == pytest.approx(full["rate_bits"] + half["rate_bits"], abs=2e-4)


def test_points_verify_and_a_changed_answer_is_found(dial_export: Path) -> None:
    assert verify(dial_export).passed
    phone = PhoneModel.load(dial_export)
    vectors = json.loads((dial_export / "vectors.json").read_text(encoding="utf-8"))
    assert [case["strength"] for case in vectors["points"]] == list(STRENGTHS)
    assert check_vectors(vectors, phone) == []
    for number, (name, value) in enumerate(
        [("strength", 63), ("bytes", "00" * 256), ("noise_sha256", "0" * 64), ("rate_bits", 1.0)]
    ):
        changed = json.loads(json.dumps(vectors))
        changed["points"][number % 3][name] = value
        assert check_vectors(changed, phone)
    assert check_vectors(vectors | {"points": vectors["points"][1:]}, phone) == [
        "points: vectors.json holds other cases"
    ]
    broken = json.loads(json.dumps(vectors))
    broken["points"][1].pop("upload_packed")
    with pytest.raises(SfumatoError, match=r"points, 64: damaged \(KeyError\)"):
        check_vectors(broken, phone)


def test_without_points_a_bundle_is_as_before(sealed: Path, dial_run: Run) -> None:
    assert read_contract(sealed).points is None
    assert "points" not in (sealed / "contract.json").read_text(encoding="utf-8")
    assert "points" not in json.loads((sealed / "vectors.json").read_text(encoding="utf-8"))
    assert chosen_points(dial_run, (), ["int8"]) == ()
    assert chosen_points(dial_run, None, ["float32"]) == ()


@pytest.mark.parametrize(
    ("name", "points", "variants", "reason"),
    [
        ("dither", (128, 64, 64), ["int8"], "not 128, 64, 64"),
        ("dither", (64,), ["int8"], "points are strengths from 128 on"),
        ("dither", (128, 64), ["float32"], "export the variant int8 too"),
        ("gaussian", (128, 64), ["int8"], "the channel dither"),
        ("additive", (128, 64), ["int8"], "the channel dither"),
    ],
)
def test_points_that_cannot_be_are_refused_before_any_work(
    make_run: Callable[[str], Run],
    tmp_path: Path,
    name: str,
    points: tuple[int, ...],
    variants: list[str],
    reason: str,
) -> None:
    with pytest.raises(UsageError, match=reason):
        export(make_run(name), tmp_path / "out", variants=variants, points=points)
    assert not (tmp_path / "out").exists()


LIGHT = Plan(
    name="light",
    probes=("linear",),
    clean_probes=("linear",),
    rates=(3e-3,),
    provider_rates=(3e-3,),
    epochs=1,
    provider_epochs=1,
    clean_epochs=1,
    steps=1,
    clean_steps=1,
    control=False,
    patience=1,
    prior_steps=2,
)


def test_an_audit_of_a_point_stands_beside_that_of_the_export(dial_export: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dial_export, tmp_path / "export"))
    whole = audit(folder, LIGHT, attributes=["smiling"])
    before = (folder / "audit.json").read_bytes()
    half = audit(folder, LIGHT, attributes=["smiling"], strength=64)
    assert (folder / "audit.json").read_bytes() == before
    assert read_audit(folder / "audit-strength-64.json") == half
    assert (half.strength, whole.strength) == (64, None)
    assert "dither channel at strength 64" in (folder / "report-strength-64.html").read_text(encoding="utf-8")
    assert "at strength" not in (folder / "report.html").read_text(encoding="utf-8")
    artifact = load_export(folder)
    images = np.array(artifact.dataset.images[artifact.dataset.splits[Split.TEST]])
    drawn = [at_strength(artifact.phone.parameters(image)["p"], 64) for image in images]
    expected = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2) / 256
    parameters = artifact.at_strength(64).parameters(images)
    assert torch.equal(parameters["p"], expected)
    bits = prior_rate(artifact.channel, {"p": expected.double()}).mean().item() / math.log(2)
    assert half.rate_bits.mean == pytest.approx(bits, rel=1e-3)
    assert half.rate_bits.mean < whole.rate_bits.mean
    assert verify(folder).passed


def test_an_audit_of_no_point_is_refused(dial_export: Path, sealed: Path, dial_run: Run) -> None:
    with pytest.raises(UsageError, match="no point of strength 65"):
        audit(dial_export, LIGHT, strength=65)
    with pytest.raises(UsageError, match="one strength alone"):
        audit(sealed, LIGHT, strength=64)
    with pytest.raises(UsageError, match="exports alone have points"):
        audit(dial_run, LIGHT, strength=64)


def test_an_answer_bundle_has_no_points(tmp_path: Path) -> None:
    build_answer_bundle(tmp_path / "export", randomised=False, variants=("int8",))
    with pytest.raises(UsageError, match="one strength alone"):
        PhoneModel.load(tmp_path / "export").perturb(np.zeros((32, 32, 3), np.uint8), strength=64)
