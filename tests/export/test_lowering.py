"""The lowering against onnxruntime, operator by operator, and what it refuses."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sfumato.channels import create
from sfumato.core.local_constants import BLOCKS
from sfumato.core.onnx_session import open_session
from sfumato.export.freeze import PhoneNetwork, fold, freeze, freeze_network
from sfumato.export.lowering import (
    RefusedError,
    find_affine,
    lower,
    lower_centred,
    order_planes,
    zeros_for_same,
)
from sfumato.export.onnx_files import write_local, write_onnx
from sfumato.export.onnx_graph import merge_pads
from sfumato.export.tflite import CALIBRATION, JOB, centre
from sfumato.models.local import LocalNetwork

RNG = np.random.default_rng(0)
H, W, C = 12, 8, 6
BLOCK = BLOCKS[0]


def build(nodes: list[Any], constants: dict[str, Any], inputs: int = C) -> Any:
    """A graph from `image` (NHWC) over NCHW nodes `x` -> `y` to `out` (NHWC)."""
    edges = (
        helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["y"], ["out"], perm=[0, 2, 3, 1]),
    )
    graph = helper.make_graph(
        [edges[0], *nodes, edges[1]],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, H, W, inputs])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def both(model: Any, inputs: int = C) -> tuple[Any, Any]:
    image = RNG.standard_normal((1, H, W, inputs)).astype(np.float32)
    session = open_session(model.SerializeToString())
    import tensorflow as tf

    return session.run(["out"], {"image": image})[0], lower(model)(tf.constant(image))["out"].numpy()


def conv(groups: int, size: int, stride: int, pads: list[int], outputs: int, bias: bool = True) -> Any:
    weight = RNG.standard_normal((outputs, C // groups, size, size))
    constants: dict[str, Any] = {"w": weight, **({"b": RNG.standard_normal(outputs)} if bias else {})}
    node = helper.make_node(
        "Conv",
        ["x", *constants],
        ["y"],
        group=groups,
        kernel_shape=[size] * 2,
        strides=[stride] * 2,
        pads=pads,
    )
    return build([node], constants)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("groups", "outputs"), [(1, 5), (C, C)])
@pytest.mark.parametrize(
    ("size", "pads"),
    [
        (1, [0] * 4),
        (2, [0] * 4),
        (3, [1] * 4),
        (3, [0] * 4),
        (3, [0, 1, 2, 1]),
        (4, [1] * 4),
        (5, [2] * 4),
        (8, [0] * 4),
    ],
)
def test_convolutions(stride: int, groups: int, outputs: int, size: int, pads: list[int]) -> None:
    wanted, found = both(conv(groups, size, stride, pads, outputs))
    assert wanted.shape == found.shape
    assert np.abs(wanted - found).max() < 1e-4


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("late", [0, 1])
def test_the_padding_of_strided_convolutions_is_same(groups: int, size: int, late: int) -> None:
    """Symmetric padding of even pictures, and TensorFlow's own, which starts one later: no PAD is left."""
    import tensorflow as tf

    half = size // 2
    model = conv(groups, size, 2, [half - late, half - late, half, half], C)
    wanted, found = both(model)
    assert np.abs(wanted - found).max() < 1e-4
    graph = tf.function(lower(model)).get_concrete_function(tf.TensorSpec((1, H, W, C))).graph
    assert not [entry.type for entry in graph.get_operations() if "Pad" in entry.type]


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 7),
    stride=st.integers(1, 3),
    before=st.integers(0, 4),
    after=st.integers(0, 4),
    length=st.integers(1, 20),
)
def test_zeros_at_the_end_of_a_kernel(size: int, stride: int, before: int, after: int, length: int) -> None:
    """A row of numbers, padded and convolved by hand, and by TensorFlow's SAME."""
    import tensorflow as tf

    zeros = zeros_for_same(size, stride, before, after, length)
    if zeros is None or length + before + after < size:
        return
    row, kernel = RNG.standard_normal(length), RNG.standard_normal(size)
    wide = np.concatenate([np.zeros(before), row, np.zeros(after)])
    by_hand = [wide[at : at + size] @ kernel for at in range(0, len(wide) - size + 1, stride)]
    longer = np.concatenate([kernel, np.zeros(zeros)]).reshape(-1, 1, 1)
    same = tf.nn.conv1d(row.reshape(1, -1, 1), longer, stride, "SAME").numpy().ravel()
    assert same.tolist() == pytest.approx(by_hand, abs=1e-9)


