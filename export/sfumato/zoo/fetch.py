"""Take one export out of a zoo: every file is compared with the index, and the folder appears when all of them are there.

    get("drawn-faces", Path("faces"))                                       # of the wheel
    get("drawn-faces", Path("faces"), source="https://models.example/zoo")  # the bytes of the wheel's index, from elsewhere
    get("large", Path("large"), source="https://models.example/zoo", public_key=Path("maker.pub"))   # the maker's own index

A transfer that breaks off leaves nothing: files are small, so it begins anew.
"""

from pathlib import Path

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import atomic_folder, check_claim
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.signing import LARGEST as LARGEST_SIGNATURE
from sfumato.runtime.signing import read_public_key
from sfumato.zoo.index import (
    FILE,
    LARGEST,
    SHIPPED,
    SIGNATURE,
    Entry,
    Index,
    check_file,
    check_index,
    parse_index,
    shipped_index,
)
from sfumato.zoo.places import FolderPlace, Place, open_place


def get(
    name: str,
    out: str | Path,
    *,
    source: str | None = None,
    public_key: Path | None = None,
    overwrite: bool = False,
) -> Entry:
    """Write an export of a zoo into a folder.

    Args:
        name: of the export.
        out: folder; it appears whole or not at all.
        source: folder or address of the zoo that has the files; None: the wheel.
        public_key: PEM file of the maker of that zoo: the index comes from there and has to carry its signature. None: the
            files have to be those of the wheel's index.
        overwrite: replace an export that is there.

    Raises:
        UsageError: a key without a source, or an address that cannot be used.
        SfumatoError: no such export, a file is missing, broken off, too large or another one, or `out` is occupied.
    """
    out = Path(out)
    check_claim(out, holds=CONTRACT, overwrite=overwrite)
    if source is None and public_key is not None:
        raise UsageError("--public-key needs --from: the wheel's own index is not signed")
    place = FolderPlace(SHIPPED) if source is None else open_place(source)
    entry = (shipped_index() if public_key is None else signed_index(place, public_key)).entry(name)
    if source is None and not (SHIPPED / name).is_dir():
        raise SfumatoError(f"{name} is not in the wheel: give --from with the folder or address that has it")
    with atomic_folder(out) as folder:
        for file in entry.files:
            content = place.read(f"{name}/{file.name}", largest=file.bytes)
            check_file(file, content, place.where(f"{name}/{file.name}"))
            path = folder / file.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    return entry


def signed_index(place: Place, public_key: Path) -> Index:
    """The index of a zoo, once its maker's signature holds.

    Raises:
        SfumatoError: as `check_index` and `parse_index`, or a file is missing.
    """
    key = read_public_key(public_key)
    content, where = place.read(FILE, largest=LARGEST), place.where(FILE)
    check_index(content, place.read(SIGNATURE, largest=LARGEST_SIGNATURE), key, where)
    return parse_index(content, where)
