"""Times an audit from outside: it tells a `Watch` what it begins, and the processor's clock is read there.

cost = measure(Path("runs/mine"), "default")
cost.seconds, cost.pieces
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfumato.audit import audit
from sfumato.audit.artifact import Artifact
from sfumato.audit.plan import BASIC, DEFAULT, Plan, create_plan
from sfumato.core.console import note

BEFORE = DEFAULT.model_copy(
    update={
        "name": "before",
        "attacks": (*BASIC, "average", "pairs"),
        "probes": ("linear", "cnn", "resnet", "mobilenet", "vit"),
        "clean_probes": ("cnn", "resnet", "mobilenet"),
        "rates": (1e-3, 3e-3),
        "provider_rates": (3e-4, 2e-3),
        "epochs": 15,
        "clean_epochs": 15,
        "provider_epochs": 10,
        "steps": 500,
        "clean_steps": 500,
        "rounds": 1,
        "clean_rounds": 1,
        "from_clean": False,
        "separate": True,
        "repeats": (4, 16, 64),
        "average_networks": (4,),
        "pairs": (100, 1000),
        "decoder_steps": 300,
        "retrain_restored": True,
        "control": False,
        "compose": False,
    }
)
"""The default audit of version 0.1 (commit 0dccbd0), as today's code runs it: every network is trained to the end."""


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
    accuracy: float
    accuracy_ci95: tuple[float, float]
    nag: float
    """Over the label-only floor."""
    nag_ci95: tuple[float, float]


@dataclass(frozen=True)
class Cost:
    """What an audit took, and what it found for it."""

    seconds: float
    pieces: tuple[tuple[str, float], ...]
    """(piece of work, seconds), the longest first."""
    verdict: str
    found: tuple[Found, ...]


def measure(
    artifact: Path | Artifact,
    attacks: str | Plan,
    *,
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    folds: int = 1,
    screened: bool = True,
) -> Cost:
    """Audit an artifact and time it; nothing is written into its folder, and no cache is read or left behind.

    Args:
        artifact: a run or an export, or its folder.
        attacks: a plan or its name.
        attributes: what is attacked; by default as in any audit.
        seed: of the audit.
        folds: of the audit.
        screened: whether the best few attacks of the first fold run in the others; else all.

    Raises:
        SfumatoError: as `sfumato.audit.audit`.
    """
    plan = create_plan(attacks) if isinstance(attacks, str) else attacks
    plan = plan if screened else plan.model_copy(update={"survivors": 0})
    before = os.environ.get("SFUMATO_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SFUMATO_CACHE"] = folder
        try:
            clock = Clock()
            result = audit(
                artifact, plan, attributes=attributes, seed=seed, folds=folds, out=folder, watch=clock
            )
            clock(1, 1, "", "")
        finally:
            os.environ.pop("SFUMATO_CACHE")
            if before is not None:
                os.environ["SFUMATO_CACHE"] = before
    pieces = sorted(clock.pieces.items(), key=lambda one: -one[1])
    found = [
        Found(
            name=one.name,
            attack=f"{one.best.attack}, {one.best.architecture}",
            bits=one.leak_bits_lower,
            auc=one.best.auc,
            accuracy=one.best.accuracy,
            accuracy_ci95=one.best.ci95,
            nag=one.nag_label_only,
            nag_ci95=one.nag_label_only_ci95,
        )
        for one in result.attributes
    ]
    return Cost(sum(clock.pieces.values()), tuple(pieces), result.verdict, tuple(found))
