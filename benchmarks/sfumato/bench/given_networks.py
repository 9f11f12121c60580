"""Which networks of timm may be given as `--frozen-cloud NAME.onnx`: exported by PyTorch, read, compared, differentiated.

    python -m sfumato.bench.given_networks                                 # needs timm: pip install timm
    python -m sfumato.bench.given_networks --models resnet18,vit_tiny_patch16_224 --json

timm is no dependency of sfumato. Weights are drawn at random: what can be read does not depend on them, and nothing is fetched.
timm publishes no figures of use. The list takes, of the families that its documentation names first, the sizes in common use.
"""

import logging
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

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


@dataclass(frozen=True)
class Row:
    """What became of one network."""

    model: str
    size: int
    parameters: int
    read: bool
    words: str
    """Why it was refused; empty where it is read."""
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
    fixed = module.default_cfg.get("fixed_input_size", False)
    side = module.default_cfg["input_size"][-1] if fixed else max(SMALL, *_least(module))
    parameters, path, words = sum(value.numel() for value in module.parameters()), folder / "given.onnx", ""
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
            upload = torch.rand(2, 3, side, side, requires_grad=True)
            cloud(upload)["answer"].square().sum().backward()
            if upload.grad is None or not torch.isfinite(upload.grad).all():
                words = "no gradient reaches the upload"
        except SfumatoError as error:
            words = str(error).removeprefix(f"{path}: ")
    for file in folder.iterdir():
        file.unlink()
    return Row(name, side, parameters, not words, words, time.perf_counter() - began)


def _least(module: Any) -> tuple[int, ...]:
    return tuple(module.default_cfg.get("min_input_size") or (0,))[-1:]


def main(
    models: Annotated[str, typer.Option(help="Names in timm, with commas; all of the list if empty.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Print which networks of timm are read."""
    from sfumato.core.console import emit_json, note, show, table
    from sfumato.core.errors import SfumatoError
    from sfumato.core.options import names

    logging.disable(logging.CRITICAL)  # the exporter's remarks
    rows = []
    try:
        import timm
    except ImportError:
        raise SfumatoError("timm is not installed: pip install timm") from None
    with tempfile.TemporaryDirectory(prefix="sfumato-given-") as folder:
        for name in names(models) or MODELS:
            if not timm.is_model(name):
                raise SfumatoError(f"timm {timm.__version__} has no model {name!r}")
            rows.append(try_network(name, Path(folder)))
            note(f"{name}: {rows[-1].words or 'read'} ({rows[-1].seconds:.0f} s)")
    if as_json:
        emit_json(
            {"schema": "sfumato-given/1", "timm": timm.__version__, "rows": [asdict(row) for row in rows]}
        )
        return
    cells = [
        (
            row.model,
            f"{row.size} x {row.size}",
            f"{row.parameters / 1e6:.1f}",
            "yes" if row.read else row.words,
        )
        for row in rows
    ]
    title = f"timm {timm.__version__}: {sum(row.read for row in rows)} of {len(rows)} are read"
    show(table(title, ("network", "images", "million parameters", "read"), cells))


if __name__ == "__main__":
    from sfumato.core.errors import SfumatoError

    try:
        typer.run(main)
    except SfumatoError as error:
        typer.echo(f"sfumato: {error}", err=True)
        raise SystemExit(error.exit_code) from None
