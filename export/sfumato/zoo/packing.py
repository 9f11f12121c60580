"""Put an export and its audit into a zoo: copy what ships, refuse what must not, copy the figures, write the index.

    entry = pack(recipe, export, audit.json, zoo)

A zoo goes to strangers. No photo and no recording is in an export; here that is looked for once more, and so are places of the
machine that made it: paths stand in configurations, in audits and in the comments that exporters leave in networks.
"""

import json
import re
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sfumato.audit.schema import Audit, read_audit
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import atomic_folder, make_folder, parse_json, sha256, write_json
from sfumato.runtime import test_vectors
from sfumato.runtime.contract import DIGESTS, Contract, read_contract, read_file
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.signing import PUBLIC
from sfumato.runtime.signing import SIGNATURE as CONTRACT_SIGNATURE
from sfumato.zoo.index import (
    FILE,
    SIGNATURE,
    DataNote,
    Entry,
    Figures,
    Hidden,
    Index,
    Kept,
    ShippedFile,
    read_index,
    sign_index,
)
from sfumato.zoo.recipes import Recipe

AUDIT, LICENCE = "audit.json", "licence.md"
VERSIONS = ("torch", "tensorflow", "onnx", "ai-edge-litert", "numpy")
"""Packages that the index names; contract.json and audit.json have all."""
PLACES = re.compile(
    rb"(?<![\w./~-])(?:file:/|/(?:home|Users|root|tmp|var|work|mnt|opt|srv|usr|private|media|data)/|[A-Za-z]:\\{1,2}\w)[\w./\\-]{2,}"
)
"""An absolute path as it stands in a text; in an address a host stands before it."""
MEDIA = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"OggS", b"fLaC", b"ID3", b"II*\0", b"MM\0*")
"""How files of pictures and sound begin."""
ENCODED = re.compile(rb"(?:\"|,)(?:/9j/4|iVBORw0KGgo|UklGR|R0lGOD)")
"""How they begin in base64, inside a JSON text."""


def pack(
    recipe: Recipe, bundle: Path, audit_file: Path, zoo: Path, *, signer: Ed25519PrivateKey | None = None
) -> Entry:
    """Add an export to a zoo, or replace the one of its name.

    Args:
        recipe: that made it.
        bundle: the export with all its files.
        audit_file: of this very export.
        zoo: a folder with `index.json`, or one that is made.
        signer: signs the index.

    Raises:
        UsageError: the zoo is signed, and there is no key to sign it again.
        SfumatoError: a file is missing or not what the contract says, the audit is of another export, or something must not
            leave this machine.
    """
    make_folder(zoo)
    if signer is None and (zoo / SIGNATURE).exists():
        raise UsageError(f"{zoo} is signed: give --sign-with, so that its index can be signed again")
    before = read_index(zoo).entries if (zoo / FILE).exists() else ()
    contract, audit = read_contract(bundle), read_audit(audit_file)
    check_about(audit, bundle, audit_file)
    listed = [file.name for file in contract.files]
    for file in contract.files:
        read_file(bundle, file)
    beside = [name for name in (CONTRACT, DIGESTS, CONTRACT_SIGNATURE, PUBLIC) if (bundle / name).exists()]
    with atomic_folder(zoo / recipe.name) as folder:
        for name in (*listed, *beside):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle / name, folder / name)
        shutil.copyfile(audit_file, folder / AUDIT)
        (folder / LICENCE).write_text(licence_text(recipe), encoding="utf-8")
        refuse_private(folder)
        entry = describe(recipe, folder)
    entries = sorted((entry, *(one for one in before if one.name != entry.name)), key=lambda one: one.name)
    write_json(zoo / FILE, Index(schema="sfumato-zoo/1", entries=tuple(entries)).to_json())
    if signer is not None:
        sign_index(zoo, signer)
    return entry


def check_about(audit: Audit, bundle: Path, audit_file: Path) -> None:
    """Refuse an audit of something else.

    Raises:
        SfumatoError: it does not name the contract of this export by its SHA-256.
    """
    if audit.basis is None or audit.basis.files.get(CONTRACT) != sha256(bundle / CONTRACT):
        raise SfumatoError(f"{audit_file} is not an audit of {bundle}: audit it again")


