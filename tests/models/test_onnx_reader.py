"""Cloud networks in ONNX: every operator against onnxruntime, our own export, and what is refused by name."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sfumato.audit.attacks.taps import Taps
from sfumato.core.errors import SfumatoError
from sfumato.core.onnx_heads import match_heads
from sfumato.core.onnx_session import open_session
from sfumato.export.onnx_files import CloudHeads, write_onnx
from sfumato.models.cloud import check_answers, create_cloud
from sfumato.models.cost import cost
from sfumato.models.onnx.operators import OPERATORS
from sfumato.models.onnx.reader import OnnxCloud, check_parity, load_onnx

from . import onnx_graphs as graphs

SIZE = (9, 12)
UNARY = [
    *("Identity", "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Erf", "Exp", "Sqrt", "Neg", "Abs"),
    *("Log", "Sin", "Cos", "Reciprocal", "Softsign", "Selu", "Celu"),
]
COMPARED = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
HALF = np.array(0.5, np.float32)
CONV = {"w": (4, 3, 3, 3)}


def constant(name: str, *values: int) -> str:
    return f"{name} = Constant <value = int64[{len(values)}] {{{','.join(map(str, values))}}}> ()\n"


def resize(attributes: str, scales: str = "1.0, 1.0, 1.7, 0.6") -> str:
    return f"s = Constant <value_floats = [{scales}]> ()\n y = Resize <{attributes}> (x, , s)"


ALIGNED = 'mode="linear", coordinate_transformation_mode="align_corners"'
FLOOR = 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"'
CEIL = 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="ceil"'
PYTORCH = 'mode="linear", coordinate_transformation_mode="pytorch_half_pixel"'

CASES: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    **{name: (f"z = {name}(x) y = Add(x, z)", {}, {}) for name in UNARY},
    **{name: (f"y = {name}(x, k)", {"k": (1, 3, 1, 1)}, {}) for name in ("Add", "Sub", "Mul", "Div", "Pow")},
    "Mish": ("y = Mish(x)", {}, {"opset": 18}),
    "Floor and Ceil": ("a = Floor(x) b = Ceil(x) c = Add(a, b) y = Mul(c, x)", {}, {}),
    **{name: (f"c = {name}(x, k) z = Neg(x) y = Where(c, x, z)", {"k": HALF}, {}) for name in COMPARED},
    "logic": (
        "a = Less(x, k) b = Greater(x, l) c = And(a, b) d = Not(c) e = Or(d, c) f = Or(d, a) z = Neg(x)"
        "g = Where(f, x, z) y = Where(e, g, x)",
        {"k": HALF, "l": np.array(0.2, np.float32)},
        {},
    ),
    "Equal": (
        "s = Shape(x) n = Constant <value_ints=[3]> () o = ConstantOfShape <value = int64[1] {3}> (n)"
        "t = Constant <value_ints=[0, 9, 12, 1]> () u = Slice(s, zero, three) e = Equal(u, o)"
        "w = Cast <to=7> (e) v = Concat <axis=0> (u, minus) r = Where(e, u, u) f = Cast <to=1> (w)"
        "g = ReduceSum(f) y = Mul(x, g)",
        {name: np.array([value], np.int64) for name, value in (("zero", 0), ("three", 3), ("minus", -1))},
        {},
    ),
    "ConstantOfShape": (
        "s = Shape <start=1> (x) z = ConstantOfShape (s) y = Sub(x, z)",
        {},
        {},
    ),
    "Range and Mod": (
        "t = Range(a, b, c) m = Mod(t, two) f = Cast <to=1> (m) g = Mod <fmod=1> (x, k) h = Add(g, f) y = Add(h, x)",
        {
            **{
                name: np.array(value, np.int64) for name, value in (("a", 1), ("b", 13), ("c", 1), ("two", 3))
            },
            "k": np.array(0.3, np.float32),
        },
        {},
    ),
    "Min and Max": (
        "z = Neg(x) a = Min(x, k, z) b = Max(x, k) y = Sub(b, a)",
        {"k": HALF},
        {},
    ),
    "ReduceMin": ("y = ReduceMin <axes=[3]> (x)", {}, {}),
    "ReduceL2": ("y = ReduceL2 <axes=[1,2]> (x)", {}, {}),
    "ReduceProd": ("y = ReduceProd <axes=[1,-1], keepdims=0> (x)", {}, {}),
    "Expand": (constant("s", 2, 1, 1, 9, 1) + "y = Expand (x, s)", {}, {}),
    "Tile": (constant("s", 1, 2, 1, 3) + "y = Tile (x, s)", {}, {}),
    "Einsum": ('y = Einsum <equation="bchw,bcvw->bhv"> (x, x)', {}, {}),
    "DepthToSpace": (
        "z = Concat <axis=1> (x, x, x, x) n = Neg(z) m = Concat <axis=1> (z, n)"
        'a = DepthToSpace <blocksize=2> (m) b = DepthToSpace <blocksize=2, mode="CRD"> (m) y = Sub(a, b)',
        {},
        {},
    ),
    "SpaceToDepth": ("y = SpaceToDepth <blocksize=3> (x)", {}, {}),
    "LayerNormalization": ("y = LayerNormalization <epsilon=0.01> (x, w, b)", {"w": (12,), "b": (12,)}, {}),
    "LayerNormalization, two axes": ("y = LayerNormalization <axis=2> (x, w)", {"w": (9, 12)}, {}),
    "InstanceNormalization": ("y = InstanceNormalization (x, w, b)", {"w": (3,), "b": (3,)}, {}),
    "GroupNormalization": (
        "z = Concat <axis=1> (x, x) y = GroupNormalization <num_groups=2> (z, w, b)",
        {"w": (6,), "b": (6,)},
        {"opset": 21},
    ),
    "constant first": ("y = Sub(k, x)", {"k": (3, 1, 1)}, {}),
    "scalar": ("y = Mul(x, k)", {"k": np.array(2, np.float32)}, {}),
    "two tensors": ("a = Relu(x) b = Neg(x) y = Add(a, b)", {}, {}),
    "LeakyRelu": ("z = Neg(x) y = LeakyRelu <alpha=0.3> (z)", {}, {}),
    "Elu": ("z = Neg(x) y = Elu <alpha=0.3> (z)", {}, {}),
    "PRelu": ("z = Sub(x, k) y = PRelu (z, p)", {"k": (3, 1, 1), "p": (3, 1, 1)}, {}),
    "HardSigmoid": ("z = HardSigmoid <alpha=0.7, beta=0.1> (x) y = Add(x, z)", {}, {}),
    "Gelu": ('y = Gelu <approximate="tanh"> (x)', {}, {"opset": 20}),
    "Gelu, exact": ("y = Gelu (x)", {}, {"opset": 20}),
    "Clip": ("y = Clip (x, a, b)", {"a": np.array(0.3, np.float32), "b": np.array(0.6, np.float32)}, {}),
    "Clip above": ("y = Clip (x, , b)", {"b": np.array(0.6, np.float32)}, {}),
    "Softmax": ("z = Softmax <axis=1> (x) y = Mul(z, x)", {}, {}),
    "LogSoftmax": ("y = LogSoftmax <axis=1> (x)", {}, {}),
    "Dropout": ("y = Dropout (x, r)", {"r": np.array(0.5, np.float32)}, {}),
    "Cast": ("z = Cast <to=7> (x) y = Cast <to=1> (z)", {}, {}),
    "Conv": ("y = Conv (x, w)", CONV, {}),
    "Conv, all of it": (
        "y = Conv <strides=[2,1], pads=[2,1,2,1], dilations=[2,1], group=3, kernel_shape=[3,3]> (x, w, b)",
        {"w": (6, 1, 3, 3), "b": (6,)},
        {},
    ),
    "Conv, unequal pads": ("y = Conv <pads=[0,1,2,0], strides=[2,2]> (x, w)", CONV, {}),
    "Conv, same, upper": ('y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)', CONV, {}),
    "Conv, same, lower": ('y = Conv <auto_pad="SAME_LOWER", strides=[2,3]> (x, w)', CONV, {}),
    "Conv, valid": ('y = Conv <auto_pad="VALID"> (x, w)', CONV, {}),
    "Conv, moved weights": ("u = Transpose <perm=[1,0,2,3]> (w) y = Conv (x, u)", {"w": (3, 4, 3, 3)}, {}),
    "ConvTranspose": (
        "y = ConvTranspose <strides=[2,2], pads=[1,1,1,1], output_padding=[1,0], group=3> (x, w, b)",
        {"w": (3, 2, 3, 3), "b": (6,)},
        {},
    ),
    "ConvTranspose, dilated": ("y = ConvTranspose <dilations=[2,2]> (x, w)", {"w": (3, 2, 3, 3)}, {}),
    "BatchNormalization": (
        "y = BatchNormalization <epsilon=0.01> (x, a, b, c, d)",
        {"a": (3,), "b": (3,), "c": (3,), "d": (3,)},
        {},
    ),
    "BatchNormalization of vectors": (
        "z = ReduceMean <axes=[2,3], keepdims=0> (x) y = BatchNormalization (z, a, b, c, d)",
        {"a": (3,), "b": (3,), "c": (3,), "d": (3,)},
        {},
    ),
    "MaxPool": ("y = MaxPool <kernel_shape=[3,2], strides=[2,3], pads=[1,1,1,1]> (x)", {}, {}),
    "MaxPool, unequal": ("y = MaxPool <kernel_shape=[2,2], strides=[2,2], pads=[0,0,1,1]> (x)", {}, {}),
    "MaxPool, ceil": ("y = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (x)", {}, {}),
    "MaxPool, dilated": ("y = MaxPool <kernel_shape=[3,3], dilations=[2,2]> (x)", {}, {}),
    "MaxPool, same": ('y = MaxPool <kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"> (x)', {}, {}),
    "AveragePool": ("y = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (x)", {}, {}),
    "AveragePool, counted": (
        "y = AveragePool <kernel_shape=[3,3], pads=[1,0,0,1], count_include_pad=1> (x)",
        {},
        {},
    ),
    "AveragePool, unequal": ("y = AveragePool <kernel_shape=[3,3], pads=[0,0,1,2]> (x)", {}, {}),
    "AveragePool, ceil": ("y = AveragePool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x)", {}, {}),
    "AveragePool, same": (
        'y = AveragePool <kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_LOWER"> (x)',
        {},
        {},
    ),
    "GlobalAveragePool": ("y = GlobalAveragePool (x)", {}, {}),
    "GlobalMaxPool": ("y = GlobalMaxPool (x)", {}, {}),
    "Pad": (
        constant("p", 0, 1, 2, 0, 0, 0, 1, 3) + "y = Pad (x, p, v)",
        {"v": np.array(0.7, np.float32)},
        {},
    ),
    "Pad, mirrored": (constant("p", 0, 0, 2, 1, 0, 0, 1, 3) + 'y = Pad <mode="reflect"> (x, p)', {}, {}),
    "Pad, edge": (constant("p", 0, 0, 2, 1, 0, 0, 1, 3) + 'y = Pad <mode="edge"> (x, p)', {}, {}),
    "Pad, some axes": (
        constant("p", 2, 1, 0, 1) + constant("a", 3, -2) + "y = Pad (x, p, , a)",
        {},
        {"opset": 18},
    ),
    "Resize, nearest": (resize('mode="nearest"'), {}, {}),
    "Resize, floor": (resize(FLOOR, "1.0, 1.0, 2.0, 3.0"), {}, {}),
    "Resize, ceil": (resize(CEIL), {}, {}),
    "Resize, to the upper": (resize('mode="nearest", nearest_mode="round_prefer_ceil"'), {}, {}),
    "Resize, linear": (resize('mode="linear"'), {}, {}),
    "Resize, doubled": (resize('mode="linear"', "1.0, 1.0, 2.0, 2.0"), {}, {}),
    "Resize, corners": (resize(ALIGNED), {}, {}),
    "Resize, one row": (resize(PYTORCH, "1.0, 1.0, 0.12, 2.0"), {}, {}),
    "Resize, sizes": (
        f"s = Shape <start=0, end=2> (x) {constant('t', 5, 20)} z = Concat <axis=0> (s, t)"
        'y = Resize <mode="linear"> (x, , , z)',
        {},
        {},
    ),
    "ReduceMean": ("y = ReduceMean <axes=[2,3], keepdims=0> (x)", {}, {}),
    "ReduceMean, later": (constant("a", -1, 2) + "y = ReduceMean (x, a)", {}, {"opset": 18}),
    "ReduceMean of everything": ("z = ReduceMean (x) y = Sub(x, z)", {}, {"opset": 18}),
    "ReduceSum": (constant("a", 1) + "y = ReduceSum (x, a)", {}, {}),
    "ReduceMax": ("y = ReduceMax <axes=[3]> (x)", {}, {}),
    "Flatten": ("y = Flatten (x)", {}, {}),
    "Flatten from the end": ("y = Flatten <axis=-1> (x)", {}, {}),
    "Reshape": (constant("s", 0, 9, -1) + "y = Reshape (x, s)", {}, {}),
    "Reshape, by arithmetic": (
        f"s = Shape (x) {constant('i', 0)} b = Gather <axis=0> (s, i) {constant('m', -1)}"
        "t = Concat <axis=0> (b, m) y = Reshape <allowzero=1> (x, t)",
        {},
        {},
    ),
    "Transpose": ("y = Transpose <perm=[0,2,3,1]> (x)", {}, {}),
    "Transpose, reversed": ("z = Transpose (x) y = Transpose (z)", {}, {}),
    "Squeeze": (
        "z = GlobalMaxPool (x)" + constant("a", 2, -1) + "y = Squeeze (z, a)",
        {},
        {},
    ),
    "Unsqueeze": (constant("a", 0, -2) + "y = Unsqueeze (x, a)", {}, {}),
    "Concat": ("z = Neg(x) y = Concat <axis=1> (x, z, x)", {}, {}),
    "Split": (constant("s", 1, 2) + "a, b = Split <axis=1> (x, s) y = Concat <axis=1> (b, a)", {}, {}),
    "Split, equal": ("a, b = Split <axis=3, num_outputs=2> (x) y = Sub(a, b)", {}, {"opset": 18}),
    "Slice": (
        constant("s", 1, -5)
        + constant("e", 9223372036854775807, -1)
        + constant("a", 2, 3)
        + constant("t", 2, 1)
        + "y = Slice (x, s, e, a, t)",
        {},
        {},
    ),
    "Gather": (constant("i", 2, -3, 0) + "y = Gather <axis=1> (x, i)", {}, {}),
    "Gather of one length": (
        "s = Shape(x) i = Constant <value_int=2> () r = Gather(s, i) f = Cast <to=1> (r) y = Mul(x, f)",
        {},
        {},
    ),
    "Shape and Div": (
        f"s = Shape <start=2> (x) {constant('two', 2)} h = Div(s, two) {constant('o', 0, 0)}"
        f"{constant('a', 2, 3)} y = Slice (x, o, h, a)",
        {},
        {},
    ),
    "Gemm": (
        "f = Flatten(x) y = Gemm <alpha=0.5, beta=2.0> (f, w, b)",
        {"w": (324, 5), "b": (5,)},
        {},
    ),
    "Gemm, turned": ("f = Flatten(x) y = Gemm <transB=1> (f, w)", {"w": (5, 324)}, {}),
    "MatMul": ("y = MatMul(x, w)", {"w": (12, 5)}, {}),
    "MatMul of two": ("z = Transpose <perm=[0,1,3,2]> (x) y = MatMul(x, z)", {}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_agree_with_onnxruntime(case: str, tmp_path: Path) -> None:
    body, weights, options = CASES[case]
    path = graphs.write(tmp_path / "g.onnx", body, weights, **options)
    cloud = load_onnx(path, {"a": 1}, SIZE).eval()
    x = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(5)) + 0.05
    session = open_session(path)
    (wanted,) = session.run(None, {"x": x.numpy()})
    x.requires_grad_(case not in ("Cast",))
    found = cloud(x)["a"]
    assert found.shape == wanted.shape
    assert np.abs(found.detach().numpy() - wanted).max() < 1e-6 * max(10, np.abs(wanted).max())
    if x.requires_grad:
        found.sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


def test_every_operator_is_tested() -> None:
    bodies = " ".join(body for body, _, _ in CASES.values())
    assert {name for name in OPERATORS if f"{name} " not in bodies and f"{name}(" not in bodies} == set()


@pytest.mark.parametrize("size", [32, 64])
def test_our_own_export_is_read_back(size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    classes = {"b": 5, "a": 2}
    trained = create_cloud("resnet", classes, size=(size, size))
    trained(torch.rand(8, 3, size, size))  # batch-norm figures of its own
    trained.eval()
    path = tmp_path / "cloud.onnx"
    example = torch.rand(2, 3, size, size)
    write_onnx(
        CloudHeads(trained, ["a", "b"]), example, path, inputs=["upload"], outputs=["a", "b"], batch=True
    )
    cloud = load_onnx(path, classes, (size, size)).eval()
    check_parity(cloud, path, (size, size))
    check_answers(cloud, classes, (size, size), "it")
    x = torch.rand(3, 3, size, size, requires_grad=True)
    other = x.detach().clone().requires_grad_(True)
    mine, theirs = cloud(x), trained(other)
    assert list(mine) == ["b", "a"]
    for name in classes:
        assert torch.allclose(mine[name], theirs[name], atol=1e-5)
        mine[name].square().sum().backward(retain_graph=True)
        theirs[name].square().sum().backward(retain_graph=True)
    assert x.grad is not None
    assert other.grad is not None
    assert torch.allclose(x.grad, other.grad, atol=1e-5)
    assert cost(cloud, (3, size, size)) == cost(trained, (3, size, size))


def test_weights_are_parameters_and_statistics_buffers(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "c.onnx", {"tone": 3})
    cloud = load_onnx(path, {"tone": 3}, (16, 16))
    assert sum(value.numel() for value in cloud.parameters()) == 4 * 27 + 8 + 6 * 36 + 6 + 3 * 24
    assert {name.rpartition(".")[2] for name, _ in cloud.named_buffers()} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    before = copy.deepcopy(cloud.state_dict())
    cloud.train()(torch.rand(4, 3, 16, 16))["tone"].sum().backward()
    assert all(value.grad is not None for value in cloud.parameters())
    moved = {name for name, value in cloud.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in moved} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_stages_are_the_last_maps_of_every_resolution(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "c.onnx", {"tone": 3, "hue": 2})
    cloud = load_onnx(path, {"tone": 3, "hue": 2}, (16, 16)).eval()
    x = torch.rand(5, 3, 16, 16)
    features, logits = Taps(copy.deepcopy(cloud))(x)
    assert [tuple(value.shape) for value in features.values()] == [
        (5, 4, 16, 16),
        (5, 4, 8, 8),
        (5, 6, 4, 4),
        (5, 6, 2, 2),
    ]
    answers = cloud(x)
    assert torch.equal(logits, torch.cat([answers["tone"], answers["hue"]], dim=1))


def test_hidden_vectors_are_stages_too(tmp_path: Path) -> None:
    body = "f = Flatten(x) a = Gemm(f, u) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, w)"
    path = graphs.write(tmp_path / "m.onnx", body, {"u": (324, 7), "v": (7, 5), "w": (5, 2)})
    cloud = load_onnx(path, {"a": 2}, SIZE).eval()
    features, _ = Taps(cloud)(torch.rand(2, 3, *SIZE))
    assert [tuple(value.shape) for value in features.values()] == [(2, 7), (2, 5)]


def test_it_can_be_copied_saved_and_moved(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "c.onnx", {"tone": 3})
    cloud = load_onnx(path, {"tone": 3}, (16, 16)).eval()
    other = load_onnx(path, {"tone": 3}, (16, 16)).eval()
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    other.load_state_dict(cloud.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(copy.deepcopy(cloud)(x)["tone"], other(x)["tone"])


FIXED = "float[1,3,9,12] x"
REFUSED: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any], str]] = {
    "unknown operator": ("y = Gru2(x)", {}, {}, "operator Gru2 is not supported"),
    "known to ONNX alone": ("y = Hardmax (x)", {}, {}, "operator Hardmax is not supported"),
    "another domain": (
        "y = com.microsoft.Gelu(x)",
        {},
        {"domain": "com.microsoft"},
        "operator com.microsoft.Gelu is not supported",
    ),
    "old opset": ("y = Relu(x)", {}, {"opset": 11}, "opset is 11; 13 to 22"),
    "future opset": ("y = Relu(x)", {}, {"opset": 23}, "opset is 23; 13 to 22"),
    "fixed batch": ("y = Relu(x)", {}, {"image": FIXED}, "a fixed batch; export it with an open first axis"),
    "another size": (
        "y = Relu(x)",
        {},
        {"image": "float[B,3,8,12] x"},
        "not a batch of uploads, B x 3 x 9 x 12",
    ),
    "channels last": ("y = Relu(x)", {}, {"image": "float[B,9,12,3] x"}, "not a batch of uploads"),
    "vectors": ("y = Relu(x)", {}, {"image": "float[B,3] x"}, "not a batch of uploads"),
    "bytes": (
        "y = Cast <to=1> (x)",
        {},
        {"image": "uint8[B,3,9,12] x"},
        "of another type than float32",
    ),
    "two inputs": ("y = Add(x, z)", {}, {"image": "float[B,3,9,12] x, float[B,3,9,12] z"}, "2 inputs"),
    "other outputs": (
        "y = Relu(x) z = Neg(x)",
        {},
        {"outputs": "float y, float z"},
        "outputs are y, z, the kept attributes a",
    ),
    "probabilities": (
        "f = Flatten(x) z = Gemm(f, w) p = Softmax(z) y = Identity(p)",
        {"w": (324, 2)},
        {},
        "y holds probabilities \\(Softmax\\)",
    ),
    "sigmoid": ("f = Flatten(x) z = Gemm(f, w) y = Sigmoid(z)", {"w": (324, 2)}, {}, "probabilities"),
    "not computed": (
        "z = Relu(x) y = Identity(k)",
        {"k": (1, 2)},
        {},
        "output y does not depend on the image",
    ),
    "half precision": (
        "z = Cast <to=1> (k) y = Mul(x, z)",
        {"k": np.ones(1, np.float16)},
        {},
        "k is float16",
    ),
    "computed weights": (
        "k = ReduceMean <axes=[0]> (x) y = Conv(x, k)",
        {},
        {},
        "Conv\\): a layer takes something computed and weights that are given",
    ),
    "a layer of constants": (
        "z = Conv(k, w) y = Add(x, z)",
        {"k": (1, 3, 9, 12), "w": (1, 3, 1, 1)},
        {},
        "Conv\\): a layer takes something computed",
    ),
    "cubic": (resize('mode="cubic"'), {}, {}, "Resize\\): mode cubic is not supported"),
    "antialias": (
        resize('mode="linear", antialias=1', "1.0, 1.0, 0.5, 0.5"),
        {},
        {"opset": 18},
        "antialias is not supported",
    ),
    "symmetric": (
        resize('mode="linear", coordinate_transformation_mode="half_pixel_symmetric"'),
        {},
        {"opset": 19},
        "half_pixel_symmetric are not supported",
    ),
    "attribute": (
        "f = Flatten(x) y = Gemm <transA=1> (f, w)",
        {"w": (3, 2)},
        {"image": "float[B,3,9,12] x"},
        "transA is not supported",
    ),
    "training": (
        "y, m, v = BatchNormalization <training_mode=1> (x, a, a, a, a)",
        {"a": (3,)},
        {},
        "training_mode is not supported",
    ),
    "empty axes": ("y = ReduceMean <noop_with_empty_axes=1> (x)", {}, {"opset": 18}, "noop_with_empty_axes"),
    "one dimension": (
        "s = Constant <value_ints=[0, 3, -1]> () z = Reshape(x, s) y = Conv(z, w)",
        {"w": (4, 3, 3)},
        {},
        "only maps",
    ),
    "wrapped": (
        constant("p", 0, 0, 2, 1, 0, 0, 1, 3) + 'y = Pad <mode="wrap"> (x, p)',
        {},
        {"opset": 19},
        "mode wrap is not supported",
    ),
    "ceil": (
        "y = MaxPool <kernel_shape=[2,2], pads=[0,0,1,1], ceil_mode=1> (x)",
        {},
        {},
        "ceil_mode with unequal pads",
    ),
    "backwards": (
        constant("s", -1)
        + constant("e", 0)
        + constant("a", 3)
        + constant("t", -1)
        + "y = Slice (x, s, e, a, t)",
        {},
        {},
        "negative steps",
    ),
    "hidden batch": (
        constant("s", 1, -1) + "z = Reshape(x, s) y = Gemm(z, w)",
        {"w": (324, 2)},
        {},
        "Gemm\\): ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_name(case: str, tmp_path: Path) -> None:
    body, weights, options, words = REFUSED[case]
    path = graphs.write(tmp_path / "bad.onnx", body, weights, **options)
    with pytest.raises(SfumatoError, match=words) as told:
        load_onnx(path, {"a": 2}, SIZE)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="no such file"):
        load_onnx(tmp_path / "missing.onnx", {"a": 2}, SIZE)
    (tmp_path / "text.onnx").write_text("this is text, not a network")
    with pytest.raises(SfumatoError, match="not an ONNX file"):
        load_onnx(tmp_path / "text.onnx", {"a": 2}, SIZE)
    model = graphs.make("y = Conv(x, w)", {"w": (64, 3, 3, 3)})
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="w.bin")
    with pytest.raises(SfumatoError, match="a file of their own"):
        load_onnx(tmp_path / "split.onnx", {"a": 2}, SIZE)


def test_parity_finds_a_difference(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "c.onnx", {"tone": 3})
    cloud = load_onnx(path, {"tone": 3}, (16, 16)).eval()
    check_parity(cloud, path, (16, 16))
    with torch.no_grad():
        next(cloud.parameters()).add_(0.1)
    with pytest.raises(SfumatoError, match="differ by"):
        check_parity(cloud, path, (16, 16))


class Answering(nn.Module):
    """Says whatever it was made with."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer(x) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.zeros(3, 2), "returned Tensor"),
        ({"a": torch.zeros(3, 2)}, "the kept attributes need"),
        ({"a": torch.zeros(3, 2), "b": torch.zeros(3, 4)}, r"'b': \(3, 4\)"),
        ({"a": torch.zeros(2, 2), "b": torch.zeros(3, 3)}, r"'a': \(2, 2\)"),
        ({"a": torch.zeros(3, 2), "b": torch.full((3, 3), torch.nan)}, "not finite"),
        ({"a": torch.zeros(3, 2), "b": torch.full((3, 3), 1 / 3)}, "probabilities"),
        (lambda x: x.view(1, -1) @ x, "does not take uploads"),
    ],
)
def test_answers_that_do_not_fit_are_refused(answer: Any, words: str) -> None:
    classes = {"a": 2, "b": 3}
    with pytest.raises(SfumatoError, match=words):
        check_answers(Answering(answer), classes, (16, 16), "mine:make")
    check_answers(Answering({"a": torch.zeros(3, 2), "b": torch.zeros(3, 3)}), classes, (16, 16), "mine:make")


def test_outputs_are_matched_by_name() -> None:
    assert match_heads(["b", "a"], ["a", "b"]) == ("a", "b")
    assert match_heads(["logits"], ["a"]) == ("logits",)
    for outputs in (["a"], ["a", "c"], ["a", "b", "c"], ["a", "a"]):
        with pytest.raises(SfumatoError, match="name every output after the attribute"):
            match_heads(outputs, ["a", "b"])


def test_a_wrong_class_count_is_seen_in_the_answers(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "c.onnx", {"tone": 3})
    cloud: OnnxCloud = load_onnx(path, {"tone": 2}, (16, 16))
    with pytest.raises(SfumatoError, match=r"\(3, 3\)"):
        check_answers(cloud, {"tone": 2}, (16, 16), str(path))
