"""local.onnx and cloud.onnx.

The TorchScript exporter of torch is used on purpose: its graphs are small and hold neither stack traces nor paths, so two
exports are equal byte for byte. Every graph goes through ONNX's checker and shape inference before it is used.

    write_onnx(network, torch.zeros(1, 64, 64, 3), Path("local.onnx"), inputs=["image"], outputs=["p"])
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError

OPSET = 17


def write_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    batch: bool = False,
) -> None:
    """Trace a module and write it, checked, with all shapes inferred.

    Args:
        module: in evaluation mode; returns a tuple of tensors.
        example: an input of the right shape.
        path: where the file goes.
        inputs: names of the inputs.
        outputs: names of the outputs, in order.
        batch: leave the first dimension open.

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
                opset_version=OPSET,
                dynamic_axes=axes,
                dynamo=False,
            )
        model = onnx.shape_inference.infer_shapes(
            onnx.load_from_string(stream.getvalue()), check_type=True, strict_mode=True, data_prop=True
        )
        onnx.checker.check_model(model, full_check=True)
    except SfumatoError:
        raise
    except Exception as error:  # torch and onnx raise many types for what ONNX cannot say
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SfumatoError(f"{path.name} cannot be written: {reason[0]}") from None
    if {out.name for out in model.graph.output} != set(outputs):
        raise SfumatoError(
            f"{path.name} has the outputs {[out.name for out in model.graph.output]}, not {list(outputs)}"
        )
    path.write_bytes(model.SerializeToString(deterministic=True))


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
