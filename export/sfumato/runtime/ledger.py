"""The ledger: an account, kept on the device, of what was sent to whom and how many bits of the photos it can carry at most.

    ledger = Ledger(ledger_path(key_file), key)
    account = ledger.spend("photos.example", Draw(upload.draw, upload.rate_bits))     # before anything is sent
    account.sentence()        # Today 12 photos, at most 13.1 bits to photos.example; the limit is 100.

A draw is one (photo, contract, parameters q). The bits of different draws add up (sequential composition). The same draw again
is the same upload and costs nothing more: draws are remembered by a keyed hash that tells nobody else which photo it was.
A camera has an account of its own beside the service's, by the name CAMERA@SERVICE, with hours as well as days.
The file is a `sfumato.runtime.sealed_log`; docs/ledger.md has the rules for days, clocks, damage and older copies.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.keyed_noise import default_key_path
from sfumato.runtime.keyring import KeyRing, device_keys
from sfumato.runtime.sealed_log import SealedLog

SCHEMA = "sfumato-ledger/1"
LABEL = b"sfumato-ledger-v1"
DRAW_BYTES = 16
ANY = "*"
"""Stands for every service without a limit of its own."""
FILES = "files"
"""Stands for the receiver of uploads that are written into files and not sent by this program."""
CAMERA = r"[a-z0-9._-]{1,64}"
"""Names of cameras, a regular expression."""
MICRO = 1_000_000
"""Bits are kept as whole millionths, rounded up: sums are exact, alike in every language, and never too low."""


class LimitError(SfumatoError):
    """One more photo would pass the limit. Nothing was sent and nothing was counted."""


@dataclass(frozen=True)
class Draw:
    """What one upload adds."""

    id: bytes | None
    """Of `draw_id`; None for fresh noise, where every upload is another draw."""
    bits: float | None
    """Bits of the photo that it can carry at most; None where no bound can be computed."""


@dataclass(frozen=True)
class Limit:
    """Most bits for one service, in millionths; None: no limit."""

    day: int | None = None
    total: int | None = None


@dataclass
class Tally:
    """A sum over uploads."""

    uploads: int = 0
    draws: int = 0
    microbits: int = 0
    unbounded: int = 0
    """Draws without a bound."""

    def add(self, microbits: int | None) -> None:
        """One more draw."""
        self.draws += 1
        self.microbits += microbits or 0
        self.unbounded += microbits is None

    def to_json(self) -> dict[str, Any]:
        """Plain values; microbits as bits."""
        return {
            "uploads": self.uploads,
            "draws": self.draws,
            "bits": self.microbits / MICRO,
            "unbounded": self.unbounded,
        }


@dataclass(frozen=True)
class Account:
    """What one service was sent."""

    service: str
    day: str
    """The account's day (UTC, YYYY-MM-DD)."""
    today: Tally
    total: Tally
    days: Mapping[str, Tally]
    limit: Limit
    ahead: bool
    """The clock was put back: the account's day lies in its future."""
    lost: str | None
    """The last day on which entries were lost: the sums may be too low."""
    hours: Mapping[str, Tally] = field(default_factory=dict)
    """By hour (UTC, YYYY-MM-DDTHH), of a camera; services have none."""

    def sentence(self) -> str:
        """The account in words, for the user."""
        day, total = self.limit.day, self.limit.total
        limits = [f"the limit is {plain(day)}"] if day is not None else []
        if total is not None:
            limits.append(
                f"the limit for all days is {plain(total)}, {upwards(self.total.microbits)} are spent"
            )
        beyond = f" (and {photos(self.today.unbounded)} without a bound)" if self.today.unbounded else ""
        spent = f"{photos(self.today.draws)}, at most {upwards(self.today.microbits)} bits{beyond}"
        text = f"Today {spent} to {self.service}; {'; '.join(limits) or 'no limit is set'}."
        if self.ahead:
            text += f" The clock was put back: the day of this account stays {self.day} until the clock is there again."
        if self.lost:
            text += f" Entries were lost on {self.lost}: the sums may be too low."
        return text

    def to_json(self) -> dict[str, Any]:
        """Plain values, in bits."""
        day, total = (
            value if value is None else value / MICRO for value in (self.limit.day, self.limit.total)
        )
        return {
            "service": self.service,
            "day": self.day,
            "today": self.today.to_json(),
            "total": self.total.to_json(),
            "days": {day: tally.to_json() for day, tally in self.days.items()},
            "limit": {"day": day, "total": total},
            "clock_put_back": self.ahead,
            "entries_lost": self.lost,
            "sentence": self.sentence(),
        }


