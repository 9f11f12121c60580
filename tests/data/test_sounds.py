"""Folders of recordings: the published layout, a table, class folders, and what is refused."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.audit.attack_data import Photos
from sfumato.core.errors import DataError
from sfumato.core.sound import SIZE, load_sound
from sfumato.data import Split, open_dataset
from sfumato.data.registry import load_source


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


def save(path: Path, seed: int, rate: int = 8000) -> None:
    """A short noise under an envelope, other for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    noise = random.normal(0, 3000, 1200) * np.hanning(1200) * np.sin(np.arange(1200) * random.uniform(0.2, 2))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(noise.astype("<i2").tobytes())


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """520 recordings of two digits by two speakers in the published layout."""
    folder = tmp_path / "fsdd"
    for i in range(520):
        save(folder / "recordings" / f"{i % 2 * 7}_{('ada', 'bo')[i // 2 % 2]}_{i // 4}.wav", i)
    return folder


def test_the_published_layout(spoken: Path) -> None:
    data = open_dataset(f"spoken:{spoken}", keep=["digit"], hide=["speaker"])
    assert data.sound
    assert data.size == SIZE
    assert data.spec.endswith("split=stratified"), "who speaks is hidden, so everybody is in every split"
    assert data.attributes["speaker"].classes == ("ada", "bo")
    assert data.counts("digit").tolist() == [260, 0, 0, 0, 0, 0, 0, 260, 0, 0]
    for split in Split:
        assert data.counts("speaker", split).min() > 20
    rows = np.concatenate([data.splits[split] for split in Split])
    assert len(np.unique(rows)) == len(rows) == 520
    names = load_source(f"spoken:{spoken}").pictures.names
    row = list(names).index("7_bo_3.wav")
    assert np.array_equal(data.images[row], load_sound(spoken / "recordings" / "7_bo_3.wav", *SIZE))


def test_a_size_is_bands_and_frames(spoken: Path) -> None:
    assert open_dataset(f"spoken:{spoken},size=32x48", keep=["digit"], hide=["speaker"]).size == (32, 48)
    with pytest.raises(DataError, match="80x64: a picture of sound has 64 rows at most") as refusal:
        open_dataset(f"spoken:{spoken},size=80x64", keep=["digit"])
    assert "write size=64x64" in str(refusal.value)


def test_a_table_and_class_folders(spoken: Path, tmp_path: Path) -> None:
    root = spoken / "recordings"
    names = sorted(path.name for path in root.iterdir())
    lines = [f"{name},{name[0]},{name.split('_')[1]}" for name in names]
    (root / "labels.csv").write_text("\n".join(["file,word,identity", *lines]), encoding="utf-8")
    table = open_dataset(f"sounds:{root}", keep=["word"], hide=["identity"])
    assert (table.sound, table.identity) == (True, "identity")
    assert np.array_equal(
        table.images, open_dataset(f"spoken:{spoken}", keep=["digit"], hide=["speaker"]).images
    )
    for name in names:
        target = tmp_path / "words" / ("zero", "seven")[name[0] == "7"] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / name).read_bytes())
    (tmp_path / "words" / "zero" / "cover.jpg").write_bytes(b"no recording")
    folders = open_dataset(f"sounds:{tmp_path / 'words'}", keep=["label"])
    assert folders.counts("label").tolist() == [260, 260]


def test_what_cannot_be_read_is_left_out_and_named(spoken: Path) -> None:
    root = spoken / "recordings"
    (root / "7_bo_3.wav").write_bytes(b"RIFF....WAVEcut")
    (root / "notes.wav").write_bytes(b"no name of a recording")
    data = open_dataset(f"spoken:{spoken}", keep=["digit"], hide=["speaker"])
    assert len(data) == 519
    assert data.skipped[0] == "notes.wav: not named <digit>_<speaker>_<number>.wav"
    assert "7_bo_3.wav: a damaged WAV file: no samples" in data.skipped[1]
    with pytest.raises(DataError, match="holds no recordings: spoken:PATH expects files named <digit>"):
        open_dataset(f"spoken:{spoken.parent / 'cache'}", keep=["digit"])
    with pytest.raises(DataError, match="spoken needs a folder"):
        open_dataset("spoken", keep=["digit"])


def test_words_that_rise_and_fall_alike_are_no_copies(spoken: Path) -> None:
    """By their difference hashes all 520 are one picture; equal recordings alone stay together."""
    root = spoken / "recordings"
    for number in range(40, 60):
        (root / f"7_bo_{number}.wav").write_bytes((root / "7_bo_39.wav").read_bytes())
    data = open_dataset(f"spoken:{spoken}", keep=["digit"], hide=["speaker"])
    names = list(load_source(f"spoken:{spoken}").pictures.names)
    copies = {names.index(f"7_bo_{number}.wav") for number in range(39, 60)}
    assert [bool(copies & set(data.splits[split].tolist())) for split in Split].count(True) == 1


def test_another_version_of_the_pictures_is_decoded_anew(
    spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(load_source(f"spoken:{spoken}").pictures.fingerprint())
    monkeypatch.setattr("sfumato.data.source.VERSION", 99)
    after = list(load_source(f"spoken:{spoken}").pictures.fingerprint())
    assert before[1:] == after[1:]
    assert before[0] != after[0]


def test_an_attackers_copies_of_recordings_are_shifted_and_never_mirrored() -> None:
    images = np.zeros((5, 16, 32, 3), np.uint8)
    images[:, :, 2] = 255

    def brightest(**options: bool) -> NDArray[Any]:
        found = Photos.augmented(images, np.arange(5), 6, np.random.default_rng(0), **options)
        columns: NDArray[Any] = found[np.arange(30)][:, 8, :, 0].argmax(1).reshape(6, 5)
        return columns

    assert (brightest()[1] == 29).all(), "photos are mirrored"
    places = brightest(mirror=False)
    assert (places[0] == 2).all()
    assert (places < 8).all()
    assert (places[1:] != 2).any(axis=1).all(), "every further copy holds shifted ones"


def test_the_real_set(shared_data: Path) -> None:
    folder = shared_data / "spoken_digits"
    if not folder.is_dir():
        pytest.skip("no spoken_digits")
    data = open_dataset(f"spoken:{folder},limit=600", keep=["digit"], hide=["speaker"])
    assert data.counts("digit").tolist() == [60] * 10
    assert data.counts("speaker").tolist() == [100] * 6
    assert data.skipped == ()
