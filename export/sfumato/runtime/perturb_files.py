"""`sfumato perturb`: photos in, uploads out. Only the exported files and the phone-side runtime are used.

results = perturb_files(PhoneModel.load(export), [Path("photo.jpg"), Path("album")], Path("uploads"), key=key)
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.core.errors import DataError, SfumatoError
from sfumato.core.files import atomic_write, check_place, write_json
from sfumato.core.image_io import SUFFIXES
from sfumato.runtime.contract import Contract
from sfumato.runtime.ledger import FILES, Draw, Ledger
from sfumato.runtime.phone_model import Encoding, PhoneModel, Upload

SCHEMA = "sfumato-upload/1"
FORMS: Mapping[Encoding, str] = {"image": "png", "word": "word", "index": "index"}
"""Encoding -> what the file beside calls it, and the ending of the upload's file."""


@dataclass(frozen=True)
class Perturbed:
    """One photo and its upload."""

    source: Path
    upload: Path
    bytes: int
    rate_bits: float
    """Shown to the user only: it depends on the photo, so it is not written into the upload's files."""
    unlike: bool | None = None
    """As in `Upload`; the same holds for it."""
    strength: int | None = None
    """As in `Upload`."""


def perturb_files(
    model: PhoneModel,
    photos: Sequence[Path],
    out: Path,
    *,
    key: bytes | None,
    encoding: str | None = None,
    strength: int | None = None,
    ledger: Ledger | None = None,
    service: str = FILES,
    overwrite: bool = False,
    on_error: Callable[[Path, DataError], None] | None = None,
) -> Iterator[Perturbed]:
    """Write `NAME.upload.png`, `.word` or `.index`, and `NAME.upload.json` per photo into `out`; yields each as it is done.

    `encoding` and `strength` are those of `PhoneModel.perturb`. Nothing of the photo's metadata reaches either file. Where
    there is a ledger, each upload is counted for `service` before it is written. `photos` and names are those of `uploads_of`.
    `on_error` is told of a photo that cannot be read, and the others are done; without it the first such photo ends the batch.

    Raises:
        SfumatoError: two photos would share a name, or an upload of that name is there without `overwrite`: nothing is
            written. One cannot be read or would pass the ledger's limit: earlier ones stay written.
    """
    names = uploads_of(photos, out, model.suffixes)
    check_place(out)  # before the ledger counts anything
    there = [path for name in names.values() for path in _files_of(out, name) if os.path.lexists(path)]
    if there and not overwrite:
        raise SfumatoError(f"{there[0]} is there already: choose another --out, or pass --overwrite")
    assert model.digest is not None, "a model that was loaded from an export has its contract's digest"
    for photo, name in names.items():
        try:
            upload = model.perturb(photo, key=key, encoding=encoding, strength=strength)
        except DataError as error:
            if on_error is None:
                raise
            on_error(photo, error)
            continue
        if ledger is not None:
            ledger.spend(service, Draw(upload.draw, upload.rate_bits))
        target = out / f"{name}.upload.{FORMS[upload.encoding]}"
        for other in _files_of(out, name):
            if other != target:
                other.unlink(missing_ok=True)  # what describes an upload never lies beside another
        try:
            with atomic_write(target) as scratch:
                scratch.write_bytes(upload.content)
            write_json(out / f"{name}.upload.json", describe(model.contract, model.digest.hex(), upload))
        except BaseException:
            target.unlink(missing_ok=True)  # without the file that describes it an upload is half written
            raise
        yield Perturbed(photo, target, len(upload.content), upload.rate_bits, upload.unlike, upload.strength)


def _files_of(out: Path, name: str) -> list[Path]:
    """Every file that an upload of this name may have, in any encoding."""
    return [out / f"{name}.upload.{ending}" for ending in (*FORMS.values(), "json")]


def uploads_of(photos: Sequence[Path], out: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[Path, str]:
    """The photos, and the name below `out` of each one's upload.

    A folder stands for the pictures in it and below it, as their endings (`suffixes`) tell, except hidden ones and uploads;
    their places below it are kept. Photos of one folder that differ in their ending alone keep it: `a.jpg.upload.png`.

    Raises:
        SfumatoError: there is no photo, or two would still share a name, on a file system that ignores case too.
    """
    found: dict[Path, Path] = {}  # photo -> its place below `out`
    for given in photos:
        if not given.is_dir():
            found.setdefault(given, Path(given.name))
            continue
        inside = [path for path in sorted(given.rglob("*")) if _is_photo(path, given, out, suffixes)]
        if not inside:
            kind = "pictures" if len(suffixes) > 1 else f"{suffixes[0]} files"
            raise SfumatoError(f"{given} holds no {kind}")
        for path in inside:
            found.setdefault(path, path.relative_to(given))
    if not found:
        raise SfumatoError("no photos: give files or folders")
    short = {photo: str(place.with_suffix("")) for photo, place in found.items()}
    twice = _repeated(short.values())
    names = {p: str(found[p]) if _folded(name) in twice else name for p, name in short.items()}
    if still := _repeated(names.values()):
        first = next(name for name in names.values() if _folded(name) in still)
        raise SfumatoError(f"several photos are named {first}: perturb them into different folders")
    return names


def _is_photo(path: Path, folder: Path, out: Path, suffixes: Sequence[str]) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    ours = ".upload." in path.name or out.resolve() in path.resolve().parents
    return path.suffix.lower() in suffixes and path.is_file() and not hidden and not ours


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _repeated(names: Iterable[str]) -> set[str]:
    return {name for name, times in Counter(map(_folded, names)).items() if times > 1}


def describe(contract: Contract, digest: str, upload: Upload) -> dict[str, Any]:
    """What a server needs to read an upload. Nothing here depends on the photo but the upload's own hash and size."""
    height, width = contract.upload_size
    return {
        "schema": SCHEMA,
        "contract": digest,
        "channel": contract.channel.name,
        "bits": contract.channel.bits,
        "height": height,
        "width": width,
        "encoding": FORMS[upload.encoding],
        "sampler": contract.sampler,
        "noise": contract.noise if upload.keyed else "fresh",
        "sha256": hashlib.sha256(upload.content).hexdigest(),
        "bytes": len(upload.content),
    }