@dataclass
class _Service:
    today: Tally = field(default_factory=Tally)
    total: Tally = field(default_factory=Tally)
    days: dict[str, Tally] = field(default_factory=dict)
    hours: dict[str, Tally] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)


class Book:
    """The entries and what they sum to: no file, no key, no clock. Days are text, which sorts as days do."""

    def __init__(self) -> None:
        self.day = ""
        self.limits: dict[str, Limit] = {}
        self.lost: str | None = None
        self._services: dict[str, _Service] = {}

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take in one entry.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        kind, day = entry["kind"], entry["day"]
        for name, value in entry.items():
            if name.startswith(("limit_", "micro")):
                fits = value is None or (type(value) is int and value >= 0)
            else:
                fits = isinstance(value, str)
            if not fits:
                raise ValueError(f"{name} is {value!r}")
        if day > self.day:
            for service in self._services.values():
                service.today = Tally()
            self.day = day
        if kind == "upload":
            self._upload(entry["service"], entry["draw"], entry["microbits"], entry.get("hour"))
        elif kind == "limit":
            self.limits[entry["service"]] = Limit(entry["limit_day"], entry["limit_total"])
        elif kind == "clock":
            self.day = day  # earlier than it was; what was counted in between stays counted for it
        elif kind == "repair":
            self.lost = day
        elif kind != "open" or entry["schema"] != SCHEMA:
            raise ValueError(kind)

    def _upload(self, name: str, draw: str, microbits: int | None, hour: str | None) -> None:
        service = self._services.setdefault(name, _Service())
        tallies = [service.today, service.total, service.days.setdefault(self.day, Tally())]
        if hour is not None:
            tallies.append(service.hours.setdefault(hour, Tally()))
        for tally in tallies:
            tally.uploads += 1
            if draw not in service.known:
                tally.add(microbits)
        service.known.add(draw)

    @property
    def services(self) -> list[str]:
        """Those that were sent anything or have a limit of their own, sorted."""
        return sorted({*self._services, *self.limits} - {ANY})

    def knows(self, service: str, draw: str) -> bool:
        """Whether the service was sent this very upload before."""
        return service in self._services and draw in self._services[service].known

    def today(self, clock: str) -> str:
        """The account's day: the clock's, but never earlier than that of an entry."""
        return max(self.day, clock)

    def account(self, name: str, clock: str) -> Account:
        """What a service was sent."""
        found, day = self._services.get(name, _Service()), self.today(clock)
        today = found.today if day == self.day else Tally()
        others = Limit() if is_camera(name) else self.limits.get(ANY, Limit())
        limit = self.limits.get(name, others)
        return Account(
            name, day, today, found.total, found.days, limit, self.day > clock, self.lost, found.hours
        )

    def refusal(self, name: str, microbits: int | None, clock: str) -> str:
        """Why one more draw must not be sent; empty where it may."""
        account = self.account(name, clock)
        sums = ((account.limit.day, account.today, "today"), (account.limit.total, account.total, "in all"))
        for most, tally, when in sums:
            if most is None:
                continue
            if microbits is None:
                return (
                    f"{name}: the bits of this photo have no bound here and the limit is {plain(most)} {when}: "
                    "nothing was sent"
                )
            if tally.microbits + microbits > most:
                wait = "wait for the next day (UTC) or " if when == "today" else ""
                return (
                    f"{name}: this photo's {upwards(microbits)} bits would make {upwards(tally.microbits + microbits)} "
                    f"{when} and the limit is {plain(most)}: nothing was sent; {wait}raise the limit"
                )
        return ""


