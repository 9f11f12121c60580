"""Keyed noise, version 2: an upload that is made again is the same upload, and any other one has noise of its own.

Fresh noise for every upload would let a provider average repeated uploads of one photo. So the noise is the output of a
keyed pseudo-random function (docs/contract.md, "Noise v2"):

    iv        = HMAC-SHA256(key, "sfumato-noise-v2" || SHA-256(contract.json) || SHA-256(q) || SHA-256(pixels))[:16]
    key'      = HKDF-SHA256(key, salt = 32 zero bytes, info = "noise", 32 bytes)
    keystream = AES-256-CTR(key', initial counter block = iv, 128-bit big-endian counter)

`pixels` are the H * W * 3 bytes of the cropped and resized RGB image, row by row. `q` are the bytes that the network gives
for them, in which the noise is then compared: noise that two models shared would show where they differ (docs/decisions/0020).
Java (`javax.crypto`) and browsers (WebCrypto) have the same primitives; `vectors.json` of every export holds the bytes they
must reproduce.

    noise = keyed_noise(key, model.digest, parameter_bytes(contract, parameters), image, 64 * 64 * 3)
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError
from sfumato.core.files import SCRATCH, flush, read_bytes
from sfumato.core.private import require_private
from sfumato.runtime.contract import Contract

VERSION = 2
LABEL = b"sfumato-noise-v2"
INFO = b"noise"
KEY_BYTES = 32
DIGEST_BYTES = 32


def image_hash(image: NDArray[np.uint8]) -> bytes:
    """SHA-256 of the bytes (H, W, 3) as they are fed to the model: 32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def parameter_bytes(contract: Contract, parameters: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """The bytes q (int8 + 128) of every output, in the order of the contract, each in the order of its tensor (y, x, plane)."""
    return b"".join(np.ascontiguousarray(parameters[tensor.name]).tobytes() for tensor in contract.outputs)


def stream_key(key: bytes) -> bytes:
    """The key of the cipher, derived from the device key so that it serves for nothing else."""
    return HKDF(hashes.SHA256(), length=KEY_BYTES, salt=None, info=INFO).derive(_checked(key))


def stream_iv(key: bytes, contract: bytes, parameters: bytes, image: bytes) -> bytes:
    """The initial counter block that belongs to three SHA-256 digests, of contract.json, of q and of the pixels: 16 bytes.

    Raises:
        SfumatoError: the key or a digest is not 32 bytes long.
    """
    for digest in (contract, parameters, image):
        # Of another length, two different triples could become one message.
        if len(digest) != DIGEST_BYTES:
            raise SfumatoError(f"a SHA-256 digest has {DIGEST_BYTES} bytes, not {len(digest)}")
    return hmac.new(_checked(key), LABEL + contract + parameters + image, hashlib.sha256).digest()[:16]


def keyed_noise(
    key: bytes, contract: bytes, parameters: bytes, image: NDArray[np.uint8], count: int
) -> NDArray[np.uint8]:
    """The first `count` keystream bytes for one upload.

    Args:
        key: the device key, 32 bytes.
        contract: SHA-256 of contract.json, 32 bytes.
        parameters: the bytes q that the network gave for the image (`parameter_bytes`).
        image: (H, W, 3), the pixels that the network saw.
        count: bytes wanted.

    Raises:
        SfumatoError: the key or the digest is not 32 bytes long.
    """
    stream = _stream(key)
    stream.reset_nonce(stream_iv(key, contract, hashlib.sha256(parameters).digest(), image_hash(image)))
    # A stream cipher holds nothing back that it would have to be asked for at the end.
    return np.frombuffer(stream.update(bytes(count)), dtype=np.uint8)


_kept = threading.local()


def _stream(key: bytes) -> CipherContext:
    """The cipher under a device key, set up once in every thread: that takes longer than what it encrypts for a photo."""
    if getattr(_kept, "key", None) != key:
        cipher = Cipher(algorithms.AES(stream_key(key)), modes.CTR(bytes(16)))
        _kept.key, _kept.stream = key, cipher.encryptor()
    stream: CipherContext = _kept.stream
    return stream


def fresh_noise(count: int) -> NDArray[np.uint8]:
    """`count` bytes from the operating system, different every time. For measurements: uploads can be averaged."""
    return np.frombuffer(secrets.token_bytes(count), dtype=np.uint8)


def read_key(path: Path) -> bytes:
    """Read a device key: 32 raw bytes, or 64 hexadecimal digits.

    Raises:
        SfumatoError: the file is missing, open to others, or holds something else or zeros.
    """
    require_private(path)
    return parse_key(read_bytes(path, largest=4096), path)


def parse_key(content: bytes, path: Path) -> bytes:
    """The key in the bytes of a file.

    Raises:
        SfumatoError: they are something else, or zeros.
    """
    try:
        key = (
            content if len(content) == KEY_BYTES else _checked(bytes.fromhex(content.decode("ascii").strip()))
        )
    except (ValueError, SfumatoError):
        raise SfumatoError(
            f"{path} is no device key: it must hold {KEY_BYTES} bytes or {2 * KEY_BYTES} hexadecimal digits"
        ) from None
    if not any(key):
        raise SfumatoError(
            f"{path} holds zeros, which anybody can guess: remove it, and the next upload makes a key of its own"
        )
    return key


def default_key_path() -> Path:
    """Where the device key of this computer lies: `$XDG_CONFIG_HOME/sfumato/device.key`, else under `~/.config`."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "sfumato" / "device.key"


def device_key(path: Path | None = None) -> bytes:
    """The device key at `path` (default: `default_key_path()`), made with mode 0600 if there is none.

    Raises:
        SfumatoError: the file cannot be made or does not hold a key.
    """
    path = default_key_path() if path is None else path
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Two first runs at once must agree on one key: the second finds the name taken.
            with contextlib.suppress(FileExistsError):
                write_secret(path, secrets.token_hex(KEY_BYTES) + "\n", replace=os.link)
        except OSError as error:
            raise SfumatoError(
                f"cannot make a device key at {path}: {error.strerror}; pass --key FILE"
            ) from None
    return read_key(path)


def write_secret(path: Path, text: str, *, replace: Callable[[Path, Path], None]) -> None:
    """Write a secret with mode 0600, whole or not at all.

    Args:
        path: where.
        text: ASCII.
        replace: gives the finished file its name: `os.replace`, or `os.link`, which refuses one that is there.

    Raises:
        OSError: the system refused.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SCRATCH, dir=path.parent)  # of mode 0600
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(text)
        flush(scratch)
        replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    flush(path.parent)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise SfumatoError(f"a device key has {KEY_BYTES} bytes, not {len(key)}")
    return key