def test_convolution_without_bias() -> None:
    wanted, found = both(conv(1, 3, 1, [1] * 4, 4, bias=False))
    assert np.abs(wanted - found).max() < 1e-4


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_bilinear_enlargement(factor: float) -> None:
    node = helper.make_node(
        "Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"
    )
    wanted, found = both(build([node], {"s": [1, 1, factor, factor]}))
    assert wanted.shape == found.shape == (1, H * factor, W * factor, C)
    assert np.abs(wanted - found).max() < 1e-5


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "Identity"])
def test_pointwise(kind: str) -> None:
    wanted, found = both(build([helper.make_node(kind, ["x"], ["y"])], {}))
    assert np.abs(wanted - found).max() < 1e-6


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_arithmetic(kind: str) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["z"]),
        helper.make_node(kind, ["x", "z"], ["u"]),
        helper.make_node(kind, ["u", "number"], ["v"]),
        helper.make_node(kind, ["number", "v"], ["y"]),
    ]
    wanted, found = both(build(nodes, {"number": [[[[1.5]]]]}))
    assert np.abs(wanted - found).max() < 1e-5


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_one_value_stretches_over_the_picture(kind: str) -> None:
    """A decision of one value a channel meets every pixel, from either side; one plane meets every channel."""
    weights = {"w": RNG.standard_normal((C, C, H, W)) / 50, "v": RNG.standard_normal((1, C, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["d"], kernel_shape=[H, W]),
        helper.make_node("Conv", ["x", "v"], ["plane"], kernel_shape=[1, 1]),
        helper.make_node(kind, ["x", "d"], ["z"]),
        helper.make_node(kind, ["d", "z"], ["u"]),
        helper.make_node(kind, ["u", "plane"], ["y"]),
    ]
    wanted, found = both(build(nodes, weights))
    assert wanted.shape == found.shape == (1, H, W, C)
    assert np.abs(wanted - found).max() < 1e-3


def test_the_largest_plane_of_some() -> None:
    import tensorflow as tf

    bounds = {name: np.array([value], np.int64) for name, value in {"from": 1, "to": 4, "axis": 1}.items()}
    nodes = [
        helper.make_node("Slice", ["x", *bounds], ["some"]),
        helper.make_node("ReduceMax", ["some"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["some", "m"], ["y"]),
    ]
    model = build(nodes, {})
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in bounds.items())
    wanted, found = both(model)
    assert wanted.shape == found.shape == (1, H, W, 3)
    assert np.array_equal(wanted, found)
    for change in ({"axes": [2]}, {"axes": [1], "keepdims": 0}):
        with pytest.raises(RefusedError, match="largest of all planes"):
            lower(build([helper.make_node("ReduceMax", ["x"], ["y"], **change)], {}))(tf.zeros([1, H, W, C]))


def test_rows_below_others_and_planes_of_one_place_as_a_row() -> None:
    """What a shortlist needs: the planes of one place, filled up, in place of the last rows."""
    bounds = {name: np.array([value], np.int64) for name, value in {"from": 0, "to": -2, "axis": 2}.items()}
    sizes = {"pads": np.array([0, 0, 0, 0, 0, 5, 0, 0], np.int64), "shape": np.array([1, 2, W, C], np.int64)}
    count = 2 * W * C - 5
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["scores"], kernel_shape=[H, W]),
        helper.make_node("Pad", ["scores", "pads"], ["filled"]),
        helper.make_node("Reshape", ["filled", "shape"], ["laid"]),
        helper.make_node("Transpose", ["laid"], ["rows"], perm=[0, 3, 1, 2]),
        helper.make_node("Slice", ["x", *bounds], ["above"]),
        helper.make_node("Concat", ["above", "rows"], ["y"], axis=2),
    ]
    model = build(nodes, {"w": RNG.standard_normal((count, C, H, W)) / 50})
    more = {**bounds, **sizes}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in more.items())
    wanted, found = both(model)
    assert wanted.shape == found.shape == (1, H, W, C)
    assert np.abs(wanted - found).max() < 1e-4


@pytest.mark.parametrize("classes", [(12,), (3, 30)])
def test_a_decision_among_many_classes(classes: tuple[int, ...]) -> None:
    import tensorflow as tf

    torch.manual_seed(1)
    local = LocalNetwork(create("dither", levels=2), classes, (32, 32)).eval()
    network = freeze_network(local, (32, 32))
    image = torch.rand(1, 32, 32, 3)
    with tempfile.TemporaryDirectory() as folder:
        write_local(network, (32, 32), Path(folder) / "local.onnx")
        model = onnx.load(Path(folder) / "local.onnx")
    found = lower(model)(tf.constant(image.numpy()))["p"].numpy()
    assert np.abs(found - network(image)[0].detach().numpy()).max() < 1e-5


