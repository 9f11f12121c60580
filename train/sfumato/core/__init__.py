"""The ground that every package stands on: errors, files, the console, pictures and provenance.

`errors` are one line a user can act on. `files` are whole or absent. `console` prints tables, progress and `--json`.
`image_io` reads any picture file into the pixels a model sees. `provenance` names the versions behind a result.
`seeding` derives every seed from what it is for. `onnx_heads` matches the outputs of a cloud network with attributes.
Nothing here needs torch or TensorFlow.
"""
