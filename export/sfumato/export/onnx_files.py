"""local.onnx and cloud.onnx.

torch's TorchScript exporter is used on purpose. Its graphs are small and hold neither stack traces nor paths, so two exports
are equal byte for byte. Every graph passes ONNX's checker and shape inference before it is used.

    write_local(network, (64, 64), Path("local.onnx"))
    gap = write_cloud(run, Path("cloud.onnx"))
"""

import io
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose, version_converter
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError, first_line
from sfumato.core.onnx_heads import match_heads
from sfumato.core.onnx_session import open_session
from sfumato.export.freeze import AnswerPhone, PhoneNetwork
from sfumato.export.onnx_graph import merge_pads
from sfumato.models.restorer import Restorer, RestoringReader
from sfumato.runtime.answer import word_image
from sfumato.training.clean import ONNX_COPY
from sfumato.training.run import AnswerRun, Run

OPSET = 17
LATEST = 20
"""The latest opset that the TorchScript exporter writes."""


def write_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    batch: bool = False,
    opset: int = OPSET,
) -> None:
    """Trace a module and write it, checked, with all shapes inferred.

    Args:
        module: in evaluation mode; returns a tuple of tensors.
        example: an input of the right shape.
        path: where the file goes.
        inputs: names of the inputs.
        outputs: names of the outputs, in order.
        batch: leave the first dimension open.
        opset: up to `LATEST`.

    Raises:
        SfumatoError: the module is in training mode, or cannot be expressed in ONNX.
    """
    if any(part.training for part in module.modules()):
        raise SfumatoError("a module in training mode cannot be exported: call eval() first")
    stream = io.BytesIO()
    axes = {name: {0: "batch"} for name in (*inputs, *outputs)} if batch else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                stream,  # type: ignore[arg-type]
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=opset,
                dynamic_axes=axes,
                dynamo=False,
            )
        traced = onnx.load_from_string(stream.getvalue())
        if not batch:  # a phone's network, which is converted further
            merge_pads(traced)
        model = onnx.shape_inference.infer_shapes(traced, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # torch and onnx raise many types for what ONNX cannot say
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SfumatoError(f"{path.name} cannot be written: {reason[0]}") from None
    check_onnx(model, path.name, shape=(None if batch else len(example), *example.shape[1:]), outputs=outputs)
    path.write_bytes(model.SerializeToString(deterministic=True))


def check_onnx(
    model: onnx.ModelProto, name: str, *, shape: Sequence[int | None], outputs: Sequence[str]
) -> None:
    """Refuse a graph that ONNX's checker refuses, or whose one input or whose outputs are others.

    Args:
        model: the graph.
        name: what an error calls it.
        shape: of the input; None is an open dimension.
        outputs: names, in any order.

    Raises:
        SfumatoError: one of these differs.
    """
    run_checker(model, name)
    found = [
        [axis.dim_value or None for axis in entry.type.tensor_type.shape.dim] for entry in model.graph.input
    ]
    if found != [list(shape)]:
        raise SfumatoError(f"{name} takes inputs of the shapes {found}, not {[list(shape)]}")
    names = [out.name for out in model.graph.output]
    if set(names) != set(outputs):
        raise SfumatoError(f"{name} has the outputs {names}, not {list(outputs)}")


def run_checker(model: onnx.ModelProto, name: str) -> None:
    """ONNX's own checker, with shape inference.

    Raises:
        SfumatoError: it refuses the graph.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker has several types for what it refuses
        raise SfumatoError(f"{name} does not pass ONNX's checker: {first_line(error)}") from None


def write_local(network: PhoneNetwork | AnswerPhone, size: tuple[int, int], path: Path) -> None:
    """Write a network as local.onnx: one image (1, H, W, planes) in, every output by its name.

    Raises:
        SfumatoError: as `write_onnx`.
    """
    write_onnx(network, torch.zeros(1, *size, network.planes), path, inputs=["image"], outputs=network.names)


def write_cloud(run: Run, path: Path) -> float:
    """Write the cloud network of a run and ask ONNX Runtime the same as PyTorch.

    A network that was given as ONNX is copied as it is. Behind a restorer it is the second half of the file.

    Returns:
        Largest difference of a logit.

    Raises:
        SfumatoError: the file does not pass ONNX's checker, or ONNX Runtime cannot load it.
    """
    heads, size = CloudHeads(run.cloud, run.keep), run.dataset.size
    example = torch.rand(2, run.channel.colours, *size, generator=torch.Generator().manual_seed(0))
    if run.config.given_onnx is not None and isinstance(run.cloud, RestoringReader):
        write_restored(run.cloud.restorer, run.folder / ONNX_COPY, example, path)
    elif run.config.given_onnx is not None:
        shutil.copyfile(run.folder / ONNX_COPY, path)
        run_checker(onnx.load(path), path.name)
    else:
        write_onnx(heads, example, path, inputs=["upload"], outputs=run.keep, batch=True)
    session = open_session(path)
    probe = probe_uploads(run)
    with torch.no_grad():
        expected = heads(probe)
    names = match_heads([output.name for output in session.get_outputs()], run.keep)
    found = session.run(list(names), {session.get_inputs()[0].name: probe.numpy()})
    return max(float(np.abs(a.numpy() - b).max()) for a, b in zip(expected, found, strict=True))


def write_restored(restorer: Restorer, given: Path, example: Tensor, path: Path) -> None:
    """Write a restorer and the given network behind it as one graph; of the given one nothing but names changes.

    Args:
        restorer: in evaluation mode.
        given: the file of the network.
        example: uploads.
        path: where the file goes.

    Raises:
        SfumatoError: as `write_onnx`, or the two cannot be put together.
    """
    second = onnx.load(given)
    opset = next(one.version for one in second.opset_import if one.domain in ("", "ai.onnx"))
    names = {"inputs": ["upload"], "outputs": ["restored"]}
    write_onnx(restorer, example, path, batch=True, opset=min(opset, LATEST), **names)
    try:
        first = onnx.load(path)
        if opset > LATEST:
            first = version_converter.convert_version(first, opset)
        first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
        # Two graphs may call different things alike: all that is inside the given one gets names of its own.
        second = compose.add_prefix(second, "given/", rename_inputs=False, rename_outputs=False)
        whole = compose.merge_models(first, second, io_map=[("restored", second.graph.input[0].name)])
    except Exception as error:  # onnx raises several types
        raise SfumatoError(f"{given.name} cannot stand behind a restorer: {first_line(error)}") from None
    run_checker(whole, path.name)
    path.write_bytes(whole.SerializeToString(deterministic=True))


def probe_uploads(run: Run) -> torch.Tensor:
    """Uploads that the cloud network is asked about, (B, 3, H, W) in 0..1: random bits, or in answer mode words.

    Random bits are no words: where half of a bit's cells are set, rounding decides what is read.
    """
    if not isinstance(run, AnswerRun):
        bits = torch.randint(
            0, 2, (16, run.channel.colours, *run.dataset.size), generator=torch.Generator().manual_seed(1)
        )
        return bits.float()
    words = np.unique(np.linspace(0, run.table.words - 1, 16).astype(int))
    shown = [word_image(int(word), run.table.words, *run.dataset.size) for word in words]
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float()


class CloudHeads(nn.Module):
    """The cloud network with its heads as a tuple, in the order of the kept attributes."""

    def __init__(self, cloud: nn.Module, heads: Sequence[str]) -> None:
        super().__init__()
        self.cloud = cloud
        self.heads = tuple(heads)
        self.eval()

    def forward(self, upload: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) in 0..1 -> logits per head, each (B, classes)."""
        logits = self.cloud(upload)
        return tuple(logits[name] for name in self.heads)
