"""Who may ask, how often, and how many at a time: API tokens, a token bucket for each, a concurrency limit.

Tokens come from a file or the environment, one `NAME TOKEN` a line; the name appears in logs, the token never. What a client
presents is looked up by a keyed hash, so the time tells nothing about known tokens, and a thousand cost what one does. A file
is looked at before every request: a token that was removed is refused from then on, in every process that reads the file.

    tokens = known_tokens(Path("tokens.txt"))
    name = tokens.holder("Bearer 3f1c...")      # None: not known
    wait = buckets.take(name)                   # seconds until a request would be let in; 0: this one is
    access = AccessControl(tokens, RateLimitConfig())
    Endpoint("/v1/predict", ..., checks=(access.token, access.rate))
"""

import hashlib
import hmac
import logging
import math
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from starlette.requests import Request

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.failures import writing
from sfumato.core.files import only_process, read_bytes
from sfumato.core.private import require_private
from sfumato.runtime.keyed_noise import write_secret
from sfumato.server.admission import Shares, client_name
from sfumato.server.endpoints import BEARER, Check
from sfumato.server.problems import CLOSE, ProblemError

logger = logging.getLogger("sfumato.server.app")

VARIABLE = "SFUMATO_TOKENS"
MIN_LENGTH = 16
"""Fewest characters of a token: what is shorter can be guessed."""
LARGEST = 2**20
"""Bytes of a file of tokens."""
MONITOR = "metrics"
"""The token of this name reads /metrics and nothing else."""


@dataclass(frozen=True)
class Tokens:
    """Known tokens, as hashes."""

    digests: tuple[tuple[str, bytes], ...]
    """(name, SHA-256 of the token)."""

    @classmethod
    def parse(cls, text: str, source: str, *, empty: bool = False) -> "Tokens":
        """Read lines of `NAME TOKEN`; empty lines and those that begin with # are skipped.

        Raises:
            SfumatoError: a line is something else, a token is short, a name or token is there twice, or there is none and
                `empty` does not allow that.
        """
        found: list[tuple[str, bytes]] = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):  # Notepad's mark
            parts = line.split()
            if not parts or parts[0].startswith("#"):
                continue
            good = len(parts) == 2 and all(map(str.isprintable, parts)) and parts[1].isascii()
            if not good or len(parts[1]) < MIN_LENGTH:
                # Never the line itself: it may hold a token.
                raise SfumatoError(
                    f"{source}, line {number}: expected NAME TOKEN, the token at least {MIN_LENGTH} characters of ASCII"
                )
            found.append((parts[0], digest(parts[1])))
        if not found and not empty:
            raise SfumatoError(f"{source} holds no token: give lines of NAME TOKEN")
        if len({name for name, _ in found}) < len(found) or len({value for _, value in found}) < len(found):
            raise SfumatoError(f"{source}: a name or a token is there twice")
        return cls(tuple(found))

    @classmethod
    def read(cls, path: Path | None, *, empty: bool = False) -> "Tokens | None":
        """The tokens of a file, else of the variable SFUMATO_TOKENS, else None: no tokens are asked for.

        Raises:
            SfumatoError: as `parse`, or the file cannot be read, or others can read it.
        """
        if path is not None:
            require_private(path)
            try:
                content = read_bytes(path, largest=LARGEST).decode("utf-8-sig")
            except UnicodeDecodeError:  # whose text would show a byte of a token
                raise SfumatoError(f"cannot read the tokens in {path}: save it as UTF-8 text") from None
            return cls.parse(content, str(path), empty=empty)
        if VARIABLE in os.environ:
            return cls.parse(os.environ[VARIABLE], f"the variable {VARIABLE}")
        return None

    @cached_property
    def _by_hash(self) -> tuple[bytes, dict[bytes, str]]:
        """A secret of this process, and keyed hash of a digest -> name. What a guess hashes to cannot be foreseen."""
        key = secrets.token_bytes(32)
        return key, {hmac.digest(key, value, "sha256"): name for name, value in self.digests}

    def holder(self, authorization: str | None) -> str | None:
        """The name behind an `Authorization: Bearer TOKEN` header; None if it is missing or not known."""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key, names = self._by_hash
        return names.get(hmac.digest(key, digest(given.strip()), "sha256"))


