"""ONNX Runtime on the processor, set up alike wherever a model is run.

session = open_session(Path("cloud.onnx"))
session.run(None, {"upload": uploads})
"""

from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError, first_line
from sfumato.core.files import read_bytes
from sfumato.core.onnx_content import refuse_external_data

FATAL = 4
"""ONNX Runtime's log level: what goes wrong is raised, and nothing else is printed."""


def open_session(model: Path | bytes, *, threads: int = 1, name: str = "") -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        model: an ONNX file, or its bytes.
        threads: of one operator. With one thread two runs give the same bits.
        name: what an error calls the model; by default the file's name.

    Raises:
        SfumatoError: ONNX Runtime is not installed, or cannot load the model, or its weights lie in another file.
    """
    onnxruntime = find_onnxruntime()
    if onnxruntime is None:
        raise SfumatoError("onnxruntime is not installed: pip install onnxruntime")
    shown = name or (model.name if isinstance(model, Path) else "the model")
    content = read_bytes(model) if isinstance(model, Path) else model
    refuse_external_data(content, shown)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a type of its own for every complaint
        raise SfumatoError(f"onnxruntime cannot load {shown}: {first_line(error)}") from None


def find_onnxruntime() -> Any:
    """The module, or None where it is not installed: a phone can do without."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return onnxruntime
