"""bench.json of the demo app's benchmark activity, as docs/benchmarks.md describes it, and how the activity is started.

result = parse_result(content)
result.runs_ns
"""

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.core.errors import SfumatoError, complaint

SCHEMA = "sfumato-phone/1"
PACKAGE, ACTIVITY = "dev.sfumato.demo", ".BenchmarkActivity"
FOLDER, RESULT = "bench", "bench.json"
"""In the folder that app and shell share."""
SHARED = f"/sdcard/Android/media/{PACKAGE}"
"""That folder: neither needs `run-as` for it, which wants a debuggable build (BenchmarkActivity.kt says why this one)."""
LOGGED_AS = {"cpu": "TfLiteXNNPackDelegate", "nnapi": "TfLiteNnapiDelegate", "gpu": "TfLiteGpuDelegate"}
"""Delegate -> how its name begins in TensorFlow Lite's log; that of the GPU goes on with V2. The NPU has no line of its own."""


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class PhoneWindow(_Open):
    """A second without a pause."""

    runs: int
    p50_ns: int
    p90_ns: int
    thermal: int | None = None


class Sustained(_Open):
    """Running without a pause."""

    seconds: float
    windows: tuple[PhoneWindow, ...]


class PhoneStages(_Open):
    """Nanoseconds of each step between photo and upload, run by run."""

    decode_ns: tuple[int, ...]
    resize_ns: tuple[int, ...]
    network_ns: tuple[int, ...]
    noise_ns: tuple[int, ...]
    sampler_ns: tuple[int, ...]
    encode_ns: tuple[int, ...]


class Thermal(_Open):
    """Thermal status, 0 .. 6."""

    before: int | None = None
    after: int | None = None


class PhoneResult(_Open):
    """The whole file."""

    id: str
    status: Literal["done", "failed"]
    error: str | None = None
    sha256: str = ""
    runtime: str = "unknown"
    nodes: int | None = None
    delegated_nodes: int | None = None
    partitions: int | None = None
    fully_accelerated: bool = False
    """The runtime compiled the model for the accelerator alone: no node is left to the CPU."""
    init_ms: float | None = None
    first_ms: float | None = None
    runs_ns: tuple[int, ...] = ()
    sustained: Sustained | None = None
    stages: PhoneStages | None = None
    output_sha256: str | None = None
    thermal: Thermal = Thermal()
    battery: Mapping[str, float | bool | None] | None = Field(default=None)
    peak_kb: int | None = None
    foreground: bool = True
    app: str = "unknown"


def parse_result(content: bytes) -> PhoneResult:
    """Read a result.

    Raises:
        SfumatoError: not the file of the protocol.
    """
    try:
        values = json.loads(content)
    except ValueError as error:
        raise SfumatoError(f"the app's {RESULT} is not valid JSON ({error}): update the app") from None
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise SfumatoError(f"the app's {RESULT} has schema {schema!r}, expected is {SCHEMA}: update the app")
    try:
        result = PhoneResult.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"the app's {RESULT}: {complaint(error)}: update the app") from None
    if result.status == "done" and not result.runs_ns:
        raise SfumatoError(f"the app's {RESULT} says done and holds no runs: update the app")
    return result


def start_command(extras: Mapping[str, str | int]) -> list[str]:
    """What starts the activity on the phone."""
    words = ["am", "start", "-W", "-S", "-n", f"{PACKAGE}/{ACTIVITY}"]
    for name, value in extras.items():
        words += ["--ei" if isinstance(value, int) else "--es", name, str(value)]
    return words