def test_one_value_is_enlarged_to_the_picture() -> None:
    weights: dict[str, Any] = {"w": RNG.standard_normal((C, C, H, W)) / 50, "s": [1, 1, H, W]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["d"], kernel_shape=[H, W]),
        helper.make_node(
            "Resize", ["d", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"
        ),
    ]
    wanted, found = both(build(nodes, weights))
    assert wanted.shape == found.shape == (1, H, W, C)
    assert np.abs(wanted - found).max() < 1e-4


def test_concatenation_of_channels() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["z"]),
        helper.make_node("Concat", ["x", "z", "x"], ["y"], axis=1),
    ]
    wanted, found = both(build(nodes, {}))
    assert np.array_equal(wanted, found)


def test_difference_and_factor_become_one_convolution() -> None:
    nodes = [helper.make_node("Sub", ["x", "a"], ["z"]), helper.make_node("Mul", ["z", "b"], ["y"])]
    model = build(nodes, {"a": 0.5, "b": 8.0})
    constants = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    assert find_affine(list(model.graph.node), constants) == {"y": ("x", 0.5, 8.0)}
    wanted, found = both(model)
    assert np.abs(wanted - found).max() < 1e-5


def test_a_difference_that_is_used_twice_stays() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "a"], ["z"]),
        helper.make_node("Mul", ["z", "b"], ["u"]),
        helper.make_node("Add", ["u", "z"], ["y"]),
    ]
    wanted, found = both(build(nodes, {"a": 0.5, "b": 8.0}))
    assert np.abs(wanted - found).max() < 1e-5


@pytest.mark.parametrize("bias", [True, False])
def test_enlargement_by_transposed_convolution(bias: bool) -> None:
    constants = {"w": RNG.standard_normal((C, 5, 2, 2)), **({"b": RNG.standard_normal(5)} if bias else {})}
    node = helper.make_node("ConvTranspose", ["x", *constants], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    wanted, found = both(build([node], constants))
    assert wanted.shape == found.shape == (1, 2 * H, 2 * W, 5)
    assert np.abs(wanted - found).max() < 1e-5


def test_pooling() -> None:
    largest = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    wanted, found = both(build([largest], {}))
    assert wanted.shape == found.shape == (1, H // 2, W // 2, C)
    assert np.array_equal(wanted, found)
    wanted, found = both(build([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {}))
    assert wanted.shape == found.shape == (1, 1, 1, C)
    assert np.abs(wanted - found).max() < 1e-6


def test_clipping_to_six() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "ten"], ["z"]),
        helper.make_node("Clip", ["z", "low", "high"], ["y"]),
    ]
    wanted, found = both(build(nodes, {"ten": 10.0, "low": 0.0, "high": 6.0}))
    assert wanted.max() == 6
    assert np.abs(wanted - found).max() < 1e-5