def describe(recipe: Recipe, folder: Path) -> Entry:
    """The entry of an export that lies in a zoo's folder."""
    contract, audit = read_contract(folder), read_audit(folder / AUDIT)
    made = contract.provenance
    packages = made.get("packages", {})
    return Entry(
        name=recipe.name,
        question=recipe.question,
        takes=recipe.takes,
        mode=contract.mode,
        data=DataNote(
            title=recipe.title,
            spec=audit.data_spec,
            digest=audit.basis.data if audit.basis is not None else "",
            licence=recipe.licence,
            source=recipe.source,
        ),
        licence=recipe.networks,
        command=recipe.command,
        versions={name: made.get(name) for name in ("sfumato", "python", "git_commit")}
        | {name: packages[name] for name in VERSIONS if name in packages},
        figures=figures(contract, audit),
        files=tuple(shipped_files(folder)),
    )


def shipped_files(folder: Path) -> list[ShippedFile]:
    """Every file of a folder, by name."""
    return [
        ShippedFile(name=path.relative_to(folder).as_posix(), sha256=sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def figures(contract: Contract, audit: Audit) -> Figures:
    """What an index says of an export, from its contract and its audit alone."""
    kept = tuple(
        Kept(
            name=one.name,
            classes=one.classes,
            accuracy=one.accuracy,
            ci95=one.ci95,
            clean_accuracy=one.clean_accuracy,
        )
        for one in audit.desired
    )
    counted = [
        Hidden(
            name=one.attribute,
            declared=one.declared,
            floor=one.floor,
            accuracy=one.accuracy,
            auc=one.auc,
            gain_at_most=None if one.worst is None else one.worst.upper,
        )
        for one in audit.exact
    ]
    attacked = [
        Hidden(
            name=one.name,
            declared=one.declared,
            floor=one.label_only,
            accuracy=one.best.accuracy,
            auc=one.best.auc,
            gain_at_most=None if one.worst is None else one.worst.upper,
        )
        for one in audit.attributes
    ]
    bounds = audit.information_bounds
    int8 = next((file.bytes for file in contract.files if file.name == contract.model("int8").file), 0)
    return Figures(
        test=audit.n_test,
        kept=kept,
        hidden=(*counted, *attacked),
        plan=audit.plan,
        verdict=audit.verdict,
        reasons=audit.reasons,
        upload_bytes=audit.upload_bytes.mean,
        bits_at_most=audit.rate_bits.max if bounds is None else bounds.tightest,
        model_bytes=int8,
        parameters=contract.cost["parameters"],
        macs=contract.cost["macs"],
    )


def licence_text(recipe: Recipe) -> str:
    """What stands beside the files: whose data they were made from, and on what terms."""
    return (
        f"# {recipe.name}\n\n"
        f"The networks are under {recipe.networks}. They were trained on:\n\n"
        f"- data: {recipe.title}\n- licence: {recipe.licence}\n- source: {recipe.source}\n\n"
        f"No {recipe.takes} of them is in this folder: weights, class names, counts and averages are.\n\n"
        f"Made by `{recipe.command}`.\n"
    )


def refuse_private(folder: Path) -> None:
    """Refuse files that name places of this machine, or that are pictures or recordings.

    Raises:
        SfumatoError: the first such file, and what was found.
    """
    homes = {str(path).encode() for path in (Path.home(), Path.cwd()) if len(path.parts) > 2}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        content, name = path.read_bytes(), path.relative_to(folder).as_posix()
        place = next((home for home in homes if home in content), None)
        if place is None and (found := PLACES.search(content)):
            place = found[0]
        if place is not None:
            raise SfumatoError(f"{name} names a place of this machine: {place.decode(errors='replace')}")
        if content.startswith(MEDIA):
            raise SfumatoError(f"{name} is a picture or a recording: it does not ship")
        if path.suffix == ".json" and ENCODED.search(without_formulas(name, content)):
            raise SfumatoError(f"{name} holds a picture or a recording: it does not ship")


def without_formulas(name: str, content: bytes) -> bytes:
    """A JSON file to be searched: the recordings of vectors.json are made by formulas, and left out where they are those."""
    if name != test_vectors.FILE:
        return content
    values = parse_json(content, name)
    if isinstance(values, dict) and values.get("sound") == test_vectors.sound_cases():
        del values["sound"]
    return json.dumps(values).encode()
