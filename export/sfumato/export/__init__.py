"""Export: from a finished run to a bundle for the phone.

`pipeline.export` reads from top to bottom: `freeze` the network, write `onnx_files`, convert them (`tflite`, by our `lowering`
or by onnx2tf), `check` every model (lint, `parity`, `measure`), fine-tune for int8 where needed (`quant_finetune`), collect the
`gates`, write the `bundle`. `artifact` shows a bundle to the audit; `android` places it in the app.

    from sfumato.export import export, load_export
    contract = export("run", "export")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.export.artifact import ExportArtifact, load_export
    from sfumato.export.pipeline import export

__all__ = ["ExportArtifact", "export", "load_export"]

_MODULES = {"ExportArtifact": "artifact", "export": "pipeline", "load_export": "artifact"}


def __getattr__(name: str) -> Any:
    """PEP 562: a public name is imported when it is first asked for; TensorFlow and torch are heavy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
