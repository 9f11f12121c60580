"""The result file of every benchmark, field by field (docs/benchmarks.md): `sfumato-bench/1`.

One form for all targets; null stands where a target cannot know a value. Other programs read these files: fields are added,
never renamed.

    results = read_results(Path("benchmarks/results/host.json"))
    results.rows[0].p50_ms
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.core.errors import SfumatoError, complaint
from sfumato.core.files import read_json, write_json

SCHEMA = "sfumato-bench/1"
RAW = "interpreter alone"
"""The stage that runs the network and nothing else."""
Target = Literal["host", "arm", "phone", "training", "cryptographic"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Window(_Frozen):
    """A second of sustained running on a phone."""

    runs: int
    p50_ms: float
    p90_ms: float
    thermal: int | None
    """0 none .. 6 shutdown; null below Android 10."""


class LayerTime(_Frozen):
    """One operator of a model, with the paddings that run inside it."""

    name: str
    shape: tuple[int, ...]
    """Of its output."""
    macs: int
    bytes: int
    """Read and written."""
    ms: float
    """What it adds to a run that ends here; within noise it can fall below zero."""
    shortest_ms: float
    """What this machine could do it in; see `Machine`."""


class ToolTimes(_Frozen):
    """What LiteRT's own `benchmark_model` measured in the same configuration, in milliseconds; its percentiles are its own."""

    sha256: str
    """Of the tool, which does not print its version."""
    runs: int
    init_ms: float
    first_ms: float
    warmup_ms: float
    """Mean of the warm-up, the first run included."""
    avg_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    p5_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    """Null where the tool is too old to print them."""


class Energy(_Frozen):
    """What a run takes on a phone, by its own power rails, in millijoules; measured apart from the times."""

    source: str
    """Who read the rails."""
    run_mj: float
    """Of the rails that feed processors, while runs follow each other without a pause."""
    above_idle_mj: float
    """The same without what these rails take while nothing runs."""
    idle_mw: float
    """What they take then, in milliwatts."""
    rails_mj: dict[str, float]
    """By rail, of all that rose, memory and screen among them."""
    runs: int
    """Over which it is a mean."""
    seconds: float


class Measurement(_Frozen):
    """One model in one configuration."""

    subject: str
    """`sfumato`, or the name of another method."""
    variant: str
    """float32, float16, dynamic or int8."""
    size: tuple[int, int]
    """(height, width) of the image in pixels."""
    runtime: str
    """Name and version of the interpreter."""
    delegate: str
    """`xnnpack`, `none`, `nnapi`, `gpu` or `npu`."""
    threads: int
    cpu: str | None = None
    """The emulated core, target arm."""
    app: bool | None = None
    """Target phone: measured by the demo app (true), or by a program that adb's shell ran (false)."""
    nodes: int | None = None
    """Nodes of the model's graph."""
    delegated_nodes: int | None = None
    """Nodes that the delegate took."""
    partitions: int | None = None
    """Pieces the delegate made of them; 1 means that nothing lies between."""

    init_ms: float | None = None
    """From the model's bytes to an interpreter with allocated tensors, in a fresh process."""
    first_ms: float | None = None
    """The first run of that process."""
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    runs: int | None = None
    """Timed runs; target arm: runs that were counted."""
    round_p50_ms: tuple[float, ...] = ()
    """Median of each interleaved round: what the machine's noise does to a median."""
    peak_kb: int | None = None
    """Largest resident memory of a fresh process that runs this model, less what the same process held before."""
    sustained: tuple[Window, ...] = ()
    thermal: tuple[int | None, int | None] | None = None
    """Thermal status before and after."""
    celsius: tuple[float | None, float | None] | None = None
    """The hottest sensor of the processor before and after, without the app."""
    energy: Energy | None = None
    """On a phone, where it was asked for and the phone has power rails."""
    benchmark_model: ToolTimes | None = None
    """The same model by LiteRT's own tool, where one was given."""

    params: int
    """Weights and biases."""
    macs: int
    """Multiply-accumulates of one image."""
    bytes: int
    """Of the file."""
    sha256: str
    """Of the file."""
    gmac_per_s: float | None = None
    roofline_fraction: float | None = None
    """Shortest time this machine allows for the layers, over the median; see `Machine`."""

    layers: tuple[LayerTime, ...] = ()
    """Where the time of one run goes."""

    instructions: int | None = None
    """Executed A64 instructions of one run."""
    classes: dict[str, int] | None = None
    """The same by class; classes overlap as docs/benchmarks.md says."""
    output_sha256: str | None = None
    """Of all output bytes for the standard input."""
    same_as_host: bool | None = None
    """Whether this computer's interpreter gives the same bytes."""
    valid: bool = True
    notes: tuple[str, ...] = ()
    """What a reader has to know; what makes a row invalid stands here too."""


