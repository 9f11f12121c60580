"""An export inside the Android project: contract, int8 model, vectors, and a gaussian channel's or a randomised answer's table.

The app and its build read these files from `app/src/main/assets/sfumato`. What the phone does not need stays out: the cloud's
network, the other variants, and above all the maker's audit files.

    placed = place(Path("exports/gender"), Path("android_demo"))
"""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_folder, read_bytes, read_inside
from sfumato.runtime.answer import TABLE
from sfumato.runtime.contract import DIGESTS, FILE, LARGEST, Contract, read_contract, read_file
from sfumato.runtime.signing import SIGNATURE, check_digests, raw

MAKER = "maker.key"
"""The maker's raw public key in base64: with it the app demands the contract's signature."""
ASSETS = Path("app", "src", "main", "assets", "sfumato")
PROJECT = ("settings.gradle.kts", "app")
"""What a folder must hold to be the Android project."""
NEEDED = ("vectors.json", "normal_table.bin", TABLE)
"""Files that the app reads in addition to contract and model, where the export has them."""


def place(export: Path, project: Path, maker: Ed25519PublicKey | None = None, *, given: bool = False) -> Path:
    """Copy what the app needs, checked against the contract; the assets are whole or as they were.

    Args:
        export: folder of an export.
        project: the Android project, `android_demo` of the repository or a copy.
        maker: whose signature the export bears, already checked (`require_maker`): the app demands it too.
        given: the user named that key. Otherwise it must be the one that the project's assets hold, if they hold one.

    Returns:
        The folder of the assets.

    Raises:
        SfumatoError: `project` is no Android project, the export is damaged, has no int8 model or takes recordings, or it is
            not signed with the key that the app demanded so far.
    """
    require_project(project)
    assets = project / ASSETS
    line = None if maker is None else base64.b64encode(raw(maker)) + b"\n"
    before = read_bytes(assets / MAKER) if (assets / MAKER).exists() else None
    if before is not None and not given and before != line:
        raise SfumatoError(
            f"the app in {project} demands another maker's signature than {export} has: give --public-key of the right maker, "
            f"or remove {assets / MAKER} if the app shall demand none"
        )
    contract = read_contract(export)
    if contract.sound is not None:
        raise SfumatoError(
            f"{export} takes recordings, and the demo app photos alone: the Kotlin library takes both (docs/kotlin.md)"
        )
    if (export / DIGESTS).exists():
        check_digests(export)
    beside = [name for name in (DIGESTS, SIGNATURE) if (export / name).exists()]
    contents = {entry.name: read_file(export, entry) for entry in map(contract.file, needed(contract))}
    contents |= {name: read_inside(export, name, largest=LARGEST) for name in (FILE, *beside)}
    if line is not None:
        contents[MAKER] = line
    with atomic_folder(assets) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    return assets


def needed(contract: Contract) -> list[str]:
    """Names of the listed files that the app reads."""
    listed = {entry.name for entry in contract.files}
    return [contract.model("int8").file, *(name for name in NEEDED if name in listed)]


def require_project(folder: Path) -> None:
    """Refuse a folder that is not the Android project.

    Raises:
        SfumatoError: it is something else.
    """
    missing = [name for name in PROJECT if not (folder / name).exists()]
    if missing:
        raise SfumatoError(
            f"{folder} is no Android project (no {missing[0]}): give the folder android_demo of the repository or a copy"
        )
