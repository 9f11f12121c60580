"""A cloud network given as ONNX, as a differentiable PyTorch module: `reader` builds it from `operators`."""
