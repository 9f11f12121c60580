"""`sfumato perturb`: photos in, uploads out. Only the exported files and the phone-side runtime are used.

results = perturb_files(PhoneModel.load(export), [Path("photo.jpg")], Path("uploads"), key=device_key())
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write, make_folder, write_json
from sfumato.runtime.contract import Contract
from sfumato.runtime.ledger import FILES, Draw, Ledger
from sfumato.runtime.phone_model import Encoding, PhoneModel, Upload

SCHEMA = "sfumato-upload/1"
FORMS: Mapping[Encoding, str] = {"image": "png", "word": "word"}
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


def perturb_files(
    model: PhoneModel,
    photos: Sequence[Path],
    out: Path,
    *,
    key: bytes | None,
    encoding: str | None = None,
    ledger: Ledger | None = None,
    service: str = FILES,
) -> Iterator[Perturbed]:
    """Write `NAME.upload.png`, or `NAME.upload.word`, and `NAME.upload.json` per photo into `out`; yields each as it is done.

    `encoding` is that of `PhoneModel.perturb`. Nothing of the photo's metadata reaches either file. Where there is a ledger,
    each upload is counted for `service` before it is written.

    Raises:
        SfumatoError: two photos would share a name, one cannot be read or would pass the ledger's limit; earlier ones stay
            written.
    """
    names = [photo.stem for photo in photos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SfumatoError(
            f"several photos are named {', '.join(twice)}: perturb them into different folders"
        )
    make_folder(out)  # before the ledger counts anything
    assert model.digest is not None, "a model that was loaded from an export has its contract's digest"
    for photo, name in zip(photos, names, strict=True):
        upload = model.perturb(photo, key=key, encoding=encoding)
        if ledger is not None:
            ledger.spend(service, Draw(upload.draw, upload.rate_bits))
        target = out / f"{name}.upload.{FORMS[upload.encoding]}"
        with atomic_write(target) as scratch:
            scratch.write_bytes(upload.content)
        write_json(out / f"{name}.upload.json", describe(model.contract, model.digest.hex(), upload))
        yield Perturbed(photo, target, len(upload.content), upload.rate_bits, upload.unlike)


def describe(contract: Contract, digest: str, upload: Upload) -> dict[str, Any]:
    """What a server needs to read an upload. Nothing here depends on the photo but the upload's own hash and size."""
    height, width = contract.size
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
