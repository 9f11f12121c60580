"""The likelihoods against counting noise bytes, the posterior against known answers, and the study on two small exports."""

import json
from dataclasses import replace
from itertools import product
from math import log, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from studies.two_uploads import likelihood
from studies.two_uploads.__main__ import command
from studies.two_uploads.last_epoch import last_epoch
from studies.two_uploads.study import run_study
from tests.fixtures.runs import build_run

from sfumato.core.errors import SfumatoError
from sfumato.data.intervals import wilson
from sfumato.export.artifact import ExportArtifact, load_export
from sfumato.export.pipeline import export
from sfumato.runtime.contract import ChannelPart
from sfumato.training import checkpoint

Q1 = np.array([[3, 200, 77], [0, 255, 128], [90, 90, 90]], np.uint8)
Q2 = np.array([[9, 120, 77], [1, 0, 128], [90, 91, 90]], np.uint8)
ALL = [np.array(bits, bool)[None] for bits in product((0, 1), repeat=3)]


def counted(first: NDArray[np.bool_], second: NDArray[np.bool_], q1: NDArray[Any], q2: NDArray[Any]) -> float:
    """Probability of a pair of uploads from common noise, by trying every noise byte."""
    chance = 1.0
    for b1, b2, one, two in zip(first[0], second[0], q1, q2, strict=True):
        chance *= sum((u < one) == b1 and (u < two) == b2 for u in range(256)) / 256
    return chance


def close(found: float, chance: float, coins: int) -> bool:
    """A log likelihood relative to `coins` fair coins is that of a probability."""
    if chance == 0:
        return found < -1e5
    return bool(abs(found - coins * log(2) - log(chance)) < 1e-4)


@pytest.mark.parametrize("candidate", range(3))
def test_likelihoods_are_probabilities_counted_by_hand(candidate: int) -> None:
    q1, q2 = Q1[candidate], Q2[candidate]
    for first, second in product(ALL, ALL):
        both = counted(first, second, q1, q2)
        one, two = counted(first, first, q1, q1), counted(second, second, q2, q2)
        assert close(likelihood.one_upload(first, Q1)[0, candidate], one, 3)
        assert close(likelihood.common(first, second, Q1, Q2)[0, candidate], both, 3)
        assert close(likelihood.independent(first, second, Q1, Q2)[0, candidate], one * two, 6)


def test_under_version_2_equal_parameters_give_one_upload_and_others_two() -> None:
    """Candidate 0 has equal parameters in both kinds of arithmetic; the others have not."""
    q2 = Q2.copy()
    q2[0] = Q1[0]
    for first, second in product(ALL, ALL):
        found = likelihood.version_2(first, second, Q1, q2, one_contract=True)[0]
        once = counted(first, first, Q1[0], Q1[0]) if np.array_equal(first, second) else 0.0
        assert close(found[0], once, 3)
        for i in (1, 2):
            chance = counted(first, first, Q1[i], Q1[i]) * counted(second, second, q2[i], q2[i])
            assert close(found[i], chance, 3)
        apart = likelihood.version_2(first, second, Q1, q2, one_contract=False)[0]
        chance = counted(first, first, Q1[0], Q1[0]) * counted(second, second, Q1[0], Q1[0])
        assert close(apart[0], chance, 3)


def test_what_was_learnt_has_known_ends() -> None:
    nothing = likelihood.learnt(np.zeros((8, 8)))
    assert (nothing.bits, nothing.first) == (0, 1 / 8)
    everything = likelihood.learnt(np.where(np.eye(8) == 1, 0, likelihood.IMPOSSIBLE))
    assert (everything.bits, everything.first, everything.largest_bits) == (3, 1, 3)
    # The true photo is three times as likely as each of the three others.
    some = likelihood.learnt(np.eye(4) * log(3))
    assert some.bits == pytest.approx(log2(4 * 3 / 6))
    low, high = wilson(0.2 * 50, 50)
    assert 0.1 < low < 0.2 < high < 0.35


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportArtifact, ExportArtifact]:
    """One run, and the same with its heads moved a little."""
    folder = tmp_path_factory.mktemp("releases")
    first, second = build_run("dither"), build_run("dither")
    with torch.no_grad():
        for head in second.local.heads.values():
            for weight in head.parameters():
                weight.mul_(1.03)
    export(first, folder / "a", variants=("int8", "float32"), tune="never")
    export(second, folder / "b", variants=("int8",), tune="never")
    return load_export(folder / "a"), load_export(folder / "b")


