"""Whose exports are these? A maker's key is remembered the first time, and demanded from then on.

A signature binds only where something outside the export knows the key. That is `--public-key`, or what was remembered when
this folder was used first, as ssh remembers hosts: a file for each folder in `~/.config/sfumato/makers`. From then on an export
there without its signature, with a stale one, or of another key is refused, by the commands and by `PhoneModel.load` alike.

    require_maker(Path("export"), Path("maker.pub"))      # checks, and remembers
    check_remembered(Path("export"))                      # checks what is remembered; nothing is written
"""

import base64
import binascii
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write, read_bytes
from sfumato.runtime.contract import FILE
from sfumato.runtime.keyed_noise import default_key_path
from sfumato.runtime.signing import (
    SIGNATURE,
    check_signature,
    is_signed,
    own_key,
    raw,
    read_public_key,
)


def maker_file(folder: Path) -> Path:
    """Where the key of the exports in this folder is remembered."""
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return default_key_path().parent / "makers" / name


def remembered_key(folder: Path) -> Ed25519PublicKey | None:
    """The key that is remembered for this folder.

    Raises:
        SfumatoError: its file is damaged.
    """
    try:
        path = maker_file(folder)
    except RuntimeError:  # there is no home folder
        return None
    if not path.exists():
        return None
    first = read_bytes(path, largest=2**16).split(maxsplit=1)[:1]
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(b"".join(first), validate=True))
    except (binascii.Error, ValueError):
        raise SfumatoError(
            f"{path} is damaged: give --public-key of the maker of {folder}, or remove it"
        ) from None


def remember(folder: Path, key: Ed25519PublicKey) -> None:
    """Demand this key for this folder from now on; where nothing can be written, a note says so."""
    line = (
        base64.b64encode(raw(key)) + b" " + str(folder.resolve()).encode("utf-8", "surrogateescape") + b"\n"
    )
    try:
        with atomic_write(maker_file(folder)) as scratch:
            scratch.write_bytes(line)
    except (OSError, RuntimeError) as error:
        note(f"the maker's key of {folder} cannot be remembered ({error}): give --public-key every time")


def forget(folder: Path) -> None:
    """Demand no key any more, since the user has made the export in this folder anew."""
    try:
        maker_file(folder).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        note(f"the maker's key of {folder} cannot be forgotten ({error})")


def fingerprint(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the raw key: for people to compare."""
    return hashlib.sha256(raw(key)).hexdigest()[:16]


def check_remembered(folder: Path) -> Ed25519PublicKey | None:
    """Check the signature against the key that is remembered for this folder.

    Returns:
        That key; None if none is remembered.

    Raises:
        SfumatoError: the signature is missing, stale, or of another key.
    """
    key = remembered_key(folder)
    if key is None:
        return None
    try:
        check_signature(folder, key)
    except SfumatoError:
        reason = (
            f"{SIGNATURE} is not that key's signature of {FILE}" if is_signed(folder) else "it is not signed"
        )
        raise SfumatoError(
            f"{folder} was signed with the key {fingerprint(key)} before, and now {reason}: do not use it. "
            "If its maker says that this is right, give --public-key"
            f" with the new key, or remove {maker_file(folder)}"
        ) from None
    return key


def require_maker(folder: Path, public_key: Path | None = None) -> Ed25519PublicKey | None:
    """Check an export's signature against the best key that is known, and remember that key.

    Args:
        folder: of the export.
        public_key: PEM file of its maker; else the key that is remembered, else the one that the export brings with it.

    Returns:
        The key; None if the export is not signed, or signed without any key: then a note warns.

    Raises:
        SfumatoError: the signature is missing where a key is known, stale, or of another key; or the key cannot be read.
    """
    if public_key is not None:
        key = read_public_key(public_key)
        check_signature(folder, key)
        remember(folder, key)
        return key
    if (known := check_remembered(folder)) is not None:
        return known
    own = own_key(folder)
    if own is not None:
        remember(folder, own)
        note(
            f"first use of {folder}: its maker's key {fingerprint(own)} is demanded from now on. Compare it with what the "
            "maker says, or give --public-key"
        )
    elif is_signed(folder):
        note(
            f"WARNING: {folder} is signed, but no key checks the signature: anybody may have changed it. Give --public-key"
        )
    return own
