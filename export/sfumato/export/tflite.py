"""ONNX -> the four TensorFlow Lite variants, in a process of its own.

TensorFlow's memory and its chatter stay in the child; it sees no network, and its folder is thrown away. Each back-end
turns local.onnx into one TensorFlow function; the variants are made from that function by TensorFlow's own converter.

    convert(network, Path("local.onnx"), images, ("float32", "int8"), Path("scratch"), backend="direct")
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.export import litert_conversion

if TYPE_CHECKING:
    from torch import nn

CALIBRATION, JOB, REPORT = "calibration.npy", "job.json", "conversion.json"
LITERT = "litert-torch"
"""The back-end that starts from PyTorch and lives in another environment (`litert_conversion`)."""
TIME_LIMIT = 900
"""Seconds after which a conversion is given up."""


def model_file(variant: str) -> str:
    """The file name of a variant."""
    return f"local_{variant}.tflite"


def convert(
    network: "nn.Module",
    model: Path,
    images: NDArray[np.uint8],
    variants: Sequence[str],
    out: Path,
    *,
    backend: str = "direct",
) -> dict[str, Any]:
    """Write `local_VARIANT.tflite` for each variant into `out`.

    Args:
        network: the module that ships, for back-ends that start from PyTorch.
        model: the same as local.onnx, NHWC in and out.
        images: (N, H, W, 3) calibration images; they must hold the values 0 and 255.
        variants: of float32, float16, dynamic, int8.
        out: a scratch folder; what else the converter leaves there is not part of the result.
        backend: a key of `BACKENDS`, or `litert-torch`.

    Returns:
        What the child reports: seconds for import and conversion.

    Raises:
        UsageError: an unknown back-end.
        SfumatoError: the conversion failed; its last line is quoted.
    """
    if backend not in (*BACKENDS, LITERT):
        raise UsageError(unknown("back-end", backend, (*BACKENDS, LITERT)))
    if images.min() != 0 or images.max() != 255:
        raise SfumatoError(
            "the calibration images must hold the exact values 0 and 255: they fix the image's scale"
        )
    np.save(out / CALIBRATION, images)
    job = {"model": str(model.resolve()), "variants": list(variants), "backend": backend}
    (out / JOB).write_text(json.dumps(job), encoding="utf-8")
    if backend == LITERT:
        import torch

        example = (torch.zeros(1, *images.shape[1:]),)
        torch.export.save(torch.export.export(network, example), out / litert_conversion.SOURCE)
        command = [litert_python(), litert_conversion.__file__]
    else:
        command = [sys.executable, "-m", "sfumato.export.tflite"]
    run_child(command, out, backend)
    report: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
    return report


def litert_python() -> str:
    """The interpreter of litert-torch's own environment.

    Raises:
        SfumatoError: it is not named, or not there.
    """
    path = os.environ.get("SFUMATO_LITERT_PYTHON", "")
    if not Path(path).is_file():
        raise SfumatoError(
            "litert-torch lives in an environment of its own: python3.11 -m venv litert && litert/bin/pip install "
            "-r requirements/litert.txt, then set SFUMATO_LITERT_PYTHON=litert/bin/python"
        )
    return path


def run_child(command: Sequence[str], folder: Path, backend: str) -> None:
    """Run a converter in `folder`, quietly.

    Raises:
        SfumatoError: it failed or took too long.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)
        if command[0] == sys.executable
        else "",
        # onnx2tf calls `onnxsim` by name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",  # onnx2tf prints more than ASCII, whatever the locale
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SfumatoError(f"the conversion took longer than {TIME_LIMIT} s and was given up") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SfumatoError(f"the conversion to TensorFlow Lite failed ({backend}): {lines[-1]}")


def direct(model: Path) -> Callable[[Any], dict[str, Any]]:
    """Our own lowering: nothing is guessed, unknown operators are refused."""
    import onnx

    from sfumato.export.lowering import lower

    return lower(onnx.load(model))


