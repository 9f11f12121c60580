"""Recordings: a folder laid out as `folder:` has pictures, and the Free Spoken Digit Dataset.

A network sees the picture that `sfumato.core.sound` computes from a WAV file: rows are mel bands, at most 64, and columns are
frames. `sounds:PATH` reads a `labels.csv` whose column `file` names WAV files, or one folder of them for every class, as
Speech Commands has it. `spoken:PATH` reads files named `<digit>_<speaker>_<number>.wav` (Jackson et al., 2016), in the folder
or in `recordings/` below it.

Usage: `sfumato data inspect spoken:spoken_digits --keep digit --hide speaker`
"""

import re
from dataclasses import replace

import numpy as np

from sfumato.core.errors import DataError
from sfumato.core.sound import MOST_BANDS, SIZE
from sfumato.core.wav_file import SUFFIX
from sfumato.data.dataset import Attribute
from sfumato.data.loaders.folder import load_folder
from sfumato.data.source import SoundFiles, Source, folder_of
from sfumato.data.spec import Spec

DIGIT = Attribute(name="digit", classes=tuple("0123456789"))
SPEAKER = "speaker"
_NAME = re.compile(r"([0-9])_([A-Za-z0-9-]+)_([0-9]+)\.wav")
_EXPECTED = "files named <digit>_<speaker>_<number>.wav, there or in recordings/"


def load_sounds(spec: Spec) -> Source:
    """The table or the folders of `folder:`, with WAV files in place of pictures."""
    _check_bands(spec)
    found = load_folder(spec, suffixes=(SUFFIX,))
    pictures = SoundFiles(root=folder_of(spec.path, spec.kind, ""), names=found.pictures.names)
    return replace(found, pictures=pictures, size=SIZE, sound=True)


def load_spoken(spec: Spec) -> Source:
    """`digit` (10 classes) and `speaker`, who is the identity: persons are in every split where `speaker` is kept or hidden."""
    _check_bands(spec)
    folder = folder_of(spec.path, spec.kind, _EXPECTED)
    inner = folder / "recordings"
    root = inner if inner.is_dir() else folder
    named = {path.name: _NAME.fullmatch(path.name) for path in sorted(root.glob("*" + SUFFIX))}
    found = {name: match.groups() for name, match in named.items() if match}
    if not found:
        raise DataError(f"{root} holds no recordings: {spec.kind}:PATH expects {_EXPECTED}")
    speakers = tuple(sorted({speaker for _, speaker, _ in found.values()}))
    labels = [(int(digit), speakers.index(speaker)) for digit, speaker, _ in found.values()]
    digits, persons = np.array(labels, dtype=np.int64).T.copy()
    return Source(
        pictures=SoundFiles(root=root, names=list(found)),
        attributes=(DIGIT, Attribute(name=SPEAKER, classes=speakers)),
        labels={DIGIT.name: digits, SPEAKER: persons},
        size=SIZE,
        identity=SPEAKER,
        skipped=tuple(
            f"{name}: not named <digit>_<speaker>_<number>.wav" for name in named if name not in found
        ),
        sound=True,
    )


def _check_bands(spec: Spec) -> None:
    if spec.size is not None and spec.size[0] > MOST_BANDS:
        raise DataError(
            f"size={spec.size[0]}x{spec.size[1]}: a picture of sound has {MOST_BANDS} rows at most, one a mel band; "
            f"write size={MOST_BANDS}x{spec.size[1]}"
        )
