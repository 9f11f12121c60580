"""A bundle that takes recordings: its contract, its vectors, and what `sfumato perturb` makes of a WAV file."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_perturb import run
from tests.fixtures.sounds import recordings
from tests.runtime.test_contract import answer, read

from sfumato.core.errors import DataError, SfumatoError
from sfumato.core.files import read_json
from sfumato.core.sound import load_sound
from sfumato.export.bundle import describe_run
from sfumato.runtime import test_vectors
from sfumato.runtime.contract import SoundPart
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import check_vectors
from sfumato.training.run import Run

KEY = bytes(range(32))


def test_a_contract_says_how_sound_becomes_a_picture() -> None:
    contract = read({**answer(), "sound": SoundPart().model_dump()})
    assert contract.sound == SoundPart()
    assert json.loads(contract.to_json())["sound"] == {
        "version": 1,
        "rate": 8000,
        "window": 256,
        "hop": 96,
        "lowest": 6,
        "steps": 10,
        "quietest": 256,
    }
    assert "sound" not in json.loads(read(answer()).to_json())


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"rate": 16000}, {"hop": 128}, {"lowest": 5}, {"quietest": 1}, {"more": 1}]
)
def test_another_recipe_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SfumatoError, match="sound"):
        read({**answer(), "sound": {**SoundPart().model_dump(), **change}})


def test_more_bands_than_there_can_be_are_refused() -> None:
    values: dict[str, Any] = {**answer(), "sound": {}}
    values["input"]["shape"][1], values["upload"]["height"] = 80, 240
    with pytest.raises(SfumatoError, match="64 rows at most, not 80"):
        read(values)


def test_a_run_on_recordings_ships_the_recipe(dither_run: Run, tmp_path: Path) -> None:
    assert describe_run(dither_run, tmp_path)["sound"] is None
    heard = replace(dither_run, dataset=replace(dither_run.dataset, sound=True))
    assert describe_run(heard, tmp_path)["sound"] == SoundPart()


def test_files_are_recordings(sound_export: Path, tmp_path: Path) -> None:
    phone, content = PhoneModel.load(sound_export), recordings(3)[2]
    (tmp_path / "word.wav").write_bytes(content)
    upload = phone.perturb(tmp_path / "word.wav", key=KEY)
    pixels = load_sound(content, *phone.contract.size)
    for same in (content, pixels):
        again = phone.perturb(same, key=KEY)
        assert (again.content, again.draw) == (upload.content, upload.draw)
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo\.png: not a WAV file"):
        phone.perturb(tmp_path / "photo.png", key=KEY)
    with pytest.raises(SfumatoError, match="takes recordings: give a WAV file"):
        phone.perturb(Image.new("RGB", (40, 40)), key=KEY)


def test_the_command_takes_files_and_folders_of_them(sound_export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    for number, content in enumerate(recordings(4)):
        (folder / f"{number}.wav").write_bytes(content)
    (folder / "3.wav").write_bytes(b"RIFFcut")
    Image.new("RGB", (40, 40)).save(folder / "cover.png")
    key = tmp_path / "device.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    done = run(
        sound_export,
        folder,
        "--out",
        tmp_path / "out",
        "--key",
        key,
        "--ledger",
        tmp_path / "l",
        "--json",
        "--skip-errors",
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [Path(one["source"]).name for one in told["uploads"]] == ["0.wav", "1.wav", "2.wav"]
    assert "not a WAV file" in told["skipped"][0]["reason"]
    beside = read_json(tmp_path / "out" / "0.upload.json")
    assert (beside["encoding"], beside["bytes"]) == ("word", 1)
    shutil.rmtree(folder)
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "cover.png")
    refused = run(sound_export, folder, "--out", tmp_path / "none", "--key", key)
    assert str(refused.exception) == f"{folder} holds no .wav files"


def test_vectors_hold_recordings_and_a_wrong_byte_is_found(
    sound_export: Path, answer_export: Callable[[bool], Path]
) -> None:
    model, vectors = PhoneModel.load(sound_export), read_json(sound_export / test_vectors.FILE)
    assert check_vectors(vectors, model) == []
    assert len(vectors["sound"]) == 7
    vectors["sound"][2]["picture"] = vectors["sound"][0]["picture"]
    assert check_vectors(vectors, model) == ["sound: differs from vectors.json"]
    photos = answer_export(False)
    assert "sound" not in read_json(photos / test_vectors.FILE)


def test_the_vectors_reach_every_part_of_a_picture() -> None:
    """Bright, faint and black pictures, and ones that no two steps of the recipe could both leave alone."""
    pictures = {
        case["name"]: np.frombuffer(base64.b64decode(case["picture"]), np.uint8)
        for case in test_vectors.sound_cases()
    }
    assert not pictures["silence"].any()
    assert all(picture.max() > 150 for name, picture in pictures.items() if name != "silence")
    assert len({picture.tobytes() for picture in pictures.values()}) == 7
