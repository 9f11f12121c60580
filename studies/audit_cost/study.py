"""Times an audit from outside: it tells a `Watch` what it begins, and the processor's clock is read there.

cost = measure(Path("runs/mine"), "default")
cost.seconds, cost.pieces
"""

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from sfumato.audit import audit
from sfumato.audit.artifact import Artifact
from sfumato.audit.plan import Plan
from sfumato.core.console import note


@dataclass
class Clock:
    """Processor seconds between the calls of a `Watch`, by what was begun."""

    pieces: dict[str, float] = field(default_factory=dict)
    title: str = "load"
    since: float = field(default_factory=time.process_time)

    def __call__(self, done: int, total: int, title: str, best: str) -> None:
        """The next piece begins."""
        now = time.process_time()
        note(f"{now - self.since:8.1f} s  {self.title}")
        self.pieces[self.title] = self.pieces.get(self.title, 0.0) + now - self.since
        self.title, self.since = title, now


@dataclass(frozen=True)
class Found:
    """The best attack on one attribute: an audit that costs less must not find less."""

    name: str
    attack: str
    bits: float
    """Entropy less cross entropy, never below 0."""
    auc: float


@dataclass(frozen=True)
class Cost:
    """What an audit took, and what it found for it."""

    seconds: float
    pieces: tuple[tuple[str, float], ...]
    """(piece of work, seconds), the longest first."""
    verdict: str
    found: tuple[Found, ...]


def measure(artifact: Path | Artifact, attacks: str | Plan, *, seed: int = 0) -> Cost:
    """Audit an artifact and time it; nothing is written into its folder, and no cache is read or left behind.

    Args:
        artifact: a run or an export, or its folder.
        attacks: a plan or its name.
        seed: of the audit.

    Raises:
        SfumatoError: as `sfumato.audit.audit`.
    """
    before = os.environ.get("SFUMATO_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SFUMATO_CACHE"] = folder
        try:
            clock = Clock()
            result = audit(artifact, attacks, seed=seed, out=folder, watch=clock)
            clock(1, 1, "", "")
        finally:
            os.environ.pop("SFUMATO_CACHE")
            if before is not None:
                os.environ["SFUMATO_CACHE"] = before
    pieces = sorted(clock.pieces.items(), key=lambda one: -one[1])
    found = [
        Found(one.name, f"{one.best.attack}, {one.best.architecture}", one.leak_bits_lower, one.best.auc)
        for one in result.attributes
    ]
    return Cost(sum(clock.pieces.values()), tuple(pieces), result.verdict, tuple(found))
