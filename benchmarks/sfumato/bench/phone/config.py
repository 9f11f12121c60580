"""How a phone is measured: delegates, threads, runs and patience.

config = make_phone_config({"delegates": ("cpu", "nnapi"), "runs": 200})
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.bench.phone.protocol import SHARED
from sfumato.core.errors import UsageError, complaint


class PhoneConfig(BaseModel):
    """How it is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delegates: tuple[Literal["cpu", "nnapi", "gpu"], ...] = Field(
        default=("cpu", "nnapi", "gpu"), min_length=1
    )
    threads: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    """For the CPU; other delegates run once, with the first."""
    warmup: int = Field(default=50, ge=0)
    runs: int = Field(default=500, ge=10)
    sustained: int = Field(default=0, ge=0)
    """Seconds without a pause, after the burst."""
    patience: float = Field(default=120.0, gt=0)
    """Seconds that a configuration may take beyond its own running time."""
    poll: float = Field(default=0.5, gt=0)
    """Seconds between two looks for the result."""
    shared: str = SHARED
    """A folder on the phone that app and adb's shell read and write."""


def make_phone_config(values: dict[str, Any]) -> PhoneConfig:
    """A config from the command line.

    Raises:
        UsageError: a value is not allowed.
    """
    try:
        return PhoneConfig(**values)
    except ValidationError as error:
        raise UsageError(complaint(error)) from None
