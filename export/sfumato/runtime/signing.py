"""Is this the contract that was written, and who wrote it? A digest and an Ed25519 signature over contract.json.

contract.json names every other file by its sha256; `contract.sha256` names contract.json (and contract.sig), in the form that
`sha256sum -c` reads. It finds accidents and hand edits, not a forger, who can write it anew: that is what a signature is for.

The signature lies beside the contract as `contract.sig`: 64 bytes in base64. The public key lies there too, `contract.pub`: it
tells a stale signature from a whole one, and is what `sfumato.runtime.makers` remembers. It says nothing about who signed.
Keys are PEM files as OpenSSL makes them:

    openssl genpkey -algorithm ed25519 -out maker.pem
    openssl pkey -in maker.pem -pubout -out maker.pub

    sign(folder, Path("maker.pem"));  check_signature(folder, Path("maker.pub"))
"""

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write, read_bytes, read_inside
from sfumato.core.private import open_to_others
from sfumato.runtime.contract import DIGESTS, FILE, check_sealed, digest_line

SIGNATURE = "contract.sig"
PUBLIC = "contract.pub"
LARGEST = 2**20
CONTEXT = b"sfumato-contract-signature-v1\0"
"""Put before the contract's bytes, so that the signature can be taken for nothing else."""


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """An unencrypted Ed25519 private key in PEM form.

    Raises:
        SfumatoError: missing, encrypted, or a key of another kind.
    """
    try:
        key = load_pem_private_key(read_bytes(path, largest=LARGEST), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SfumatoError(
            f"{path} is no unencrypted Ed25519 private key: openssl genpkey -algorithm ed25519 -out {path.name}"
        )
    if open_to_others(path):
        note(f"others can read the private key {path}: chmod 600 {path}")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """An Ed25519 public key in PEM form.

    Raises:
        SfumatoError: missing, or a key of another kind.
    """
    return parse_public_key(read_bytes(path, largest=LARGEST), path)


def parse_public_key(content: bytes, path: Path) -> Ed25519PublicKey:
    """The key in the bytes of a PEM file; errors as `read_public_key`."""
    try:
        key = load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SfumatoError(
            f"{path} is no Ed25519 public key: openssl pkey -in PRIVATE -pubout -out {path.name}"
        )
    return key


def raw(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def signature_line(key: Ed25519PrivateKey, context: bytes, content: bytes) -> bytes:
    """A signature as it is written into a file. `context` keeps it from being taken for one of another kind of file."""
    return base64.b64encode(key.sign(context + content)) + b"\n"


def holds(key: Ed25519PublicKey, context: bytes, content: bytes, line: bytes) -> bool:
    """Whether a line of `signature_line` is this key's of this content."""
    try:
        key.verify(base64.b64decode(line.strip(), validate=True), context + content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    """Sign the contract in `folder` and put the public key beside it; the digests are written anew."""
    line = signature_line(key, CONTEXT, (folder / FILE).read_bytes())
    with atomic_write(folder / SIGNATURE) as scratch:
        scratch.write_bytes(line)
    with atomic_write(folder / PUBLIC) as scratch:
        scratch.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    write_digests(folder)


def write_digests(folder: Path) -> None:
    """Write `contract.sha256` for the contract and, if there is one, its signature."""
    names = [name for name in (FILE, SIGNATURE) if (folder / name).exists()]
    with atomic_write(folder / DIGESTS) as scratch:
        scratch.write_bytes(b"".join(digest_line(name, _read(folder, name)) for name in names))


def check_digests(folder: Path) -> None:
    """Compare contract and signature with `contract.sha256`.

    Raises:
        SfumatoError: one of them has changed since the export, or `contract.sha256` itself has.
    """
    lines = _read(folder, DIGESTS).splitlines(keepends=True)
    names = (FILE, SIGNATURE) if (folder / SIGNATURE).exists() else (FILE,)
    if len(lines) != len(names):
        raise SfumatoError(f"{DIGESTS} should name {' and '.join(names)}: export again")
    for name, line in zip(names, lines, strict=True):
        check_sealed(folder / name, _read(folder, name), line)


def check_signature(folder: Path, key: Ed25519PublicKey) -> None:
    """Check the contract's signature.

    Raises:
        SfumatoError: there is none, it is damaged, or it was not made for this contract with that key.
    """
    path = folder / SIGNATURE
    line = _read(folder, SIGNATURE)
    if not holds(key, CONTEXT, _read(folder, FILE), line):
        raise SfumatoError(f"{path} is not this key's signature of this contract: do not use the export")


def own_key(folder: Path) -> Ed25519PublicKey | None:
    """The key that an export brings with it, once its signature is checked against it. None: it brings none.

    Raises:
        SfumatoError: the signature is missing, or is not that key's of this contract.
    """
    if not (folder / PUBLIC).exists():
        return None
    key = parse_public_key(_read(folder, PUBLIC), folder / PUBLIC)
    check_signature(folder, key)
    return key


def is_signed(folder: Path) -> bool:
    """Whether there is a signature, of whomever."""
    return (folder / SIGNATURE).exists()


def _read(folder: Path, name: str) -> bytes:
    return read_inside(folder, name, largest=LARGEST)
