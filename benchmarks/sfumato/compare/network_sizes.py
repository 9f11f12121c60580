"""What each method runs on the phone, twice: as we train and attack it, and as its paper has it.

`sfumato.compare.methods` keeps all methods within one budget: most networks are those of our own phone side, or the first
layers of the shared cloud network. `sfumato.bench.phone_networks` rebuilds the papers' networks at full size, untrained, and
measures what they cost. A price is therefore meaningless without saying which of the two it belongs to.

    rows = compare_sizes("synthetic,size=64", keep=("smiling",), hide=("skin",))
    rows[0].trained.macs, rows[0].paper
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sfumato.bench.phone_networks import PHONE_NETWORKS
from sfumato.compare.config import make_compare_config
from sfumato.compare.methods import METHODS, Task, create
from sfumato.core.reports import Grid
from sfumato.core.seeding import seed_everything
from sfumato.data import open_dataset
from sfumato.models.cost import Cost, cost
from sfumato.models.local import check_size
from sfumato.training.clean import make_cloud

SCHEMA = "sfumato-network-sizes/1"


@dataclass(frozen=True)
class Paper:
    """What a method's paper runs on the phone."""

    network: str | None
    """Key of `PHONE_NETWORKS`; None where the paper has no network there, or none was rebuilt."""
    difference: str
    """Why the network that we train differs, in one sentence."""


NO_NETWORK = Paper(None, "the same: no network on the phone")
PAPERS: Mapping[str, Paper] = {
    "raw": NO_NETWORK,
    "blur": Paper(None, "the same: a fixed filter, no network"),
    "pixelate": NO_NETWORK,
    "jpeg": NO_NETWORK,
    "webp": NO_NETWORK,
    "avif": NO_NETWORK,
    "gaussian": NO_NETWORK,
    "laplace": NO_NETWORK,
    "arden": Paper(
        "arden", "first layers of the shared cloud network; the paper has two convolutions of 64 planes"
    ),
    "shredder": Paper(
        None, "first layers of the shared cloud network, and 8 noise tensors; the paper cuts other networks"
    ),
    "cloak": Paper(None, "the same: one mean and one scale for each pixel, no network"),
    "deepobfuscator": Paper(
        "deepobfuscator",
        "first layers of the shared cloud network; the paper has four convolutions of 64 to 128 planes",
    ),
    "maxent-arl": Paper(
        None, "first layers of the shared cloud network; the paper's encoder was not rebuilt"
    ),
    "narl": Paper(None, "first layers of the shared cloud network; the paper's encoder was not rebuilt"),
    "mass": Paper(None, "the U-shaped network of our phone side; the paper's generator was not rebuilt"),
    "pass": Paper(
        None, "the encoder of our phone side and stored images; the paper's encoder was not rebuilt"
    ),
    "protective": Paper(
        "protective", "the U-shaped network of our phone side; the paper's U-Net has 32 to 512 planes"
    ),
    "infodecom-style": Paper(
        None, "first layers of the shared cloud network behind a filter; the paper's layers were not at hand"
    ),
    "on-phone": Paper(
        "mobilenet",
        "the widest of our encoders within our own MACs (10 times that in its other row); beside it, MobileNetV2 at width 0.35",
    ),
}
"""Method -> its paper. Every method of `METHODS` and every network of `PHONE_NETWORKS` stands here."""


@dataclass(frozen=True)
class NetworkSizes:
    """One method, both sizes for the same image size."""

    method: str
    trained: Cost
    """As trained and attacked by `sfumato compare`."""
    paper_network: str | None
    paper: Cost | None
    """As measured by `sfumato bench --networks`; None where there is no such network."""
    difference: str


def compare_sizes(data: str, *, keep: tuple[str, ...], hide: tuple[str, ...]) -> tuple[NetworkSizes, ...]:
    """Count parameters and multiply-accumulates of every method; nothing is trained.

    Args:
        data: data SPEC; its image size is that of all counts.
        keep: desired attributes.
        hide: attributes to hide; some methods have networks only for these.

    Raises:
        DataError: the data cannot be used.
        UsageError: an image size that is no multiple of 16; no attribute to hide.
    """
    config = make_compare_config({"data": data, "keep": keep, "hide": hide}).training()
    dataset = open_dataset(data, keep=keep, hide=hide)
    check_size(*dataset.size)
    seed_everything("network sizes")
    task = Task(config=config, dataset=dataset, clean=make_cloud(config, dataset).eval())
    return tuple(sizes_of(name, task) for name in METHODS)


def sizes_of(name: str, task: Task) -> NetworkSizes:
    """Both sizes of one method."""
    paper = PAPERS[name]
    network = None if paper.network is None else PHONE_NETWORKS[paper.network]().eval()
    return NetworkSizes(
        method=name,
        trained=create(name, task).cost(task.shape),
        paper_network=paper.network,
        paper=None if network is None else cost(network, task.shape),
        difference=paper.difference,
    )


def size_table(rows: tuple[NetworkSizes, ...]) -> Grid:
    """Both sizes of every method, for people."""
    columns = ("method", "parameters", "million MACs", "in the paper", "million MACs", "why they differ")
    return Grid(
        "on the phone, an image: as trained here, and as in the paper",
        columns,
        tuple((row.method, *_cells(row.trained), *_cells(row.paper), row.difference) for row in rows),
    )


def size_json(rows: tuple[NetworkSizes, ...], data: str) -> dict[str, Any]:
    """The same for programs."""
    return {"schema": SCHEMA, "data": data, "methods": [asdict(row) for row in rows]}


def _cells(size: Cost | None) -> tuple[str, str]:
    return ("-", "-") if size is None else (f"{size.parameters:,}", f"{size.macs / 1e6:.2f}")
