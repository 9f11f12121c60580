"""Which networks of timm may be given as `--frozen-cloud NAME.onnx`: exported by PyTorch, read, compared, differentiated.

    python -m sfumato.bench.given_networks                                 # needs timm: pip install timm
    python -m sfumato.bench.given_networks --models resnet18,vit_tiny_patch16_224 --json
    python -m sfumato.bench.given_networks --out benchmarks/results/given-networks.json --page docs/given-networks.md

timm is no dependency of sfumato. Weights are drawn at random: what can be read does not depend on them, and nothing is fetched.
timm publishes no figures of use. The list takes, of the families that its documentation names first, the sizes in common use.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.bench.kept_rows import code_hash, fill, made_by, not_yet, page, present, versions
from sfumato.core.reports import Grid

SCHEMA = "sfumato-given/2"
COMMAND = "python -m sfumato.bench.given_networks --out benchmarks/results/given-networks.json --page docs/given-networks.md"
MODELS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "resnet50d"),
    *("seresnet50", "resnest50d", "res2net50_26w_4s", "regnety_016", "regnetx_032", "nf_resnet50"),
    *("vgg16", "densenet121", "inception_v3", "inception_v4", "xception41", "dpn68", "hrnet_w18"),
    *("mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100", "ghostnet_100", "mnasnet_100"),
    *("efficientnet_b0", "efficientnet_b3", "tf_efficientnet_b0", "tf_efficientnetv2_s", "mobilevit_s"),
    *("convnext_tiny", "convnextv2_nano", "vit_tiny_patch16_224", "vit_small_patch16_224"),
    *("vit_base_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_b16_224"),
    *("beit_base_patch16_224", "eva02_tiny_patch14_224"),
)
SMALL = 96
"""Height and width of the images, for networks that take any."""
CLASSES = {"answer": 10}
AGREES = 1e-3
"""Largest share of the largest logit by which answers may differ from timm's."""


@dataclass(frozen=True)
class Row:
    """What became of one network."""

    model: str
    size: int
    parameters: int
    read: bool
    words: str
    """Why it was refused; empty where it is read."""
    difference: float | None
    """Largest difference of a logit from timm's own, as a share of the largest logit; None where it is not read."""
    seconds: float


def try_network(name: str, folder: Path) -> Row:
    """Export a network as PyTorch does it by itself, with an open batch, and read it as a run would.

    Raises:
        ImportError: timm is not installed.
    """
    import timm  # type: ignore[import-not-found]
    import torch

    from sfumato.core.errors import SfumatoError, first_line
    from sfumato.models.onnx.given import read_given
    from sfumato.models.onnx.reader import check_parity, load_onnx

    began = time.perf_counter()
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, num_classes=CLASSES["answer"]).eval()
    draw_small(module)
    fixed = module.default_cfg.get("fixed_input_size", False)
    side = module.default_cfg["input_size"][-1] if fixed else max(SMALL, *_least(module))
    parameters, path, words = sum(value.numel() for value in module.parameters()), folder / "given.onnx", ""
    difference = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (torch.rand(2, 3, side, side),),
                path,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    except Exception as error:  # PyTorch's exporter raises many types
        words = f"PyTorch cannot export it: {first_line(Exception(*(error.__cause__ or error).args))[:80]}"
    if not words:
        try:
            content = read_given(path, CLASSES, (side, side))
            cloud = load_onnx(path, CLASSES, (side, side), content).eval()
            check_parity(cloud, path, (side, side), content)
            upload = torch.rand(3, 3, side, side, requires_grad=True)
            found = cloud(upload)["answer"]
            found.square().sum().backward()
            if upload.grad is None or not torch.isfinite(upload.grad).all() or not upload.grad.any():
                words = "no gradient reaches the upload"
            with torch.no_grad():
                wanted = module(upload)
            difference = float((found.detach() - wanted).abs().max() / wanted.abs().max())
            if not difference <= AGREES:
                words = f"its answers differ from timm's by {difference:.1e} of the largest"
        except SfumatoError as error:
            words = str(error).removeprefix(f"{path}: ")
    for file in folder.iterdir():
        file.unlink()
    return Row(name, side, parameters, not words, words, difference, time.perf_counter() - began)


