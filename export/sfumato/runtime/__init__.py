"""What runs beside the model on a phone or a gateway. Neither torch nor TensorFlow is needed.

`contract` describes a bundle. `phone_model` runs it: `interpreter`, then `keyed_noise`, `sampler` and `upload_codec`.
`exact_rate` computes the rate of one upload. `verify` checks a bundle with `signing`, `test_vectors`, `tflite_graph` and
`delegate_lint`; `sandbox` opens files that nobody vouches for.
"""
