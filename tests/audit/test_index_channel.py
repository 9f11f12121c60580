"""Indices as the audit draws and bounds them: against the listed book, against phone and service, and a whole audit."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.audit.conftest import TINY, SmallArtifact, dataset, noise_only, planted
from tests.runtime.test_index_code import law, probabilities

from sfumato.audit import audit, load
from sfumato.audit import positive_control as control
from sfumato.audit.attack_data import AttackData, build_attack_data
from sfumato.audit.attacks import posterior
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.plan import QUICK
from sfumato.audit.stored import fingerprint
from sfumato.channels import Channel, create
from sfumato.export.artifact import load_export
from sfumato.export.measure import pictures
from sfumato.runtime.index_code import IndexCode
from sfumato.server.formats import INDEX
from sfumato.server.uploads import decode

CODES = [
    IndexCode(2, 3, 6, 12, True, 1, 6),
    IndexCode(2, 2, 6, 12, True, 2, 5),
    IndexCode(3, 4, 3, 13, False, 2, 4),
]

COMPUTED = TINY.model_copy(
    update={
        "attacks": ("floor", "clean", "output", "posterior", "discriminant"),
        "clean_epochs": 2,
        "control": False,
    }
)
"""No network is trained on uploads: drawing them for all epochs is what takes long."""


def channel_of(code: IndexCode) -> IndexChannel:
    return IndexChannel(levels=2 ** (code.planes // 3), gray=code.gray, code=code)


def parameters_of(q: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """Of bytes q (N, H, W, planes)."""
    return {"p": torch.from_numpy(q).permute(0, 3, 1, 2).float() / 256}


def every_upload(code: IndexCode) -> torch.Tensor:
    """The whole book, (2^bits, 3, H, W) in 0..1."""
    indices = [(n << 8 * code.size - code.bits).to_bytes(code.size, "big") for n in range(2**code.bits)]
    levels = torch.from_numpy(code.levels_of_many(indices)).permute(0, 3, 1, 2)
    values: torch.Tensor = levels.float() / (2 ** (code.planes // 3) - 1)
    return values


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_posterior_knows_the_probability_of_every_entry(code: IndexCode) -> None:
    q = np.stack([probabilities(code, seed) for seed in range(3)])
    logs = posterior.likelihood_of(channel_of(code))(every_upload(code), parameters_of(q))
    expected = np.log([law(code, one) for one in q]).T
    assert np.abs(logs.numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("code", CODES, ids=str)
def test_divergences_are_those_of_the_listed_book(code: IndexCode) -> None:
    channel = channel_of(code)
    q, other = (np.stack([probabilities(code, seed) for seed in seeds]) for seeds in ((0, 1), (2, 3, 4)))
    found = channel.divergences(parameters_of(q), parameters_of(other))
    plain = replace(code, power=1)
    for row, one in enumerate(q):
        p = law(code, one)
        for column, reference in enumerate(other):
            assert found[row, column] == pytest.approx(
                (p * np.log(p / law(plain, reference))).sum(), abs=0.02
            )
        assert channel.rate(parameters_of(q))[row] == pytest.approx(
            code.bits * math.log(2) + (p * np.log(p)).sum(), abs=0.02
        )


def test_draws_follow_the_law() -> None:
    """Through `noise` and `sample` of torch: the mean of every bit is the law's."""
    code, count = CODES[1], 4000
    channel = channel_of(code)
    q = np.broadcast_to(probabilities(code), (count, 2, 2, 6))
    parameters = parameters_of(q.copy())
    drawn = channel.planes(
        channel.sample(parameters, channel.noise(parameters, torch.Generator().manual_seed(1)))
    )
    means = torch.from_numpy(code.exact_law(q[:1])[1]).permute(0, 3, 1, 2)[0]
    assert (drawn.mean(0) - means).abs().max() < 5 * 0.5 / math.sqrt(count)


def test_the_audit_draws_what_the_phone_sends_and_the_service_reads(index_export: Path) -> None:
    artifact = load_export(index_export)
    assert isinstance(load(index_export).channel, IndexChannel)
    images = np.array(artifact.dataset.images[:5])
    parameters = artifact.parameters(images)
    noise = artifact.channel.noise(parameters, torch.Generator().manual_seed(3))
    assert artifact.phone.book is not None
    read = []
    for image, bytes_ in zip(images, noise.numpy(), strict=True):
        sent = artifact.phone.book.draw(artifact.phone.parameters(image)["p"], bytes_)
        read.append(decode(sent, INDEX, artifact.contract))
    drawn = artifact.channel.sample(parameters, noise)
    assert (
        drawn - pictures(read, artifact.channel)
    ).abs().max() < 1e-6  # between samples the last digits differ
    assert artifact.channel.settings == artifact.contract.channel.settings


def small(function: Callable[..., dict[str, torch.Tensor]], folder: Path, power: int = 2) -> SmallArtifact:
    channel: Channel = IndexChannel(levels=2, code=IndexCode(16, 16, 3, 384, False, power, 4))
    return SmallArtifact(folder, dataset(), function, channel, kind="int8")


def in_bytes(
    function: Callable[..., dict[str, torch.Tensor]], images: NDArray[np.uint8]
) -> dict[str, torch.Tensor]:
    """Whole numbers of 256, as an int8 model's."""
    return {"p": (function(images)["p"] * 256).round() / 256}


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> AttackData:
    return build_attack_data(
        small(partial(in_bytes, noise_only), tmp_path_factory.mktemp("silent")), ("tone",), copies=1
    )


def test_the_control_counts_what_the_book_lets_through(silent: AttackData) -> None:
    found = control.positive_control(silent, QUICK)
    assert found is not None
    assert control.WANTED_NAG <= found.planted_nag < 0.3
    assert found.passed


def test_finished_steps_of_packed_uploads_are_no_steps_of_indices(silent: AttackData) -> None:
    packed = replace(silent, channel=create("dither", levels=2))
    assert fingerprint(silent, QUICK, (("tone",),)) != fingerprint(packed, QUICK, (("tone",),))


def test_a_leak_in_indices_is_found_and_judged(tmp_path: Path) -> None:
    more = {"repeats": (2,), "average_networks": (), "compose": True, "frames": (1, 2)}
    plan = COMPUTED.model_copy(update={**more, "attacks": (*COMPUTED.attacks, "average")})
    result = audit(small(partial(in_bytes, planted), tmp_path), plan)
    (tone,) = result.attributes
    assert tone.best.accuracy > 0.9
    assert result.verdict == "not_passed"
    assert {one.input for one in result.attacks} >= {"uploads", "averaged fresh uploads"}
    assert {one.uploads for one in result.compositions} >= {1, 2}
    assert result.rate_bits.max <= 384
    assert result.upload_bytes.encoding == "index of 384 bits"
    assert result.upload_bytes.mean == 48
    assert result.goal is None
    assert "one of 2^384 entries of a public book" in result.statements[0]
    assert result.information_bounds is not None
    assert 1 < result.information_bounds.total <= result.rate_bits.mean + 1
    assert (tmp_path / "report.html").exists()


def test_an_export_of_indices_is_audited_to_the_end(index_export: Path, tmp_path: Path) -> None:
    result = audit(index_export, COMPUTED, out=tmp_path)
    assert result.artifact == "int8"
    assert result.upload_bytes.encoding == "index of 700 bits"
    assert 0 < result.rate_bits.mean <= result.rate_bits.max <= 700
    assert {one.attack for one in result.attacks} >= {"posterior", "discriminant"}