@pytest.mark.slow
def test_the_study_tells_the_rules_apart(
    releases: tuple[ExportArtifact, ExportArtifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = releases
    out = tmp_path / "two.json"
    command(one.folder, two.folder, photos=60, seed=1, json=out)
    assert "two releases" in capsys.readouterr().out
    results = json.loads(out.read_text(encoding="utf-8"))
    rows = {(row["seen"], row["noise"]): row for row in results["rows"]}
    seen = ["two releases", "two services, one model", "int8, XNNPACK and int8, plain kernels"]
    seen.append("int8, XNNPACK and float32")
    assert set(rows) == {("one upload", None)} | set(product(seen, ("version 1", "version 2", "independent")))
    bits = {key: row["learnt"]["bits"] for key, row in rows.items()}
    assert max(bits.values()) <= results["ceiling_bits"] + 1e-9
    # One model in two services: the same upload twice under version 1, two draws under version 2.
    assert rows["two services, one model", "version 1"]["equal"] == 1
    assert rows["two services, one model", "version 2"]["equal"] == 0
    assert bits["two services, one model", "version 1"] <= bits["two services, one model", "version 2"] + 0.5
    assert rows["two releases", "version 2"]["equal"] == 0
    differ = results["photos_whose_parameters_differ"]
    assert differ["two releases"] == 1
    assert rows["int8, XNNPACK and float32", "version 2"]["equal"] == pytest.approx(1 - differ["float32"])


def test_the_last_epoch_of_a_run_is_its_second_release(tmp_path: Path) -> None:
    run = replace(build_run("dither"), folder=tmp_path)
    with pytest.raises(SfumatoError, match="has no checkpoint"):
        last_epoch(run)
    networks = {"local": run.local, "cloud": run.cloud}
    best = {
        f"{part}.{name}": value for part, net in networks.items() for name, value in net.state_dict().items()
    }
    checkpoint.save(tmp_path / "checkpoint", 1, {"model": best})
    with pytest.raises(SfumatoError, match="is its best one"):
        last_epoch(run)
    moved = {name: value * 1.5 if value.is_floating_point() else value for name, value in best.items()}
    checkpoint.save(tmp_path / "checkpoint", 2, {"model": moved})
    later = last_epoch(run)
    for part, net in {"local": later.local, "cloud": later.cloud}.items():
        assert all(torch.equal(value, moved[f"{part}.{name}"]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, best[f"local.{name}"]) for name, value in run.local.state_dict().items())
    assert not torch.equal(best["local.encoder.stem.0.weight"], moved["local.encoder.stem.0.weight"])


def test_exports_that_cannot_be_compared_are_refused(sealed: Path) -> None:
    one, two = load_export(sealed), load_export(sealed)
    with pytest.raises(SfumatoError, match="test photos, and 2 are needed"):
        run_study(one, two, photos=1, seed=0)
    with pytest.raises(SfumatoError, match="test photos, and 2 are needed"):
        run_study(one, two, photos=10**6, seed=0)
    gaussian = ChannelPart(name="gaussian", additive=True, largest_scale=1.0, reference_scale=1.0)
    other = replace(one, contract=one.contract.model_copy(update={"channel": gaussian}))
    with pytest.raises(SfumatoError, match="same data set and channel"):
        run_study(one, other, photos=9, seed=0)
    with pytest.raises(SfumatoError, match="for dither, not for gaussian"):
        run_study(other, other, photos=9, seed=0)
