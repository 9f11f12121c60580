"""A slice of the fuzzing (`make fuzz` runs all of it), and whether the fuzzer would notice.

`SFUMATO_FUZZ=2000` sets how many files of each kind are tried; the default keeps the tests quick.
"""

import io
import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.fuzz import bundle as fuzzing
from tests.fuzz.bundle import GOOD, KINDS, fuzz, run_case, summary
from tests.fuzz.mutation import BOMBS, ORIENTABLE, PICTURES, mutate, mutate_model, oriented, scans, scene
from tests.fuzz.running import end_all

from sfumato.core.errors import DataError, SfumatoError
from sfumato.core.image_io import read_rgb
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.verification import verify

ROUNDS = int(os.environ.get("SFUMATO_FUZZ", "60"))
KEY = bytes(32)


FILES = ("models", "networks", "contracts", "files", "pictures")


@pytest.mark.parametrize("kind", KINDS if "SFUMATO_FUZZ" in os.environ else FILES)
def test_every_file_gives_a_result_or_one_line(sealed: Path, kind: str) -> None:
    """For pictures the first cases are the bombs."""
    cases = list(fuzz(sealed, kind, range(ROUNDS), seed=1))
    assert [case.number for case in cases] == list(range(ROUNDS))
    assert [case for case in cases if case.outcome not in GOOD] == []
    assert {case.outcome for case in cases} == set(GOOD), "the mutations are too weak or too strong"
    ((_, count, *_),) = summary(cases)
    assert count == ROUNDS


@pytest.mark.parametrize("kind", ["tables", "checkpoints", "runs", "ledgers", "requests"])
def test_all_other_input_gives_a_result_or_one_line(
    sealed: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which is started already; `python -m tests.fuzz` gives each kind one of its own."""
    monkeypatch.setattr(fuzzing, "MEGABYTES", 1e9)  # it has grown with every test before
    monkeypatch.setattr("tests.fuzz.work.EPOCHS", 0.05)
    case = KINDS[kind](Path(shutil.copytree(sealed, tmp_path / "export")), 1)
    try:
        cases = [run_case(kind, number, case) for number in range(25)]
    finally:
        end_all()
    assert [case for case in cases if case.outcome not in GOOD] == []
    assert {case.outcome for case in cases} == set(GOOD), "the mutations are too weak or too strong"


def test_a_case_is_its_number(sealed: Path) -> None:
    alone = next(fuzz(sealed, "contracts", range(7, 8)))
    among = list(fuzz(sealed, "contracts", range(5, 8)))[-1]
    said = [re.sub(r"\S*/", "", case.detail) for case in (alone, among)]  # their scratch folders differ
    assert (alone.outcome, said[0]) == (among.outcome, said[1])


def test_an_export_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="cannot be read"):
        list(fuzz(tmp_path, "models", range(1)))


def test_what_goes_wrong_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> str:
        def case(number: int) -> None:
            raise error

        return run_case("models", 0, case).outcome

    # Cases run in a process of their own; this one has grown with every test before.
    monkeypatch.setattr(fuzzing, "MEGABYTES", 1e9)
    assert failing(SfumatoError("one line")) == "refused"
    assert failing(SfumatoError("two\nlines")) == "wrong"
    assert failing(SfumatoError("")) == "wrong"
    assert failing(ValueError("escaped")) == "wrong"
    assert failing(MemoryError()) == "wrong"
    assert run_case("models", 0, lambda number: None).outcome == "correct"
    monkeypatch.setattr(fuzzing, "MEGABYTES", 1.0)
    assert run_case("models", 0, lambda number: None).outcome == "too much memory"
    monkeypatch.setattr(fuzzing, "MEGABYTES", 1e9)
    monkeypatch.setattr(fuzzing, "SECONDS", -1.0)
    assert run_case("models", 0, lambda number: None).outcome == "too slow"


def test_a_process_that_dies_or_falls_silent_is_a_case(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that answers case 0, dies at 1, and hangs when it is started again at 2."""
    script = tmp_path / "python"
    answer = json.dumps({"kind": "models", "number": 0, "outcome": "refused"})
    script.write_text(
        f"#!/bin/sh\ncase \"$*\" in\n*'--first 0'*) echo '{answer}'; kill -SEGV $$;;\n*) sleep 60;;\nesac\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    monkeypatch.setattr(fuzzing, "PATIENCE", 2.0)
    cases = list(fuzz(sealed, "models", range(3)))
    assert [(case.number, case.outcome) for case in cases] == [(0, "refused"), (1, "crash"), (2, "hang")]
    assert cases[1].detail == "the process ended with code -11"
    assert summary(cases)[0][:5] == ("models", 3, 0, 1, 2)


def test_mutated_models_are_told_by_their_hash(bundle: Path) -> None:
    """Before anything reads them."""
    path = bundle / "local_int8.tflite"
    content, rng = path.read_bytes(), random.Random(3)
    for _ in range(ROUNDS):
        changed = mutate_model(content, rng)
        path.write_bytes(changed)
        if changed != content:
            with pytest.raises(SfumatoError, match=r"sha256 differs|the contract says"):
                PhoneModel.load(bundle)
    path.write_bytes(mutate(content, random.Random(4)))
    assert not verify(bundle).passed


@pytest.mark.parametrize("kind", PICTURES)
def test_sound_pictures_of_every_kind_become_uploads(sealed: Path, kind: str) -> None:
    model, content = PhoneModel.load(sealed), PICTURES[kind](scene(random.Random(kind)))
    if kind == "float tiff":
        with pytest.raises(DataError, match="floating-point"):
            model.perturb(content, key=KEY)
    else:
        assert model.perturb(content, key=KEY).levels.shape == (32, 32, 3)


@pytest.mark.parametrize("kind", ORIENTABLE)
@pytest.mark.parametrize("orientation", [0, 3, 6, 8, 11])
def test_orientations_turn_the_picture(kind: str, orientation: int) -> None:
    picture = scene(random.Random(5))
    upright = read_rgb(PICTURES[kind](picture))
    turned = read_rgb(oriented(PICTURES[kind](picture), orientation))
    height, width = upright.shape[:2]
    assert turned.shape[:2] == ((width, height) if orientation in (6, 8) else (height, width))


def test_large_pictures_are_converted_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of one row, of a few, and the whole picture at once give the same pixels."""
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (37, 23, 4), dtype=np.uint8)).save(stream, "PNG")
    whole = read_rgb(stream.getvalue())
    for band in (1, 100, 23 * 36):
        monkeypatch.setattr("sfumato.core.image_io.BAND", band)
        assert np.array_equal(read_rgb(stream.getvalue()), whole)


def test_what_would_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BOMBS) == 8
    with pytest.raises(DataError, match=r"in 1\d\d\d scans takes too long"):
        read_rgb(scans(1000))
    monkeypatch.setattr("sfumato.core.picture_file.MAX_DECODED", 99)
    with pytest.raises(DataError, match="10 x 10 pixels to decode, more than the 99 allowed"):
        read_rgb(PICTURES["png"](Image.new("RGB", (10, 10))))