def draw_small(module: Any) -> None:
    """Draw weights that begin at or near zero, such as a layer's factor or the last layer: else they would hide mistakes."""
    import torch

    with torch.no_grad():
        for value in module.parameters():
            if value.abs().max() < 1e-3:
                value.normal_(0, 0.1)


def _least(module: Any) -> tuple[int, ...]:
    return tuple(module.default_cfg.get("min_input_size") or (0,))[-1:]


def find_timm() -> Any:
    """timm, and which networks it has.

    Raises:
        SfumatoError: it is not installed, or does not load.
    """
    from sfumato.core.errors import SfumatoError, first_line

    try:
        import timm
    except ImportError:
        raise SfumatoError("timm is not installed: pip install timm") from None
    except Exception as error:  # torchvision of another build than torch fails in its own ways
        raise SfumatoError(
            f"timm does not load ({first_line(error)}): its torchvision must be of the same build as torch, "
            "for example both from https://download.pytorch.org/whl/cpu"
        ) from None
    return timm


def grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """The result for people."""
    cells = tuple(
        (
            row["model"],
            f"{row['size']} x {row['size']}",
            f"{row['parameters'] / 1e6:.1f}",
            "-" if row["difference"] is None else f"{row['difference']:.0e}",
            "yes" if row["read"] else row["words"].replace("|", "/"),
        )
        for row in rows
    )
    title = f"{sum(row['read'] for row in rows)} of {len(rows)} are read"
    return Grid(title, ("network", "images", "million parameters", "difference", "read, or why not"), cells)


def render(table: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    words = (
        "Networks of timm as `--frozen-cloud NAME.onnx`: exported as PyTorch does it by itself, with an open batch, then read, "
        "compared with onnxruntime and with timm, and asked for a gradient.",
        "Images are as small as the network allows, at least 96x96. Weights are drawn at random, classes are ten. Difference: "
        "the largest of a logit from timm's own, as a share of the largest logit. timm publishes no figures of use; these are "
        "the usual sizes of the families that its documentation names first.",
        made_by(table["made_with"]),
        *not_yet([name for name in MODELS if name not in table["rows"]]),
    )
    return page("Given cloud networks, read", COMMAND, words, [grid(list(table["rows"].values()))])


def main(
    models: Annotated[str, typer.Option(help="Names in timm, with commas; all of the list if empty.")] = "",
    out: Annotated[Path | None, typer.Option(help="JSON file; rows that it holds already stay.")] = None,
    page_file: Annotated[Path | None, typer.Option("--page", help="Markdown page to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Print which networks of timm are read."""
    from sfumato.core.errors import SfumatoError
    from sfumato.core.options import names
    from sfumato.models.onnx import given, operators, reader

    logging.disable(logging.CRITICAL)  # the exporter's remarks
    timm = find_timm()
    chosen = names(models) or MODELS
    for name in chosen:
        if not timm.is_model(name):
            raise SfumatoError(f"timm {timm.__version__} has no model {name!r}")
    with tempfile.TemporaryDirectory(prefix="sfumato-given-") as folder:
        result = fill(
            out,
            chosen,
            lambda name: asdict(try_network(name, Path(folder))),
            schema=SCHEMA,
            made_with={
                "timm": timm.__version__,
                **versions("torch", "onnx", "onnxruntime"),
                "code": code_hash([Path(str(one.__file__)) for one in (given, operators, reader)]),
            },
        )
    present(result, grid, render, page_file=page_file, as_json=as_json)


if __name__ == "__main__":
    from sfumato.core.errors import SfumatoError

    try:
        typer.run(main)
    except SfumatoError as error:
        typer.echo(f"sfumato: {error}", err=True)
        raise SystemExit(error.exit_code) from None