class Ledger:
    """The account in its file. Several processes and threads may keep one.

    Args:
        path: the file; it and `PATH.anchor` are made with mode 0600 where there is neither.
        key: 32 bytes, the device key; the ledger's own key is derived from it.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._log = SealedLog(path, ledger_key(key), Book, self._opening)

    @property
    def path(self) -> Path:
        """The file."""
        return self._log.path

    def spend(self, service: str, draw: Draw) -> Account:
        """Count one upload, before it is sent.

        Returns:
            The account with this upload in it.

        Raises:
            LimitError: it would pass the limit.
            LogError: the account cannot be kept, so nothing may be sent.
        """
        (refusal,) = self.spend_many(service, [draw])
        if refusal:
            raise refusal
        return self.account(service)

    def spend_many(
        self, service: str, draws: Sequence[Draw], *, camera: str | None = None
    ) -> list[LimitError | None]:
        """Count several uploads, in order, before they are sent.

        Args:
            service: who receives them.
            draws: one for each.
            camera: where they come from; they are counted for it too, and both limits hold.

        Returns:
            One for each: None, or why it must not be sent.

        Raises:
            LogError: the account cannot be kept, so nothing may be sent.
        """
        names = [checked_service(service)]
        if camera is not None:
            names.append(camera_account(camera, service))
        entries, refusals = [], list[LimitError | None]()
        with self._log.held() as book:
            day = book.today(self._today())
            for draw in draws:
                draw_name, bits = (
                    (draw.id or secrets.token_bytes(DRAW_BYTES)).hex(),
                    _micro(draw.bits, math.ceil),
                )
                costs = {name: 0 if book.knows(name, draw_name) else bits for name in names}
                # A draw that is known costs nothing, and passes where the limit was lowered below what is spent.
                news = (name for name in names if not book.knows(name, draw_name))
                refusal = next(filter(None, (book.refusal(name, costs[name], day) for name in news)), "")
                if refusal:
                    refusals.append(LimitError(refusal))
                    continue
                for name, cost in costs.items():
                    entry = {"kind": "upload", "day": day, "service": name, "draw": draw_name}
                    if is_camera(name):
                        entry["hour"] = self._hour(day)
                    book.apply({**entry, "microbits": cost})
                    entries.append({**entry, "microbits": cost})
                refusals.append(None)
            self._log.append(entries)
        return refusals

    def set_limit(self, service: str, *, day: float | None, total: float | None) -> None:
        """Limit the bits of a service (`ANY`: of all that have no limit of their own) or a camera's account; None: no limit.

        Raises:
            UsageError: a limit is below 0 or no number, or the service has no such name.
            LogError: the account cannot be kept.
        """
        if service != ANY:
            checked_account(service)
        limits = {"limit_day": _micro(day, round), "limit_total": _micro(total, round)}
        with self._log.held() as book:
            self._record(
                book, {"kind": "limit", "day": book.today(self._today()), "service": service, **limits}
            )

    def accept_clock(self) -> None:
        """The clock was wrong and is right now: the account goes on at its day, and what was counted in between stays in it."""
        with self._log.held() as book:
            self._record(book, {"kind": "clock", "day": self._today()})

    def account(self, service: str) -> Account:
        """What a service was sent, or what came from a camera (`camera_account`).

        Raises:
            LogError: the file cannot be read, is damaged, an older copy, or of another key.
        """
        with self._log.held() as book:
            return book.account(checked_account(service), self._today())

    def accounts(self) -> list[Account]:
        """Of every service that was sent anything or has a limit of its own. Raises as `account`."""
        return self._accounts(cameras=False)

    def cameras(self) -> list[Account]:
        """Of every camera that anything came from or that has a limit of its own. Raises as `account`."""
        return self._accounts(cameras=True)

    def _accounts(self, *, cameras: bool) -> list[Account]:
        with self._log.held() as book:
            return [book.account(name, self._today()) for name in book.services if is_camera(name) == cameras]

    def repair(self) -> tuple[int, Path | None]:
        """Keep the entries up to the first that is damaged, and note that others were lost.

        Returns:
            How many were kept, and a copy of the file as it was; None where there was none.
        """
        return self._log.repair(lambda book: {"kind": "repair", "day": book.today(self._today())})

    def _record(self, book: Book, entry: dict[str, Any]) -> None:
        book.apply(entry)
        self._log.append([entry])

    def _opening(self) -> dict[str, Any]:
        return {"kind": "open", "day": self._today(), "schema": SCHEMA}

    def _today(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).date().isoformat()

    def _hour(self, day: str) -> str:
        """The clock's hour; the first of the account's day where the clock was put back."""
        now = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H")
        return now if now.startswith(day) else f"{day}T00"


def device_ledger(key_file: Path | None = None, ledger_file: Path | None = None) -> tuple[KeyRing, Ledger]:
    """The keys of a device and its ledger.

    Args:
        key_file: as for `KeyRing.read`; None takes the keys of this computer, made if there are none.
        ledger_file: None takes the file beside the keys.

    Raises:
        SfumatoError: the keys cannot be read or made.
    """
    keys = device_keys(key_file)
    return keys, Ledger(ledger_file or ledger_path(key_file or default_key_path()), keys.ledger)


def ledger_path(key_file: Path) -> Path:
    """Where the ledger of a device key lies: beside it."""
    return key_file.with_name(key_file.name + ".ledger")


def ledger_key(key: bytes) -> bytes:
    """The ledger's own key: 32 bytes."""
    return hmac.digest(key, LABEL, hashlib.sha256)


