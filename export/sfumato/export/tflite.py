"""ONNX -> the four TensorFlow Lite variants, in a process of its own.

TensorFlow's memory and its chatter stay in the child; it sees no network, and its folder is thrown away. A back-end turns
local.onnx into a TensorFlow function, or two. TensorFlow's own converter makes the variants from them.

    models = convert(Path("local.onnx"), images, ("float32", "int8"))
    content = name_tensors(models["int8"], network.names)
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.files import save_array
from sfumato.core.local_constants import GAIN, MIDDLE_BYTE
from sfumato.export.ranges import quantise, with_ranges
from sfumato.runtime.tflite_graph import read_graph, rename

CALIBRATION, JOB = "calibration.npy", "job.json"
TIME_LIMIT = 900
"""Seconds after which a conversion is given up."""

LACKING = "TF Select ops:"
"""How TensorFlow's converter names operators that TensorFlow Lite has no kernels for."""

Function = Callable[[Any], dict[str, Any]]
"""A TensorFlow function: image (1, H, W, 3) in 0..1 -> outputs by name."""


class Functions(NamedTuple):
    """A network as TensorFlow functions."""

    plain: Function
    centred: Function | None = None
    """Of `centre(image)`, where the network looks at nothing else: its int8 model takes that, and the bytes stay the same."""


