"""How a phone is measured: delegates, threads, runs and patience.

config = make_config(PhoneConfig, {"delegates": ("cpu", "nnapi"), "runs": 200})
"""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.bench.arm.toolbox import APP_RUNTIME, RUNTIMES
from sfumato.bench.phone.protocol import SHARED
from sfumato.core.errors import UsageError, complaint, unknown

Config = TypeVar("Config", bound=BaseModel)


class _Common(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    """For the CPU; other delegates run once, with the first."""
    warmup: int = Field(default=50, ge=0)
    runs: int = Field(default=500, ge=10)
    sustained: int = Field(default=0, ge=0)
    """Seconds without a pause, after the burst."""
    patience: float = Field(default=120.0, gt=0)
    """Seconds that a configuration may take beyond its own running time."""


class PhoneConfig(_Common):
    """By the demo app, whose timed runs end after ten seconds."""

    delegates: tuple[Literal["cpu", "nnapi", "gpu", "npu"], ...] = Field(
        default=("cpu", "gpu", "npu"), min_length=1
    )
    """The default is what the app's default flavour has; its flavour nnapi has cpu, nnapi and gpu."""
    energy: bool = False
    """Measure what a run takes, too."""
    energy_seconds: tuple[int, int] = (5, 25)
    """Without a pause, the shorter and the longer time whose difference is taken."""
    idle_seconds: float = Field(default=10.0, gt=0)
    """Before that, while nothing runs."""
    poll: float = Field(default=0.5, gt=0)
    """Seconds between two looks for the result."""
    shared: str = SHARED
    """A folder on the phone that app and adb's shell read and write."""


class NoAppConfig(_Common):
    """Without the app, on the CPU."""

    seconds: float = Field(default=10.0, gt=0)
    """The timed runs end after so long."""
    runtime: str = APP_RUNTIME
    """A release of ai-edge-litert, one of `RUNTIMES`."""
    folder: str = "/data/local/tmp/sfumato-bench"
    """On the phone: made, used and removed; adb may write and run programs there."""


def make_config(kind: type[Config], values: dict[str, Any]) -> Config:
    """A config from the command line.

    Raises:
        UsageError: a value is not allowed.
    """
    if values.get("runtime", APP_RUNTIME) not in RUNTIMES:
        raise UsageError(unknown("runtime", str(values["runtime"]), RUNTIMES))
    try:
        return kind(**values)
    except ValidationError as error:
        raise UsageError(complaint(error)) from None
