"""Export: from a finished run to a sealed bundle for the phone.

`pipeline` is the list of steps: `freeze` the network, write `onnx_files`, convert them (`tflite`, by our `lowering` or by
onnx2tf), check `parity`, `measure` accuracy and rate, fine-tune for int8 where needed (`quant_finetune`), seal the `bundle`.
`artifact` shows a bundle to the audit; `android` places it in the app.
"""