def centre(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the bytes of an int8 model mean that takes a centred picture: `GAIN * (x - MIDDLE_BYTE)` of x in 0..1.

    >>> [round(float(value), 4) for value in centre(np.array([0, 128, 255], np.float32) / np.float32(255))]
    [-4.0157, 0.0, 3.9843]
    """
    return np.float32(GAIN) * (pixels - np.float32(MIDDLE_BYTE))


def direct(model: Path, images: NDArray[np.uint8]) -> Functions:
    """Our own lowering: nothing is guessed, unknown operators are refused."""
    import onnx

    from sfumato.export.lowering import lower, lower_centred

    graph = onnx.load(model)
    return Functions(lower(graph), lower_centred(graph))


def second(model: Path, images: NDArray[np.uint8]) -> Functions:
    """onnx2tf, as a cross-check of ours."""
    from sfumato.export.onnx2tf_converter import onnx2tf

    return Functions(onnx2tf(model, images))


BACKENDS: dict[str, Callable[[Path, NDArray[np.uint8]], Functions]] = {"direct": direct, "onnx2tf": second}
"""Name of `--backend` -> local.onnx and calibration images to TensorFlow functions."""


def model_file(variant: str) -> str:
    """The file name of a variant."""
    return f"local_{variant}.tflite"


def convert(
    model: Path, images: NDArray[np.uint8], variants: Sequence[str], *, backend: str = "direct"
) -> dict[str, bytes]:
    """Convert local.onnx to TensorFlow Lite.

    Args:
        model: local.onnx, NHWC in and out.
        images: (N, H, W, 3) calibration images; they must hold the values 0 and 255.
        variants: of float32, float16, dynamic, int8.
        backend: a key of `BACKENDS`.

    Returns:
        The file of every variant, by variant.

    Raises:
        UsageError: an unknown back-end.
        SfumatoError: the images cannot calibrate, or the conversion failed; its last line is quoted.
    """
    if backend not in BACKENDS:
        raise UsageError(unknown("back-end", backend, BACKENDS))
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise SfumatoError(
            f"calibration images are (N, H, W, 3) or (N, H, W, 1) bytes, not {images.dtype} {images.shape}"
        )
    if images.min() != 0 or images.max() != 255:
        raise SfumatoError(
            "the calibration images must hold the exact values 0 and 255: they fix the image's scale"
        )
    job = {"model": str(model.resolve()), "variants": list(variants), "backend": backend}
    with tempfile.TemporaryDirectory(prefix="sfumato-convert-") as name:
        folder = Path(name)
        save_array(folder / CALIBRATION, images)
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        run_child([sys.executable, "-m", "sfumato.export.tflite"], folder, backend)
        return read_variants(folder, variants)


def read_variants(folder: Path, variants: Sequence[str]) -> dict[str, bytes]:
    """What a conversion left in its folder.

    Raises:
        SfumatoError: a variant is missing.
    """
    missing = [variant for variant in variants if not (folder / model_file(variant)).is_file()]
    if missing:
        raise SfumatoError(f"the conversion to TensorFlow Lite made no {model_file(missing[0])}")
    return {variant: (folder / model_file(variant)).read_bytes() for variant in variants}


def name_tensors(content: bytes, outputs: Sequence[str]) -> bytes:
    """Call the tensors at the ends of a model `image` and by the channel's names.

    TensorFlow returns a dictionary in alphabetical order; parity would show a mistake here.

    Raises:
        SfumatoError: the model has other inputs and outputs than the contract will say.
    """
    graph = read_graph(content)
    old = [tensor.name for tensor in (*graph.inputs, *graph.outputs)]
    new = ["image", *sorted(outputs)]
    if len(graph.inputs) != 1 or len(old) != len(new):
        raise SfumatoError(f"the converted model has the tensors {', '.join(old)}, not {', '.join(new)}")
    names = dict(zip(old, new, strict=True))
    named = rename(content, {before: after for before, after in names.items() if before != after})
    check_names(named, outputs)
    return named


def check_names(content: bytes, outputs: Sequence[str]) -> None:
    """Refuse a model whose tensors are not named as in the contract.

    Raises:
        SfumatoError: the input is not `image`, or the outputs are not these.
    """
    graph = read_graph(content)
    inputs, found = ([tensor.name for tensor in side] for side in (graph.inputs, graph.outputs))
    if inputs != ["image"] or set(found) != set(outputs):
        raise SfumatoError(
            f"the model's tensors are {', '.join([*inputs, *found])}, not {', '.join(['image', *outputs])}"
        )


def run_child(command: Sequence[str], folder: Path, backend: str) -> None:
    """Run a converter in `folder`, quietly.

    Raises:
        SfumatoError: it failed or took too long.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=child_environment(folder),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SfumatoError(f"the conversion took longer than {TIME_LIMIT} s and was given up") from None
    if done.returncode:
        raise SfumatoError(f"the conversion to TensorFlow Lite failed ({backend}): {last_words(done.stderr)}")


def child_environment(folder: Path) -> dict[str, str]:
    """Variables of a converter that works in `folder`."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # onnx2tf calls `onnxsim` by name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "PYTHONHASHSEED": "0",
        # Where it writes its settings as soon as it is imported.
        "KERAS_HOME": str(folder.resolve() / "keras"),
        "PYTHONUTF8": "1",  # onnx2tf prints more than ASCII, whatever the locale
    }


def last_words(chatter: str) -> str:
    """What a converter died of: operators that TensorFlow Lite lacks, named above a print of the graph, or its last line."""
    lines = chatter.strip().splitlines() or ["no message"]
    lacking = [line.removeprefix(LACKING).strip() for line in lines if line.startswith(LACKING)]
    return f"TensorFlow Lite has no {lacking[-1]}" if lacking else lines[-1]


def write_variant(variant: str, function: Any, images: NDArray[np.uint8], *, centred: bool = False) -> bytes:
    """One TensorFlow Lite file from a concrete function, which may take centred pictures."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":

        def pixels() -> Iterator[NDArray[np.float32]]:
            shown = (image[None].astype(np.float32) / np.float32(255) for image in images)
            return map(centre, shown) if centred else shown

        converter.representative_dataset = lambda: ([one] for one in pixels())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_calibrate_only = True  # its ranges are not all true
        return quantise(with_ranges(converter.convert(), pixels()))
    content: bytes = converter.convert()
    return content


def write_variants(
    functions: Functions, images: NDArray[np.uint8], variants: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Every variant of a network with its file, in this process."""
    import tensorflow as tf

    image = tf.TensorSpec([1, *images.shape[1:]], tf.float32, name="image")

    @cache
    def traced(function: Function) -> Any:
        # A lowering is a list of steps: AutoGraph would rewrite it for loops and branches over tensors, of which it has none.
        return tf.function(function, autograph=False).get_concrete_function(image)

    for variant in variants:
        special = functions.centred if variant == "int8" else None
        function = traced(special or functions.plain)
        yield variant, write_variant(variant, function, images, centred=special is not None)


def main() -> None:
    """The child: read the job from the working folder and write the variants."""
    job = json.loads(Path(JOB).read_text(encoding="utf-8"))
    load_tensorflow(job["backend"])
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    images = np.load(CALIBRATION)
    functions = BACKENDS[job["backend"]](Path(job["model"]), images)
    for variant, content in write_variants(functions, images, job["variants"]):
        Path(model_file(variant)).write_bytes(content)


def load_tensorflow(backend: str) -> None:
    """Import what a back-end needs: longer than most conversions take."""
    if backend == "direct":
        # TensorFlow imports Keras where it finds it, and Keras scikit-learn and Matplotlib: a third of its start, for nothing.
        sys.modules["keras"] = None  # type: ignore[assignment]
        import sfumato.export.lowering  # noqa: F401
    else:
        import onnx2tf  # noqa: F401


if __name__ == "__main__":
    main()