def onnx2tf(model: Path) -> Callable[[Any], dict[str, Any]]:
    """onnx2tf, offline: it wants a file of sample images in the working folder and would fetch it otherwise."""
    import onnx
    import onnx2tf as converter
    import tensorflow as tf

    from sfumato.export.lowering import order_planes

    images = np.load(CALIBRATION)
    picks = np.resize(images, (20, *images.shape[1:])).astype(np.float32) / 255
    rows, columns = (np.arange(128) * n // 128 for n in images.shape[1:3])
    sample = picks[:, rows][:, :, columns]
    np.save("calibration_image_sample_data_20x128x128x3_float32.npy", sample)
    graph = onnx.load(model)
    order_planes(graph)  # CRD becomes six-dimensional transpositions
    turn_channels_first(graph)
    convolve_products(graph)
    rename_additions(graph)
    onnx.save(graph, "onnx2tf.onnx")
    tf.add_n = lambda inputs, name=None: functools.reduce(
        tf.add, inputs
    )  # else ADD_N, which no delegate knows
    names = [out.name for out in graph.graph.output]
    made = converter.convert(
        input_onnx_file_path="onnx2tf.onnx",
        output_folder_path="onnx2tf",
        non_verbose=True,
        disable_model_save=True,
    )

    def function(image: Any) -> dict[str, Any]:
        outputs = made(image)
        return dict(zip(names, outputs if isinstance(outputs, list) else [outputs], strict=True))

    return function


def turn_channels_first(model: Any) -> None:
    """Take the permutations at the edges of a graph away: onnx2tf expects channels first and makes channels last of them.

    Left in, they are kept wherever no convolution follows at once: with several bit planes two TRANSPOSE remained.
    """
    graph, names = model.graph, {}
    ends = {entry.name for entry in (*graph.input, *graph.output)}
    edges = [
        node for node in graph.node if node.op_type == "Transpose" and ends & {*node.input, *node.output}
    ]
    for node in edges:
        inner, outer = node.output[0], node.input[0]
        names.update({inner: outer} if outer in ends else {outer: inner})
        graph.node.remove(node)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    for entry in (*graph.input, *graph.output):
        axes = entry.type.tensor_type.shape.dim
        height, width, planes = (axis.dim_value for axis in axes[1:])
        for axis, size in zip(axes[1:], (planes, height, width), strict=True):
            axis.dim_value = size
    del graph.value_info[:]


def convolve_products(model: Any) -> None:
    """Let `(image - a) * b` be one depthwise convolution of size 1, as our own lowering does (`packed_planes.Affine`).

    Left as SUB and MUL, the quantiser gives the difference the scale of the product: of an 8-bit image, 5 bits remain.
    """
    import onnx
    from onnx import numpy_helper

    from sfumato.export.lowering import find_affine, sort_out

    graph = model.graph
    (image,) = graph.input
    planes = image.type.tensor_type.shape.dim[1].dim_value
    products = find_affine(*sort_out(graph))
    for index, node in enumerate(graph.node):
        source, offset, factor = products.get(node.output[0], ("", 0.0, 0.0))
        if source != image.name:
            continue
        stored = {
            f"{node.output[0]}.weight": np.full((planes, 1, 1, 1), factor, np.float32),
            f"{node.output[0]}.bias": np.full(planes, -offset * factor, np.float32),
        }
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
        convolution = onnx.helper.make_node(
            "Conv", [source, *stored], list(node.output), name=node.name, group=planes, kernel_shape=[1, 1]
        )
        graph.node.remove(node)
        graph.node.insert(index, convolution)
    used = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
    for node in [node for node in graph.node if not used & set(node.output)]:
        graph.node.remove(node)


def rename_additions(model: Any) -> None:
    """Let every `Add` of two computed tensors be a `Sum` of two, which is the same.

    onnx2tf compares an addition's NHWC shape with the NCHW one of ONNX, takes the difference for a mistake and transposes;
    the layout of the next operator is then misread, and depthwise convolutions become grouped ones. A `Sum` it leaves alone.
    """
    stored = {entry.name for entry in model.graph.initializer}
    stored |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Add" and not stored & set(node.input):
            node.op_type = "Sum"


BACKENDS: dict[str, Callable[[Path], Callable[[Any], dict[str, Any]]]] = {
    "direct": direct,
    "onnx2tf": onnx2tf,
}


def write_variant(variant: str, function: Any, images: NDArray[np.uint8]) -> bytes:
    """One TensorFlow Lite file from a concrete function."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":

        def representative() -> Iterator[list[NDArray[np.float32]]]:
            for image in images:
                yield [image[None].astype(np.float32) / np.float32(255)]

        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def main() -> None:
    """The child: read the job from the working folder, write the variants and the report."""
    started = time.monotonic()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    job = json.loads(Path(JOB).read_text(encoding="utf-8"))
    images = np.load(CALIBRATION)
    function = BACKENDS[job["backend"]](Path(job["model"]))
    imported = time.monotonic()
    shape = [1, *images.shape[1:]]
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    for variant in job["variants"]:
        Path(model_file(variant)).write_bytes(write_variant(variant, concrete, images))
    report = {
        "backend": job["backend"],
        "seconds_import": round(imported - started, 2),
        "seconds": round(time.monotonic() - imported, 2),
    }
    Path(REPORT).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