def operators(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Kind and shape of all that the lowering computes."""
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    return operators_of(lower(model), shape)


def operators_of(function: Any, shape: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Kind and shape of all that a function of an image of this shape computes."""
    import tensorflow as tf

    traced = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return [(made.type, tuple(out.shape)) for made in traced.graph.get_operations() for out in made.outputs]


def shuffle(source: str, target: str, mode: str = "CRD", blocksize: int = BLOCK) -> Any:
    return helper.make_node("DepthToSpace", [source], [target], blocksize=blocksize, mode=mode)


def packing(weight: str, target: str, *bias: str, size: int = BLOCK) -> Any:
    """A convolution that looks at each block of pixels once."""
    block = [size] * 2
    return helper.make_node(
        "Conv", ["x", weight, *bias], [target], name=target, kernel_shape=block, strides=block
    )


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("bias", [True, False])
def test_sub_pixel_convolution(mode: str, bias: bool) -> None:
    """Every plane is another one, so that any other order of the planes would be seen."""
    planes = 5 * BLOCK**2
    weight = RNG.standard_normal((planes, C, BLOCK, BLOCK))
    constants = {"w": weight, **({"b": RNG.standard_normal(planes)} if bias else {})}
    head = packing("w", "z", *(["b"] if bias else []))
    model = build([head, shuffle("z", "u", mode), helper.make_node("Sigmoid", ["u"], ["y"])], constants)
    before = model.SerializeToString()
    wanted, found = both(model)
    assert wanted.shape == found.shape == (1, H, W, 5)
    assert np.abs(wanted - found).max() < 1e-5
    assert model.SerializeToString() == before


def tail(*last: Any) -> Any:
    """Two heads with the same weights stored once, of which only one is shuffled, and `8 (x - 1/2)` beside them."""
    constants = {
        "w": RNG.standard_normal((BLOCK**2 * C, C, BLOCK, BLOCK)) / BLOCK,
        "b": RNG.standard_normal(BLOCK**2 * C),
        "a": 0.5,
        "f": 8.0,
    }
    nodes = [
        packing("w", "g", "b"),
        shuffle("g", "gate"),
        helper.make_node("Sub", ["x", "a"], ["z"]),
        helper.make_node("Mul", ["z", "f"], ["egami"]),
    ]
    return build([*nodes, *last], constants)


TAILS = {
    "image": [helper.make_node("Mul", ["egami", "gate"], ["y"])],
    "number": [helper.make_node("Mul", ["gate", "f"], ["u"]), helper.make_node("Add", ["egami", "u"], ["y"])],
    "copies": [
        packing("v", "o"),
        shuffle("o", "offset"),
        helper.make_node("Concat", ["egami", "egami"], ["u"], axis=1),
        helper.make_node("Add", ["offset", "u"], ["y"]),
        helper.make_node("Relu", ["gate"], ["unused"]),
    ],
}


@pytest.mark.parametrize("name", TAILS)
def test_what_follows_is_computed_on_packed_pictures(name: str) -> None:
    model = tail(*TAILS[name])
    model.graph.initializer.append(
        numpy_helper.from_array(
            RNG.standard_normal((2 * BLOCK**2 * C, C, BLOCK, BLOCK)).astype(np.float32), "v"
        )
    )
    wanted, found = both(model)
    assert wanted.shape == found.shape
    assert np.abs(wanted - found).max() < 1e-4
    made = operators(model)
    kinds = Counter(kind for kind, _ in made)
    assert kinds["ConcatV2"] == 0
    large = [kind for kind, shape in made if shape[1:3] == (H, W)]
    assert set(large) <= {"Placeholder", "DepthToSpace", "Identity"}
    assert kinds["DepthToSpace"] == 1


MIXED = {
    "equal weights in another order": [
        packing("w", "h", "b"),
        helper.make_node(
            "Resize", ["h", "", "s"], ["u"], mode="linear", coordinate_transformation_mode="half_pixel"
        ),
        helper.make_node("Conv", ["u", "n"], ["v"], kernel_shape=[1, 1]),
        helper.make_node("Mul", ["gate", "v"], ["y"]),
    ],
    "a picture that is not packed": [helper.make_node("Add", ["gate", "x"], ["y"])],
    "something that looks at neighbours": [
        helper.make_node("MaxPool", ["gate"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    ],
    "the picture with others": [helper.make_node("Concat", ["egami", "gate", "egami"], ["y"], axis=1)],
    "blocks of another size": [
        packing("two", "o", size=2),
        shuffle("o", "other", blocksize=2),
        helper.make_node("Mul", ["other", "gate"], ["y"]),
    ],
    "one plane for all": [
        packing("one", "o"),
        shuffle("o", "plane"),
        helper.make_node("Mul", ["plane", "gate"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", MIXED)
def test_what_cannot_be_packed_meets_the_whole_picture(name: str) -> None:
    model = tail(*MIXED[name])
    for constant, value in {
        "s": np.array([1, 1, BLOCK, BLOCK]),
        "n": RNG.standard_normal((C, BLOCK**2 * C, 1, 1)) / 9,
        "two": RNG.standard_normal((2**2 * C, C, 2, 2)),
        "one": RNG.standard_normal((BLOCK**2, C, BLOCK, BLOCK)),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), constant))
    wanted, found = both(model)
    assert wanted.shape == found.shape
    assert np.abs(wanted - found).max() < 1e-3


def test_a_picture_is_packed_once_alone_and_once_in_copies() -> None:
    nodes = [
        helper.make_node("Mul", ["gate", "egami"], ["once"]),
        packing("v", "o"),
        shuffle("o", "offset"),
        helper.make_node("Concat", ["egami", "egami"], ["copies"], axis=1),
        helper.make_node("Add", ["offset", "copies"], ["twice"]),
        helper.make_node("Concat", ["once", "twice"], ["y"], axis=1),
    ]
    model = tail(*nodes)
    weights = RNG.standard_normal((2 * BLOCK**2 * C, C, BLOCK, BLOCK)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "v"))
    wanted, found = both(model)
    assert np.abs(wanted - found).max() < 1e-3
    large = {kind for kind, shape in operators(model) if shape[1:3] == (H, W)}
    assert large <= {"Placeholder", "DepthToSpace", "ConcatV2", "Identity"}


CHANNELS: dict[str, tuple[str, dict[str, Any]]] = {
    "two levels": ("dither", {"levels": 2}),
    "four levels": ("dither", {"levels": 4}),
    "sixteen levels": ("dither", {"levels": 16}),
    "gaussian": ("gaussian", {}),
    "additive": ("gaussian", {"additive": True}),
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_leaves_full_size_to_its_last_operator(name: str, block: int, tmp_path: Path) -> None:
    """The whole local network against torch, on a picture that is not square."""
    import tensorflow as tf

    kind, settings = CHANNELS[name]
    torch.manual_seed(0)
    local = LocalNetwork(create(kind, **settings), (2, 3), (48, 80), block).eval()
    with torch.no_grad():
        for head in local.heads.values():
            head.weight.normal_(0, 0.5)  # type: ignore[operator]
            head.bias.normal_(0, 2)  # type: ignore[operator]
    network = PhoneNetwork(fold(freeze(local)))
    image = torch.rand(1, 48, 80, 3)
    write_onnx(network, image, tmp_path / "local.onnx", inputs=["image"], outputs=network.names)
    model = onnx.load(tmp_path / "local.onnx")
    centred = lower_centred(model)
    found = [lower(model)(tf.constant(image.numpy()))]
    assert (centred is not None) is (kind == "dither")
    if centred is not None:
        found.append(centred(tf.constant(centre(image.numpy()))))
    with torch.no_grad():
        for output, wanted in zip(network.names, network(image), strict=True):
            assert wanted.std() > 0.1
            for one in found:
                assert np.abs(one[output].numpy() - wanted.numpy()).max() < 1e-5
    for function in (lower(model), centred):
        if function is None:
            continue
        large = Counter(
            kind for kind, shape in operators_of(function, (1, 48, 80, 3)) if shape[1:3] == (48, 80)
        )
        del large["Placeholder"], large["Identity"]
        # Of a model that takes photos the stem has to be shown a centred one.
        shown = {"DepthwiseConv2dNative": 1, "BiasAdd": 1} if function is not centred and centred else {}
        assert large == {"DepthToSpace": len(network.names), **shown}


class Looks(nn.Module):
    """A network that looks at a centred picture, and in one way more."""

    def __init__(self, more: str) -> None:
        super().__init__()
        self.stem, self.more = nn.Conv2d(3, 4, 3), more

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2)
        y = self.stem(8 * (x - (0.5 if self.more == "other middle" else 128 / 255)))
        if self.more == "photo":
            y = y + x[:, :1, 1:-1, 1:-1]
        if self.more == "average":
            y = y + F.avg_pool2d(8 * (x - 128 / 255), 3, 1)[:, :1]
        if self.more == "average of the photo":
            y = y + 8 * (F.avg_pool2d(x, 3, 1)[:, :1] - 128 / 255)
        if self.more == "padded average":
            y = y + 8 * (F.avg_pool2d(x, 5, 1, 1)[:, :1] - 128 / 255)
        if self.more == "other factor":
            y = y + 4 * (x[:, :1, 1:-1, 1:-1] - 128 / 255)
        return torch.sigmoid(y).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("more", "taken"),
    [
        ("nothing", True),
        ("average", True),
        ("average of the photo", False),
        ("photo", False),
        ("padded average", False),
        ("other factor", False),
        ("other middle", False),
    ],
)
def test_only_what_looks_at_nothing_else_takes_a_centred_picture(
    more: str, taken: bool, tmp_path: Path
) -> None:
    import tensorflow as tf

    torch.manual_seed(0)
    network, image = Looks(more).eval(), torch.rand(1, 12, 16, 3)
    write_onnx(network, image, tmp_path / "looks.onnx", inputs=["image"], outputs=["p"])
    centred = lower_centred(onnx.load(tmp_path / "looks.onnx"))
    assert (centred is not None) is taken
    if centred is not None:
        with torch.no_grad():
            wanted = network(image).numpy()
        assert np.abs(centred(tf.constant(centre(image.numpy())))["p"].numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize(("region", "window"), [(3, 0), (0, 2), (0, 3)])
def test_gates_close_the_same_blocks(region: int, window: int, tmp_path: Path) -> None:
    """Gates of one square against torch: some blocks are open, some closed."""
    import tensorflow as tf

    torch.manual_seed(0)
    local = LocalNetwork(create("dither", gates=True), (), (48, 80), region=region, window=window).eval()
    image = torch.rand(1, 48, 80, 3)
    with torch.no_grad():
        assert local.gates is not None
        odds = local.gates.worth(local.at_eighth(*local.encode(image.permute(0, 3, 1, 2))))
        assert local.gates.odds.bias is not None
        local.gates.odds.weight.mul_(4 / odds.std())
        local.gates.odds.bias.sub_(odds.mean()).mul_(4 / odds.std())
    network = PhoneNetwork(fold(freeze(local)))
    write_onnx(network, image, tmp_path / "local.onnx", inputs=["image"], outputs=network.names)
    found = lower(onnx.load(tmp_path / "local.onnx"))(tf.constant(image.numpy()))["p"].numpy()
    with torch.no_grad():
        (wanted,) = network(image)
    assert 0.05 < (wanted.numpy() > 0.01).mean() < 0.95
    assert np.abs(found - wanted.numpy()).max() < 1e-4


class Around(nn.Module):
    """A module of channels first between two permutations."""

    def __init__(self, inner: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.kept = inner if isinstance(inner, nn.Module) else nn.Identity()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.inner(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1),)


def shuffle_groups(x: torch.Tensor) -> torch.Tensor:
    batch, planes, height, width = x.shape
    return x.view(batch, 2, planes // 2, height, width).transpose(1, 2).reshape(batch, planes, height, width)


def own_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values is not None
            values.uniform_(0.5, 2)
    return norm


class Padded(nn.Module):
    """Zeros around the picture, then two operators that read them."""

    def __init__(self, *around: int, also: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        super().__init__()
        self.around, self.also = around, also
        self.convolution = nn.Conv2d(C, 5, 3, 2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, self.around)
        y: torch.Tensor = self.convolution(x)
        return y if self.also is None else y + self.also(x)[:, :5]


PARTS: dict[str, Callable[[], Callable[[torch.Tensor], torch.Tensor]]] = {
    "groups": lambda: nn.Conv2d(C, 9, 3, 2, 1, groups=3),
    "groups without bias": lambda: nn.Conv2d(C, 4, 1, groups=2, bias=False),
    "many groups": lambda: nn.Conv2d(C, 2 * C, 3, 1, 1, groups=C),
    "dilated": lambda: nn.Conv2d(C, 5, 3, 1, 2, dilation=2),
    "dilated, no edges": lambda: nn.Conv2d(C, C, 3, dilation=(1, 2), groups=C),
    "twice as large": lambda: nn.ConvTranspose2d(C, 5, 4, 2, 1),
    "one more": lambda: nn.ConvTranspose2d(C, 5, 3, 2, 1, output_padding=1),
    "one less": lambda: nn.ConvTranspose2d(C, 5, 3, 2, 1),
    "apart": lambda: nn.ConvTranspose2d(C, 5, 2, 3, bias=False),
    "same size": lambda: nn.ConvTranspose2d(C, 5, 3, 1, 1),
    "batch norm": lambda: own_statistics(nn.BatchNorm2d(C)),
    "average": lambda: nn.AvgPool2d(2),
    "average with edges": lambda: nn.AvgPool2d(3, 2, 1),
    "average without edges": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "largest with edges": lambda: nn.MaxPool2d(3, 1, 1),
    "hard swish": nn.Hardswish,
    "hard sigmoid": nn.Hardsigmoid,
    "tanh": nn.Tanh,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "one slope": nn.PReLU,
    "slopes": lambda: nn.PReLU(C, 0.3),
    "twice each pixel": lambda: nn.Upsample(scale_factor=2, mode="nearest"),
    "four times each pixel": lambda: nn.Upsample(scale_factor=4, mode="nearest"),
    "shuffled": lambda: shuffle_groups,
    "one a plane": lambda: lambda x: torch.arange(float(C)).view(C, 1, 1) * x - torch.ones(1, C, 1, 1),
    "halves": lambda: lambda x: x.chunk(2, 1)[1] - x.chunk(2, 1)[0],
    "parts": lambda: lambda x: torch.cat(x.split([1, 2, 3], 1)[::-1], 1),
    "the last planes": lambda: lambda x: x[:, -2:],
    "its own shape": lambda: (
        lambda x: F.interpolate(x.mean((2, 3), keepdim=True), size=x.shape[2:], mode="bilinear")
    ),
    "zeros around": lambda: lambda x: F.pad(x, (1, 2, 0, 3)) * 2,
    "zeros before a convolution": lambda: Padded(0, 1, 2, 1),
    "zeros for two": lambda: Padded(1, 1, 0, 2, also=lambda x: F.avg_pool2d(x, 2)),
    "through channels last": lambda: lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_common_networks(name: str, tmp_path: Path) -> None:
    """Against torch, through the exporter that users' networks go through."""
    import tensorflow as tf

    torch.manual_seed(0)
    module, image = Around(PARTS[name]()).eval(), torch.randn(1, H, W, C)
    write_onnx(module, image, tmp_path / "part.onnx", inputs=["image"], outputs=["y"])
    found = lower(onnx.load(tmp_path / "part.onnx"))(tf.constant(image.numpy()))["y"].numpy()
    with torch.no_grad():
        (wanted,) = module(image)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted.numpy()).max() < 1e-5


@pytest.mark.parametrize(("also", "left"), [(None, 0), (nn.AvgPool2d(3, 2, 1), 1)])
def test_zeros_become_part_of_the_convolution_that_alone_reads_them(
    also: nn.Module | None, left: int, tmp_path: Path
) -> None:
    """As ONNX Runtime computes the file; what led to the zeros is gone as well."""
    torch.manual_seed(0)
    module, image = Around(Padded(0, 1, 0, 1, also=also)).eval(), torch.randn(1, H, W, C)
    write_onnx(module, image, tmp_path / "part.onnx", inputs=["image"], outputs=["y"])
    graph = onnx.load(tmp_path / "part.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert (kinds["Pad"], kinds["Conv"]) == (left, 1)
    if not left:
        assert kinds == {"Transpose": 2, "Conv": 1}
        (node,) = (node for node in graph.node if node.op_type == "Conv")
        assert list(onnx.helper.get_node_attr_value(node, "pads")) == [1, 1, 2, 2]
    (found,) = open_session(tmp_path / "part.onnx").run(["y"], {"image": image.numpy()})
    with torch.no_grad():
        (wanted,) = module(image)
    assert np.abs(found - wanted.numpy()).max() < 1e-5


KEPT = {
    "another number": ([0, 0, 0, 0, 0, 0, 1, 1], {}, [1.0]),
    "planes": ([0, 1, 0, 0, 0, 0, 1, 1], {}, [0.0]),
    "less than nothing": ([0, 0, 0, -1, 0, 0, 1, 1], {}, [0.0]),
    "mirrored": ([0, 0, 0, 0, 0, 0, 1, 1], {"mode": "reflect"}, [0.0]),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_zeros_around_the_picture_stays_and_is_refused(name: str) -> None:
    import tensorflow as tf

    pads, mode, value = KEPT[name]
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"], ["z"], **mode),
        helper.make_node("Conv", ["z", "w"], ["y"]),
    ]
    model = build(nodes, {"value": value[0], "w": RNG.standard_normal((4, C + pads[1], 2, 2))})
    model.graph.initializer.append(numpy_helper.from_array(np.array(pads, np.int64), "pads"))
    before = model.SerializeToString()
    merge_pads(model)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "Pad", "Conv", "Transpose"]
    assert model.SerializeToString() == before
    with pytest.raises(RefusedError, match="only zeros around the picture"):
        lower(model)(tf.zeros((1, H, W, C)))


REFUSED = {
    "operator": ([helper.make_node("Softmax", ["x"], ["y"])], "Softmax"),
    "random": ([helper.make_node("RandomNormalLike", ["x"], ["y"])], "RandomNormalLike"),
    "transposition": (
        [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2])],
        "permutation",
    ),
    "constant": ([helper.make_node("Add", ["x", "row"], ["y"])], "neither one number nor one a plane"),
    "shapes": (
        [
            helper.make_node("Conv", ["x", "w"], ["z"], kernel_shape=[1, 1]),
            helper.make_node("Add", ["x", "z"], ["y"]),
        ],
        "differ",
    ),
    "nearest by three": (
        [helper.make_node("Resize", ["x", "", "t"], ["y"], mode="nearest")],
        "only bilinear",
    ),
    "layout inside": (
        [
            helper.make_node("Transpose", ["x"], ["z"], perm=[0, 2, 3, 1]),
            helper.make_node("Concat", ["z", "z"], ["u"], axis=1),
            helper.make_node("Transpose", ["u"], ["y"], perm=[0, 3, 1, 2]),
        ],
        "Concat is known of channels first alone",
    ),
    "layout at the end": (
        [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])],
        "permutation",
    ),
    "reshape": ([helper.make_node("Reshape", ["x", "rows"], ["y"])], "this reshape is not known"),
    "mean of planes": (
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])],
        "only the mean over the picture",
    ),
    "split of rows": (
        [helper.make_node("Split", ["x"], ["a", "b"], axis=2), helper.make_node("Add", ["a", "b"], ["y"])],
        "only planes can be split",
    ),
    "columns": ([helper.make_node("Concat", ["x", "x"], ["y"], axis=3)], "only channels and rows"),
    "range": ([helper.make_node("Clip", ["x", "one", "two"], ["y"])], "only 0 .. 6"),
    "padded pooling": (
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
        "padded or dilated",
    ),
    "padded average": (
        [
            helper.make_node(
                "AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
            )
        ],
        "padding of an average",
    ),
    "transposed groups": (
        [helper.make_node("ConvTranspose", ["x", "o"], ["y"], kernel_shape=[3, 3], group=2)],
        "in groups or dilated",
    ),
    "blocks": (
        [helper.make_node("Conv", ["x", "nine"], ["z"], kernel_shape=[1, 1]), shuffle("z", "y", blocksize=3)],
        "only blocks of 4 or 2",
    ),
    "planes for two": (
        [
            helper.make_node("Conv", ["x", "w"], ["z"], kernel_shape=[1, 1]),
            shuffle("z", "u"),
            helper.make_node("GlobalAveragePool", ["z"], ["v"]),
            helper.make_node("Conv", ["v", "k"], ["t"], kernel_shape=[1, 1]),
            helper.make_node("Mul", ["u", "t"], ["y"]),
        ],
        "not come from a convolution of its own",
    ),
    "planes of no convolution": (
        [
            helper.make_node("Conv", ["x", "w"], ["z"], kernel_shape=[1, 1]),
            helper.make_node("Relu", ["z"], ["u"]),
            shuffle("u", "y"),
        ],
        "not come from a convolution of its own",
    ),
    "planes of a grouped convolution": (
        [
            helper.make_node("Conv", ["x", "g"], ["z"], group=2, kernel_shape=[1, 1]),
            shuffle("z", "y"),
        ],
        "not come from a convolution of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused(name: str) -> None:
    import tensorflow as tf

    nodes, expected = REFUSED[name]
    constants = {
        "row": np.zeros((1, 1, 1, W)),
        "t": [1, 1, 3, 3],
        "rows": [1, C * H, W],
        "g": np.zeros((4, C // 2, 1, 1)),
        "w": np.zeros((4, C, 1, 1)),
        "o": np.zeros((C, 4, 3, 3)),
        "k": np.zeros((1, 4, 1, 1)),
        "nine": np.zeros((9, C, 1, 1)),
        "one": 1.0,
        "two": 2.0,
    }
    model = build(nodes, constants)
    with pytest.raises(RefusedError, match=expected):
        lower(model)(tf.zeros((1, H, W, C)))


def test_equal_weights_handed_on_by_identity_are_ordered_too() -> None:
    """torch's exporter stores equal initialisers once: the second convolution gets an Identity's output."""
    planes = 2
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(BLOCK**2 * planes, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Conv", ["x", "same"], ["y"]),
        helper.make_node("DepthToSpace", ["y"], ["p"], blocksize=BLOCK, mode="CRD"),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 6]),
        helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, planes, 4 * BLOCK, 6 * BLOCK]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = rng.random((1, 3, 4, 6), np.float32)
    before = open_session(model.SerializeToString()).run(None, {"x": x})[0]
    order_planes(model)
    assert model.graph.node[2].attribute[1].s == b"DCR"
    after = open_session(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_the_conversion_loads_neither_pytorch_nor_keras(tmp_path: Path) -> None:
    """Either costs the child as much time as the conversion itself."""
    model = build([helper.make_node("Relu", ["x"], ["y"])], {}, inputs=3)
    onnx.save(model, tmp_path / "local.onnx")
    images = RNG.integers(0, 256, (2, H, W, 3), dtype=np.uint8)
    np.save(tmp_path / CALIBRATION, images)
    job = {"model": str(tmp_path / "local.onnx"), "variants": ["float32"], "backend": "direct"}
    (tmp_path / JOB).write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-X", "importtime", "-m", "sfumato.export.tflite"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=True
    )
    loaded = {
        line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
    }
    assert (tmp_path / "local_float32.tflite").stat().st_size
    assert "tensorflow" in loaded
    assert not loaded & {"torch", "keras", "sklearn"}
