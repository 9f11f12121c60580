"""Whichever TensorFlow Lite interpreter is installed, and its name.

ai-edge-litert, tflite-runtime and TensorFlow carry the same interpreter under three names. The first that is installed is
taken, in that order; `SFUMATO_RUNTIME` (`ai-edge-litert`, `tflite-runtime` or `tensorflow`) asks for one by name.

    session = open_model(path.read_bytes(), threads=1)
    outputs = session.run(pixels)
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError, first_line, unknown

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
"""Package -> module that holds its `Interpreter`."""


@dataclass(frozen=True)
class Runtime:
    """An interpreter class and where it comes from."""

    name: str
    version: str
    interpreter: Any
    without_xnnpack: Any
    """The resolver that leaves XNNPACK out."""


def find_runtime(name: str | None = None) -> Runtime:
    """The interpreter of this name, or the first that is installed.

    Raises:
        SfumatoError: the name is not known, or nothing is installed.
    """
    wanted = name or os.environ.get("SFUMATO_RUNTIME")
    if wanted is not None and wanted not in RUNTIMES:
        raise SfumatoError(unknown("runtime", wanted, RUNTIMES))
    for package in [wanted] if wanted else RUNTIMES:
        try:
            module = importlib.import_module(RUNTIMES[package])
            plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            return Runtime(package, version(package), module.Interpreter, plain)
        except (ImportError, PackageNotFoundError):
            continue
    what = wanted or "ai-edge-litert"
    line = {"tflite-runtime": "'sfumato[tflite-runtime]'", "tensorflow": "'sfumato[export]'"}.get(what, what)
    raise SfumatoError(f"{what} is not installed: pip install {line}")


@dataclass(frozen=True)
class Session:
    """A loaded model: tensors by name, one image at a time."""

    runtime: Runtime
    interpreter: Any
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]

    def run(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one image of the input's shape and type, (1, H, W, 3); outputs are copies, by name.

        The raw tensors: int8 stays int8.
        """
        (entry,) = self.inputs.values()
        self.interpreter.set_tensor(entry["index"], image)
        self.interpreter.invoke()
        return {name: self.interpreter.get_tensor(detail["index"]) for name, detail in self.outputs.items()}


def open_model(
    content: bytes, *, threads: int = 1, runtime: Runtime | None = None, xnnpack: bool = True
) -> Session:
    """Load a model from its bytes; without `xnnpack` the runtime's own kernels run it, for comparison.

    Raises:
        SfumatoError: nothing can run it, or it is no model.
    """
    found = runtime or find_runtime()
    try:
        options = {} if xnnpack else {"experimental_op_resolver_type": found.without_xnnpack}
        interpreter = found.interpreter(model_content=content, num_threads=threads, **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise SfumatoError(f"{found.name} cannot load this model: {first_line(error)}") from None
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return Session(
        found,
        interpreter,
        {entry["name"]: entry for entry in inputs},
        {entry["name"]: entry for entry in outputs},
    )