def draw_id(key: bytes, contract: bytes, parameters: bytes, pixels: bytes) -> bytes:
    """What a ledger remembers of a draw, 16 bytes. Without the device key it tells nothing about the photo.

    Args:
        key: the device key, 32 bytes.
        contract: SHA-256 of contract.json, 32 bytes.
        parameters: the bytes q of all outputs, in the order of the contract.
        pixels: the bytes that the model was fed with.
    """
    message = b"draw" + contract + hashlib.sha256(parameters).digest() + hashlib.sha256(pixels).digest()
    return hmac.digest(ledger_key(key), message, hashlib.sha256)[:DRAW_BYTES]


def service_of(url: str) -> str:
    """The service's name in the ledger: the host of its address.

    >>> service_of("https://Photos.example:8443/v1")
    'photos.example'
    """
    host = urlsplit(url).hostname or ""
    return checked_service(host if host.isascii() else host.encode("idna").decode("ascii"))


def checked_service(name: str) -> str:
    """The name, if a service can have it.

    Raises:
        UsageError: it cannot.
    """
    if not re.fullmatch(r"[a-z0-9._:-]{1,253}", name):
        raise UsageError(f"{name!r} is no service: give a host such as photos.example, in small letters")
    return name


def camera_account(camera: str, service: str) -> str:
    """The name of a camera's account: what came from it to one service.

    >>> camera_account("door", "photos.example")
    'door@photos.example'

    Raises:
        UsageError: no camera or no service has such a name.
    """
    if not re.fullmatch(CAMERA, camera):
        raise UsageError(
            f"{camera!r} is no name of a camera: up to 64 small letters, digits, dots, dashes and underscores"
        )
    return f"{camera}@{checked_service(service)}"


def is_camera(name: str) -> bool:
    """Whether an account is a camera's."""
    return "@" in name


def checked_account(name: str) -> str:
    """The name, if a service or a camera's account can have it.

    Raises:
        UsageError: neither can.
    """
    camera, at, service = name.rpartition("@")
    return camera_account(camera, service) if at else checked_service(name)


def plain(microbits: int) -> str:
    """Bits as short as they are exact.

    >>> plain(100_000_000), plain(500_000)
    ('100', '0.5')
    """
    whole, rest = divmod(microbits, MICRO)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def upwards(microbits: int) -> str:
    """Bits with one decimal, rounded up, so that "at most" is true.

    >>> upwards(13_000_001)
    '13.1'
    """
    tenths = -(-microbits // (MICRO // 10))
    return f"{tenths // 10}.{tenths % 10}"


def photos(count: int) -> str:
    """A number of photos.

    >>> photos(1), photos(2)
    ('1 photo', '2 photos')
    """
    return f"{count} photo" + ("" if count == 1 else "s")


def _micro(bits: float | None, whole: Callable[[float], int]) -> int | None:
    """Millionths of a bit."""
    if bits is None:
        return None
    if not 0 <= bits <= 1e9:
        raise UsageError(f"bits are a number from 0 to 1e9, not {bits}")
    return whole(bits * MICRO)