class KnownTokens(Protocol):
    """`Tokens`, or `TokenFile`."""

    def holder(self, authorization: str | None) -> str | None:
        """The name behind an `Authorization: Bearer TOKEN` header; None if it is missing or not known."""


class TokenFile:
    """The tokens of a file as it is now. Where it is damaged, the last whole ones stay, and the log says so.

    Args:
        path: the file.

    Raises:
        SfumatoError: as `Tokens.read`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._state()
        self._tokens = _read(path, empty=False)

    @property
    def digests(self) -> tuple[tuple[str, bytes], ...]:
        """As of `Tokens`, now."""
        return self._current().digests

    def holder(self, authorization: str | None) -> str | None:
        """As of `Tokens`, by the file as it is now."""
        return self._current().holder(authorization)

    def _current(self) -> Tokens:
        state = self._state()
        if state != self._seen:
            self._seen = state  # before it is read: a change meanwhile is seen next time
            try:
                self._tokens = _read(self.path, empty=True)
                logger.info("tokens were read again", extra={"fields": {"tokens": len(self._tokens.digests)}})
            except SfumatoError as error:
                fields = {"reason": str(error)}
                logger.error("tokens cannot be read: those of before stay", extra={"fields": fields})
        return self._tokens

    def _state(self) -> tuple[int, ...] | None:
        """Tells one content of the file from another: a file that takes its place has another number."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def known_tokens(path: Path | None) -> "KnownTokens | None":
    """As `Tokens.read`; those of a file are watched.

    Raises:
        SfumatoError: as `Tokens.read`.
    """
    return Tokens.read(None) if path is None else TokenFile(path)


def _read(path: Path, *, empty: bool) -> Tokens:
    tokens = Tokens.read(path, empty=empty)
    assert tokens is not None  # there is a path
    return tokens


def add_tokens(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Put a fresh token for each device into a file, which is made if there is none.

    Returns:
        Name -> token, which nobody can tell again.

    Raises:
        UsageError: a name is none, or has a token already; nothing was written.
        SfumatoError: the file cannot be read or written.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name):
            raise UsageError(f"{name!r} is no name: up to 64 letters, digits and . _ @ -, the first no sign")
    made = {name: secrets.token_hex(24) for name in names}

    def change(lines: list[str]) -> list[str]:
        if known := [line.split()[0] for line in lines if line.split() and line.split()[0] in made]:
            raise UsageError(f"{known[0]} has a token already: revoke it first")
        return [*lines, *(f"{name} {token}" for name, token in made.items())]

    _rewrite(path, change)
    return made


def revoke_tokens(path: Path, names: Sequence[str]) -> None:
    """Take the tokens of devices out of a file: services that read it refuse them from now on.

    Raises:
        UsageError: one of them has no token there; nothing was written.
        SfumatoError: the file cannot be read or written.
    """

    def change(lines: list[str]) -> list[str]:
        here = {line.split()[0] for line in lines if line.split()}
        if lacking := [name for name in names if name not in here or name.startswith("#")]:
            raise UsageError(f"{path} holds no token of {lacking[0]!r}")
        return [line for line in lines if not line.split() or line.split()[0] not in names]

    _rewrite(path, change)


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a file of tokens, whole or not at all; two changes at once wait for nobody: one is refused."""
    with writing(path), only_process(path.parent):
        lines = []
        if path.exists():
            _read(path, empty=True)  # what a service would refuse is not written on
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        write_secret(path, "".join(f"{line}\n" for line in change(lines)), replace=os.replace)


def digest(token: str) -> bytes:
    """SHA-256 of a token. Tokens are random and long, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, kw_only=True)
class RateLimitConfig:
    """How often one client may ask."""

    per_second: float = 50.0
    """Requests a second in the long run; each upload of a batch counts as one."""
    burst: int = 100
    """Requests, or uploads, at once."""

    def __post_init__(self) -> None:
        if self.per_second <= 0 or self.burst < 1:
            raise ValueError(f"nobody could ask anything with {self}")


