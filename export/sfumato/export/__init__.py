"""Export: from a finished run to a bundle for the phone.

`pipeline.export` reads from top to bottom: `freeze` the network, write `onnx_files`, convert them (`tflite`, by our `lowering`
or by onnx2tf, int8 by measured `ranges`), `check` every model (lint, `parity`, `measure`), fine-tune for int8 where needed
(`quant_finetune`), collect the `gates`, write the `bundle`. `artifact` shows a bundle to the audit; `android` places it in the
app.

    from sfumato.export import export, load_export
    contract = export("run", "export")
"""

from typing import TYPE_CHECKING

from sfumato.core.lazy import lazy_names

if TYPE_CHECKING:
    from sfumato.export.artifact import ExportArtifact, load_export
    from sfumato.export.pipeline import export

__all__ = ["ExportArtifact", "export", "load_export"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "artifact": ("ExportArtifact", "load_export"),
        "pipeline": ("export",),
    },
)