class Stage(_Frozen):
    """A step between photo and upload."""

    name: str
    p50_ms: float | None = None
    p90_ms: float | None = None
    runs: int | None = None
    cpu: str | None = None
    instructions: int | None = None
    classes: dict[str, int] | None = None


class Machine(_Frozen):
    """What this machine can do at most, measured with the same runtime, one thread."""

    int8_gmac_per_s: float
    """Of the fastest of several convolutions of size 1."""
    float32_gmac_per_s: float
    copy_gb_per_s: dict[str, float]
    """Bytes read plus bytes written, by size of the buffer in KiB."""


class Speed(_Frozen):
    """One step of training or one audit."""

    name: str
    images_per_s: float | None = None
    seconds: float
    """Of one step, in processor time, or of the whole audit in wall time. Files up to 0.2 have steps in wall time."""
    runs: int
    round_seconds: tuple[float, ...] = ()
    """Median of each interleaved round."""
    parts: dict[str, float] = {}
    """Share of the time by part."""


class Inference(_Frozen):
    """One way in which phone and provider find the answer for a photo together."""

    method: str
    """`plain`, `ckks`, `two-party` or `sfumato`."""
    network: str
    """What was computed; the same name is the same weights."""
    size: tuple[int, int]
    """(height, width) of the image in pixels."""
    params: int
    macs: int
    """Of one image; `sfumato`: of the cloud network, without the phone's."""
    images: int
    """Test images answered, one at a time."""
    accuracy: float
    ci95: tuple[float, float]
    same_answers: float | None = None
    """Share of the images with the answer of the plain row of this network."""
    largest_difference: float | None = None
    """Of any logit from the plain row's."""
    p50_ms: float
    """From the pixels on the phone to the answer."""
    p90_ms: float
    cpu_ms: float
    """Median processor time of all processes together."""
    stages: tuple[Stage, ...] = ()
    """Parts of that time."""
    times_plain: float | None = None
    """Median over that of the plain row of this network; `sfumato`: of its cloud network alone."""
    sent_bytes: float
    """By the phone to all others, mean of an image, without headers of the transport."""
    received_bytes: float
    once_bytes: int = 0
    """Both ways, before the first image: keys, or shares of the weights."""
    once_ms: float = 0.0
    provider_learns: str
    """About photo and answer."""
    assumes: str
    not_promised: str


class Failure(_Frozen):
    """A configuration that gave no result."""

    what: str
    reason: str


class Results(_Frozen):
    """The whole file."""

    schema_: Literal["sfumato-bench/1"] = Field(default="sfumato-bench/1", alias="schema")
    target: Target
    environment: dict[str, Any]
    """Versions and state of the code, and of the machine, emulator or phone."""
    rows: tuple[Measurement, ...] = ()
    stages: tuple[Stage, ...] = ()
    machine: Machine | None = None
    speeds: tuple[Speed, ...] = ()
    inferences: tuple[Inference, ...] = ()
    failures: tuple[Failure, ...] = ()
    settings: dict[str, Any] = {}
    """How it was measured: rounds, runs, seconds."""

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)


def write_results(results: Results, path: Path) -> None:
    """Write a result file, whole or not at all."""
    write_json(path, results.to_json())


def read_results(path: Path) -> Results:
    """Read a result file.

    Raises:
        SfumatoError: missing, damaged, or of another schema.
    """
    values = read_json(path)
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise SfumatoError(f"{path} has schema {schema!r}; this version reads {SCHEMA}")
    try:
        return Results.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{path}: {complaint(error)}") from None