class Buckets:
    """A token bucket per client, the least recently seen ones forgotten beyond `capacity`."""

    def __init__(
        self, config: RateLimitConfig, *, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config, self._capacity, self._clock = config, capacity, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, count: int = 1) -> float:
        """Count `count` uploads, `burst` at most: 0 if they are let in, else the seconds until they would be."""
        now, config = self._clock(), self.config
        level, seen = self._levels.pop(client, (float(config.burst), now))
        level = min(float(config.burst), level + (now - seen) * config.per_second)
        let_in = level >= count
        self._levels[client] = (level - count if let_in else level, now)
        if len(self._levels) > self._capacity:
            self._levels.popitem(last=False)
        return 0.0 if let_in else (count - level) / config.per_second


class RateLimit(Protocol):
    """`Buckets`, or `shared.SharedBuckets` for several processes."""

    config: RateLimitConfig

    def take(self, client: str, count: int = 1) -> float:
        """Count `count` uploads: 0 if they are let in, else the seconds until they would be."""


class ConcurrencyLimit(Shares):
    """How many requests may be in work: as many as are answered within `target` seconds, shared by the clients.

    With more, answers come too late and the work is lost. The limit rises by about one for as many answers in time as it
    counts. It falls by a tenth for one that is late, once in `target` seconds: additive increase, multiplicative decrease, as
    TCP finds its window.
    """

    def __init__(self, maximum: int, target: float, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(float(maximum), "requests")
        self._maximum, self._target, self._clock, self._fell = maximum, target, clock, -math.inf

    def answered(self, arrived: float) -> None:
        """Learn from an answer to what came at `arrived`, by the clock."""
        now = self._clock()
        if now - arrived <= self._target:
            self.total = min(float(self._maximum), self.total + 1 / self.total)
        elif now - self._fell > self._target:
            self.total, self._fell = max(1.0, self.total * 0.9), now


class AccessControl:
    """Token and rate limit, as checks of an endpoint. A check after another reads what that one left in `request.state`."""

    def __init__(
        self, tokens: KnownTokens | None, rate: RateLimitConfig, buckets: RateLimit | None = None
    ) -> None:
        self.tokens, self.buckets = tokens, buckets or Buckets(rate)
        self.token = Check("token", self._check_token, ("unauthorized",), BEARER)
        self.rate = Check("rate", self._check_rate, ("too-many",))
        self.monitor = Check("monitor", self._check_monitor, ("unauthorized",), BEARER)

    def _check_token(self, request: Request) -> None:
        """Where there are tokens, the request needs one; `state.client` is the name behind it."""
        if self.tokens is None:
            return
        name = self.tokens.holder(request.headers.get("authorization"))
        if name is None or name == MONITOR:
            raise _unauthorized("send the header Authorization: Bearer TOKEN")
        request.state.client = name

    def check_again(self, request: Request) -> None:
        """After the body, which may have taken seconds: a token that was revoked meanwhile gets no answer.

        Raises:
            ProblemError: it was.
        """
        if self.tokens is not None:
            self._check_token(request)

    def _check_rate(self, request: Request) -> None:
        """Count `state.uploads` (one, if nothing was left there) for this client: by its token, else by its address."""
        uploads = getattr(request.state, "uploads", 1)
        if wait := self.buckets.take(client_name(request), uploads):
            headers = {"Retry-After": str(max(1, math.ceil(wait))), **CLOSE}
            raise ProblemError("too-many", f"try again in {wait:.2f} s", headers=headers)

    def _check_monitor(self, request: Request) -> None:
        """Where there are tokens, /metrics takes the one named `metrics` alone."""
        if self.tokens is None or self.tokens.holder(request.headers.get("authorization")) == MONITOR:
            return
        raise _unauthorized(f"/metrics takes the token named {MONITOR!r}")


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(
        "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="sfumato"', **CLOSE}
    )
