"""The keys of one device: a secret, perhaps a newer one from some day on, and of each a key for every service.

    keys = KeyRing.read(Path("device.key"))
    keys.for_service("photos.example")          # 32 bytes, what the noise of uploads to this service follows from
    rotate(Path("device.key"), "2027-01-01")    # another secret from that day (UTC) on

A service's key is derived from the secret and the service's name in the ledger: two services never share a draw, and one that
is told its own key learns no other. Secrets are independent of each other. docs/keys.md says what then adds up.
"""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import only_process, read_bytes
from sfumato.core.private import require_private
from sfumato.runtime.keyed_noise import KEY_BYTES, default_key_path, device_key, parse_key, write_secret

LABEL = b"sfumato-service-key-v1\0"
ID_LABEL = b"sfumato-key-id-v1\0"
DATED = re.compile(rb"(\d{4}-\d\d-\d\d) ([0-9a-fA-F]{64})")
LARGEST = 2**16


@dataclass(frozen=True)
class KeyRing:
    """Secrets of a device, the oldest first; the first day is empty: it holds from the beginning."""

    secrets: tuple[tuple[str, bytes], ...] = field(repr=False)
    """(first day of UTC as YYYY-MM-DD, 32 bytes)."""
    clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)
    """Seconds since 1970."""

    @classmethod
    def of(cls, key: bytes) -> "KeyRing":
        """A ring of one secret."""
        return cls((("", key),))

    @classmethod
    def read(cls, path: Path) -> "KeyRing":
        """The secrets of a key file: one as ever, and a line `YYYY-MM-DD HEX` for each that was added.

        Raises:
            SfumatoError: the file is missing, open to others, or holds something else, zeros, days out of order, or a secret
                twice.
        """
        require_private(path)
        content = read_bytes(path, largest=LARGEST)
        if len(content) == KEY_BYTES:
            return cls.of(parse_key(content, path))
        first, *rest = content.splitlines() or [b""]
        found = [("", parse_key(first, path))]
        for line in rest:
            parts = DATED.fullmatch(line.strip())
            if parts is None:
                raise SfumatoError(
                    f"{path} is damaged: after its first key it holds lines of a day and a key"
                )
            found.append((checked_day(parts[1].decode()), parse_key(parts[2], path)))
        days = [day for day, _ in found]
        if sorted(set(days)) != days or len({key for _, key in found}) < len(found):
            raise SfumatoError(f"{path} is damaged: its days are out of order, or a key is there twice")
        return cls(tuple(found))

    def today(self) -> str:
        """The day of UTC."""
        return datetime.fromtimestamp(self.clock(), UTC).date().isoformat()

    def secret(self, day: str | None = None) -> bytes:
        """The secret of a day (None: today), 32 bytes."""
        now = self.today() if day is None else day
        return next(key for first, key in reversed(self.secrets) if first <= now)

    @property
    def ledger(self) -> bytes:
        """The secret of the ledger, the oldest: the account outlives a new one."""
        return self.secrets[0][1]

    def for_service(self, service: str, day: str | None = None) -> bytes:
        """The key for a service on a day (None: today), 32 bytes.

        Args:
            service: its name in the ledger (`sfumato.runtime.ledger.service_of`).
            day: YYYY-MM-DD, of UTC.
        """
        return derived(self.secret(day), LABEL + service.encode())

    def key_id(self, service: str, day: str | None = None) -> str:
        """16 hexadecimal digits by which people can compare keys; never sent."""
        return hashlib.sha256(derived(self.for_service(service, day), ID_LABEL)).hexdigest()[:16]


def derived(key: bytes, info: bytes) -> bytes:
    """Another key from a key, which tells nothing about it: HKDF-SHA256 without a salt, 32 bytes."""
    return HKDF(hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def device_keys(path: Path | None = None) -> KeyRing:
    """The keys of this computer, or of a key file; this computer's is made if there is none.

    Raises:
        SfumatoError: as `KeyRing.read`, or the file cannot be made.
    """
    if path is None and not default_key_path().exists():
        device_key()
    return KeyRing.read(default_key_path() if path is None else path)


def rotate(path: Path, day: str, *, clock: Callable[[], float] = time.time) -> KeyRing:
    """Add a fresh secret that holds from a day on, whole or not at all.

    Args:
        path: the key file.
        day: YYYY-MM-DD, of UTC.
        clock: seconds since 1970.

    Raises:
        UsageError: the day is none, has passed, or is not after that of the newest secret.
        SfumatoError: the file cannot be read or written.
    """
    day = checked_day(day)
    with only_process(path.parent):
        ring = KeyRing.read(path)
        now, newest = KeyRing.of(ring.ledger), ring.secrets[-1][0]
        today = datetime.fromtimestamp(clock(), UTC).date().isoformat()
        if day < today or day <= newest:
            least = max(today, newest)
            after = "after" if newest == least else "from"
            raise UsageError(f"a new key begins today (UTC) or later: give a day {after} {least}, not {day}")
        added = (*ring.secrets, (day, secrets.token_bytes(KEY_BYTES)))
        lines = [f"{first} {key.hex()}".strip() for first, key in added]
        write_secret(path, "\n".join(lines) + "\n", replace=os.replace)
    return KeyRing(added, now.clock)


def checked_day(text: str) -> str:
    """A day as YYYY-MM-DD.

    Raises:
        UsageError: it is none.
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"{text!r} is no day: give it as YYYY-MM-DD") from None
