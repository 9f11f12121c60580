"""Ranges of an int8 model: those of its tensors, and of nothing that lay in the same memory later."""

from typing import Any

import numpy as np

from sfumato.export.tflite import Functions, write_variants
from sfumato.runtime.tflite_graph import read_graph

RNG = np.random.default_rng(0)


def test_every_tensor_gets_its_own_range() -> None:
    """A chain in which a result may take the memory of the one before it, and is ten times as large."""
    import tensorflow as tf

    kernel = RNG.standard_normal((3, 3, 3, 4)).astype(np.float32)

    def steps(image: Any) -> list[Any]:
        found = [tf.nn.conv2d(image, kernel, 1, "SAME")]
        for _ in range(2):
            gated = found[-1] * tf.sigmoid(found[-1])
            found += [gated, gated * 10.0]
        return found

    images = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    graph = read_graph(
        dict(write_variants(Functions(lambda image: {"p": tf.sigmoid(steps(image)[-1])}), images, ("int8",)))[
            "int8"
        ]
    )
    assert [tensor.type for tensor in (*graph.inputs, *graph.outputs)] == ["INT8", "INT8"]
    assert graph.inputs[0].scales[0] == np.float32(1 / 255)
    values = [[step.numpy() for step in steps(image[None] / np.float32(255))] for image in images]
    wanted = [max(map(np.max, step)) - min(0, *map(np.min, step)) for step in zip(*values, strict=True)]
    found = [
        255 * operator.outputs[0].scales[0]
        for operator in graph.operators
        if operator.name in ("CONV_2D", "MUL")
    ]
    assert np.allclose(sorted(found), sorted(wanted), rtol=0.02)
