"""The study of still scenes: its attack against counted probabilities, and the whole of it on a small export."""

import json
from itertools import product
from math import log2
from pathlib import Path

import numpy as np
import pytest
from studies.still_scenes import Light, Received, command, errors, film, run_study, weigh, write_film

from sfumato.core.errors import UsageError
from sfumato.data import open_dataset
from sfumato.export.artifact import load_export
from sfumato.server.video import VideoConfig, _read, parse_camera


def test_films_are_still_but_for_light_noise_and_shaking() -> None:
    photo = np.full((32, 32, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    seen = np.stack(list(film(photo, 60, Light(noise=5, flicker=0, drift=0), rng))).astype(float)
    assert (seen.mean(), seen.std()) == (pytest.approx(100, abs=0.1), pytest.approx(5, abs=0.1))
    lit = np.stack(list(film(photo, 60, Light(noise=0, flicker=0.1, drift=0.1), rng))).astype(float)
    assert 110 < lit.max() <= 120
    photo[:, 16:] = 200
    shaken = np.stack(list(film(photo, 60, Light(noise=0, flicker=0, drift=0, shift=1), rng)))
    assert {int((frame[0, :, 0] == 100).sum()) for frame in shaken} == {15, 16, 17}


def test_the_attack_weighs_by_the_probability_of_all_bits() -> None:
    """Two uploads of three bits: every outcome of the sum, its probability counted over all pairs of uploads."""
    chances = np.array([[0.1, 0.5, 0.8], [0.3, 0.2, 0.8], [0.9, 0.9, 0.1]])
    bits = list(product((0, 1), repeat=3))

    def probability(upload: tuple[int, ...], candidate: int) -> float:
        return float(
            np.prod([c if bit else 1 - c for bit, c in zip(upload, chances[candidate], strict=True)])
        )

    for first, second in product(bits, bits):
        ones = np.add(first, second, dtype=np.float32)
        told = weigh(Received(np.full(3, 2), np.tile(ones, (3, 1)), np.zeros(3)), chances)
        likely = [probability(first, one) * probability(second, one) for one in range(3)]
        expected = np.mean([log2(3) + log2(one / sum(likely)) for one in likely])
        assert told.bits == pytest.approx(expected, abs=1e-5)


def test_errors_of_the_scene_key() -> None:
    photos = np.array(open_dataset("synthetic,count=800,size=32").images[:30])
    found = errors(photos, 5, 1)
    assert found["two photos"]["pairs"] == 30 * 29
    still = found["one scene, noise 6, light 10 %"]
    assert still["pairs"] == 30 * 4
    assert still["within"]["20"]["share"] == 1
    for row in found.values():
        shares = [row["within"][tolerance]["share"] for tolerance in ("5", "10", "20", "30", "40")]
        assert shares == sorted(shares)
    assert (
        found["a part of another photo, 1/2 of the side"]["within"]["20"]["share"]
        <= found["a part of another photo, 1/8 of the side"]["within"]["20"]["share"]
    )


def test_the_study_of_a_small_export(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "still.json"
    command(sealed, people=12, frames=20, seed=1, film=None, json=out)
    assert "12 still scenes" in capsys.readouterr().out
    results = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["received"]: row for row in results["rows"]}
    assert list(rows) == ["1 frame(s)", "10 frame(s)", "20 frame(s)", "scenes"]
    assert [row["uploads"] for row in rows.values()] == [1, 10, 20, 1]
    assert results["draws"] == {"mean": 1, "most": 1, "of_one": 12}
    # One draw of the same frame: the same bits may be told, to the last digit.
    assert rows["scenes"]["bits"] == rows["1 frame(s)"]["bits"]
    assert rows["20 frame(s)"]["bits"] > 15 * rows["scenes"]["bits"]
    learnt = [row["learnt"]["bits"] for row in rows.values()]
    assert learnt[2] > learnt[0]
    assert learnt[2] >= learnt[1]
    assert max(learnt) <= results["ceiling_bits"] + 1e-9


def test_a_film_is_read_as_it_was_written(tmp_path: Path) -> None:
    photo = np.array(open_dataset("synthetic,count=800,size=32").images[0])
    write_film(tmp_path / "a.mp4", photo, 20, 0)
    found = list(_read(parse_camera(f"a={tmp_path / 'a.mp4'}"), VideoConfig(every=0.1)))
    assert len(found) == 20
    assert found[0].pixels.shape == (96, 96, 3)


def test_what_the_attack_cannot_weigh_is_refused(answer_bundle: Path, sealed: Path) -> None:
    with pytest.raises(UsageError, match="two levels"):
        run_study(load_export(answer_bundle), people=2, frames=2, seed=0, watch=print)
    with pytest.raises(UsageError, match="test photos, and 2 are needed"):
        run_study(load_export(sealed), people=1, frames=2, seed=0, watch=print)
