"""Are the bytes of a zoo, or of an export that came from one, those of its index?

    for result in check():          # the wheel
        result.name, result.state, result.detail

Of a zoo also: is every figure of the index that of the audit beside it, and does no file name a place or hold a picture?
What the models do is another question, which `sfumato verify` answers.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sfumato.audit.schema import read_audit
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import is_scratch, read_inside, sha256
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.contract import read_contract
from sfumato.runtime.signing import LARGEST as LARGEST_SIGNATURE
from sfumato.runtime.signing import read_public_key
from sfumato.runtime.verification import Check, attempt
from sfumato.zoo.index import (
    FILE,
    LARGEST,
    SHIPPED,
    SIGNATURE,
    Entry,
    check_file,
    check_index,
    read_index,
    shipped_index,
)
from sfumato.zoo.packing import AUDIT, check_about, figures, refuse_private


def check(folder: str | Path = SHIPPED, *, public_key: Path | None = None) -> tuple[Check, ...]:
    """Compare a zoo with its index, or an export with that of the wheel.

    Args:
        folder: a zoo (`index.json`), or an export that `get` wrote (`contract.json`).
        public_key: PEM file of the maker of a zoo: its index has to be signed.

    Returns:
        One result for every export, and for every folder that no index names.

    Raises:
        SfumatoError: there is neither, the index is none, or an export is not of the wheel's zoo.
    """
    folder = Path(folder)
    if (folder / FILE).exists():
        if public_key is not None:
            content = read_inside(folder, FILE, largest=LARGEST)
            signature = read_inside(folder, SIGNATURE, largest=LARGEST_SIGNATURE)
            check_index(content, signature, read_public_key(public_key), str(folder / FILE))
        return tuple(_zoo(folder))
    if not (folder / CONTRACT).exists():
        raise SfumatoError(f"{folder} holds neither {FILE} of a zoo nor {CONTRACT} of an export")
    if public_key is not None:
        raise UsageError("--public-key belongs to a zoo: an export has no index of its own")
    found = (CONTRACT, sha256(folder / CONTRACT))
    for entry in shipped_index().entries:
        if found in [(file.name, file.sha256) for file in entry.files]:
            return (attempt(entry.name, partial(_bytes, folder, entry)),)
    raise SfumatoError(f"{folder} is no export of the wheel's zoo: its {CONTRACT} is not in the index")


def _zoo(zoo: Path) -> Iterator[Check]:
    entries = read_index(zoo).entries
    for entry in entries:
        yield attempt(entry.name, partial(_entry, zoo / entry.name, entry))
    named = {FILE, SIGNATURE, *(entry.name for entry in entries)}
    for path in sorted(zoo.iterdir()):
        if path.name not in named and not is_scratch(path):
            yield Check(path.name, "failed", "the index does not name it")


def _entry(folder: Path, entry: Entry) -> str:
    """Bytes, figures, and what must not be there."""
    if not folder.is_dir():
        raise SfumatoError(f"{folder} is missing")
    said = _bytes(folder, entry)
    named = {file.name for file in entry.files}
    stray = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    if more := [name for path in stray if (name := path.relative_to(folder).as_posix()) not in named]:
        raise SfumatoError(f"the index does not name {', '.join(more)}")
    audit = read_audit(folder / AUDIT)
    check_about(audit, folder, folder / AUDIT)
    if figures(read_contract(folder), audit) != entry.figures:
        raise SfumatoError(f"the figures of the index are not those of {AUDIT}")
    refuse_private(folder)
    return f"{said}, figures as in {AUDIT}"


def _bytes(folder: Path, entry: Entry) -> str:
    for file in entry.files:
        check_file(file, read_inside(folder, file.name, largest=file.bytes), str(folder / file.name))
    return f"{len(entry.files)} files, {entry.bytes:,} bytes, as in the index"
