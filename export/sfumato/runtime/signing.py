"""Is this the contract that was written, and who wrote it? A digest and an Ed25519 signature over contract.json.

contract.json names every other file by its sha256; `contract.sha256` names contract.json (and contract.sig), in the form that
`sha256sum -c` reads. It finds accidents and hand edits, not a forger, who can write it anew: that is what a signature is for.

The signature lies beside the contract as `contract.sig`: 64 bytes in base64. Keys are PEM files as OpenSSL makes them:

    openssl genpkey -algorithm ed25519 -out maker.pem
    openssl pkey -in maker.pem -pubout -out maker.pub

    sign(folder, Path("maker.pem"));  check_signature(folder, Path("maker.pub"))
"""

import base64
import binascii
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write
from sfumato.runtime.contract import FILE

SIGNATURE = "contract.sig"
DIGESTS = "contract.sha256"
CONTEXT = b"sfumato-contract-signature-v1\0"
"""Put before the contract's bytes, so that the signature can be taken for nothing else."""


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """An unencrypted Ed25519 private key in PEM form.

    Raises:
        SfumatoError: missing, encrypted, or a key of another kind.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SfumatoError(
            f"{path} is no unencrypted Ed25519 private key: openssl genpkey -algorithm ed25519 -out {path.name}"
        )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """An Ed25519 public key in PEM form.

    Raises:
        SfumatoError: missing, or a key of another kind.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SfumatoError(
            f"{path} is no Ed25519 public key: openssl pkey -in PRIVATE -pubout -out {path.name}"
        )
    return key


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    """Sign the contract in `folder`; its digests are written anew."""
    signature = key.sign(CONTEXT + (folder / FILE).read_bytes())
    with atomic_write(folder / SIGNATURE) as scratch:
        scratch.write_bytes(base64.b64encode(signature) + b"\n")
    write_digests(folder)


def write_digests(folder: Path) -> None:
    """Write `contract.sha256` for the contract and, if there is one, its signature."""
    names = [name for name in (FILE, SIGNATURE) if (folder / name).exists()]
    with atomic_write(folder / DIGESTS) as scratch:
        scratch.write_bytes(b"".join(_digest_line(folder, name) for name in names))


def check_digests(folder: Path) -> None:
    """Compare contract and signature with `contract.sha256`.

    Raises:
        SfumatoError: one of them has changed since the export, or `contract.sha256` itself has.
    """
    lines = _read(folder / DIGESTS).splitlines(keepends=True)
    names = (FILE, SIGNATURE) if (folder / SIGNATURE).exists() else (FILE,)
    if len(lines) != len(names):
        raise SfumatoError(f"{DIGESTS} should name {' and '.join(names)}: export again")
    for name, line in zip(names, lines, strict=True):
        if line != _digest_line(folder, name):
            raise SfumatoError(f"{name} or {DIGESTS} was changed after the export: export again")


def _digest_line(folder: Path, name: str) -> bytes:
    return f"{hashlib.sha256(_read(folder / name)).hexdigest()}  {name}\n".encode()


def check_signature(folder: Path, key: Ed25519PublicKey) -> None:
    """Check the contract's signature.

    Raises:
        SfumatoError: there is none, it is damaged, or it was not made for this contract with that key.
    """
    path = folder / SIGNATURE
    content = _read(path)
    try:
        key.verify(base64.b64decode(content.strip(), validate=True), CONTEXT + _read(folder / FILE))
    except (InvalidSignature, binascii.Error, ValueError):
        raise SfumatoError(
            f"{path} is not this key's signature of this contract: do not use the export"
        ) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(2**20)
    except OSError as error:
        raise SfumatoError(f"{path} cannot be read ({error.strerror})") from None
