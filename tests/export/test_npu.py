"""`sfumato export --npu`: the translation to QDQ, the refusals, what is compared; with onnxruntime-qnn also the emulated NPU.

What needs Qualcomm's libraries is skipped where neither this Python nor the one of SFUMATO_NPU_PYTHON has them: 100 MB that
continuous integration does not install.
"""

import json
import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typer import Typer
from typer.testing import CliRunner

from sfumato.cli import export as command
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import write_json
from sfumato.data import open_dataset
from sfumato.export import npu
from sfumato.export.npu import (
    Emulator,
    add_npu,
    check_export,
    equal_uploads,
    find_emulator,
    require_close,
    require_whole,
)
from sfumato.export.parity import run_int8
from sfumato.export.qdq import FEW, OPERATORS, RefusedError, to_qdq
from sfumato.runtime.contract import FILE, read_contract, read_with_digest
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.npu_files import FILE as NPU
from sfumato.runtime.npu_files import check_npu, read_npu
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.tflite_graph import read_constants, read_graph
from sfumato.runtime.verification import verify

ROOT = Path(__file__).resolve().parents[2]
INT8 = "local_int8.tflite"
Pixels = NDArray[np.uint8]


def pictures(count: int) -> Pixels:
    dataset = open_dataset("synthetic,count=800,size=32", keep=("glasses",), hide=("smiling",))
    return np.ascontiguousarray(dataset.images[:count])


@pytest.fixture(scope="module")
def subsampled(int8_export: Callable[[str], Path]) -> Path:
    """Averages of 2x2 pixels, a Gray code, resizing, concatenation. It must not be changed."""
    return int8_export("subsample")


@pytest.fixture
def copy(subsampled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(subsampled, tmp_path / "export"))


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    try:
        return find_emulator("qualcomm", os.environ.get("SFUMATO_NPU_PYTHON"))
    except SfumatoError as error:
        pytest.skip(f"{error} (the tests read SFUMATO_NPU_PYTHON)")


# The translation.


@pytest.mark.parametrize("which", ["sealed", "subsampled"])
def test_the_translation_computes_what_the_int8_file_computes(
    which: str, request: pytest.FixtureRequest
) -> None:
    """ONNX Runtime computes in floats between bytes, TensorFlow Lite in integers: roundings differ, nothing else."""
    content = (request.getfixturevalue(which) / INT8).read_bytes()
    images = pictures(8)
    wanted = run_int8(open_model(content, xnnpack=False), images)["p"]
    options = onnxruntime.SessionOptions()
    # Its own integers saturate at 16 bits on processors with AVX2 and no VNNI.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(to_qdq(content), options, providers=["CPUExecutionProvider"])
    found = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    gap = np.abs(found.astype(int) - wanted)
    assert gap.mean() < 0.25
    assert gap.max() <= 4
    assert wanted.std() > 10  # a constant picture would prove nothing


def test_the_translation_has_the_integers_and_scales_of_the_file(subsampled: Path) -> None:
    content = (subsampled / INT8).read_bytes()
    model = onnx.load_from_string(to_qdq(content))
    held = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    values, seen = read_constants(content), set()
    for operator in read_graph(content).operators:
        for output in operator.outputs:
            assert held[f"scale_{output.index}"] == np.float32(output.scales[0])
            assert held[f"zero_{output.index}"] == output.zero_points[0] + 128
        if "CONV" not in operator.name:
            continue
        weight, bias = operator.inputs[1:]
        assert weight is not None
        assert bias is not None
        integers, given = held[f"integers_{weight.index}"], values[weight.index]
        assert np.array_equal(held[f"integers_{bias.index}"], values[bias.index])
        assert np.array_equal(held[f"scale_{bias.index}"], np.array(bias.scales, np.float32))
        planes = range(len(integers))
        if operator.name == "CONV_2D":
            seen.add("ordinary")
            assert all(np.array_equal(integers[o], given[o].transpose(2, 0, 1)) for o in planes)
        elif weight.shape[3] >= FEW:
            seen.add("depthwise")
            assert all(np.array_equal(integers[o, 0], given[0, :, :, o]) for o in planes)
        else:  # as an ordinary convolution, which mixes nothing
            seen.add("few planes")
            for o in planes:
                for i in planes:
                    assert np.array_equal(integers[o, i], given[0, :, :, o] if o == i else np.zeros((2, 2)))
    assert seen == {"ordinary", "depthwise", "few planes"}


def test_constants_are_those_that_the_interpreter_holds(sealed: Path) -> None:
    content = (sealed / INT8).read_bytes()
    found, session = read_constants(content), open_model(content, xnnpack=False)
    assert len(found) > 20
    for index, value in found.items():
        assert np.array_equal(session.interpreter.get_tensor(index), value)


def test_equal_models_are_translated_to_equal_bytes(subsampled: Path) -> None:
    content = (subsampled / INT8).read_bytes()
    assert to_qdq(content) == to_qdq(content)


def test_a_float_model_and_an_unknown_operator_are_refused(
    sealed: Path, subsampled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match="only int8 pictures are known"):
        to_qdq((sealed / "local_float32.tflite").read_bytes())
    monkeypatch.delitem(OPERATORS, "RESIZE_BILINEAR")
    with pytest.raises(RefusedError, match="has RESIZE_BILINEAR, which is not known"):
        to_qdq((subsampled / INT8).read_bytes())


# What is refused before anything is computed.


def test_an_unknown_vendor_and_another_platform_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SfumatoError, match="unknown --npu 'mediatek': known are qualcomm"):
        find_emulator("mediatek")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    with pytest.raises(SfumatoError, match=r"is for Linux x86_64: this is \w+ arm64$"):
        find_emulator("qualcomm")


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the platform is refused first"
)
def test_a_python_without_the_package_is_told_how_to_get_it(tmp_path: Path) -> None:
    bare = tmp_path / "python"  # as an environment that has nothing installed
    bare.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(SfumatoError, match=r"needs onnxruntime-qnn in an environment .*pip install"):
        find_emulator("qualcomm", str(bare))
    with pytest.raises(SfumatoError, match="does not run: No such file"):
        find_emulator("qualcomm", str(tmp_path / "none"))


def test_the_line_to_type_has_the_version_of_the_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    (pin,) = (one.partition(";")[0] for one in extras["npu"] if "qnn" in one)
    from sfumato.cli.extras import APART

    assert pin in npu.INSTALL
    assert pin in APART["npu"]


def test_a_failure_of_the_emulation_is_one_line(tmp_path: Path) -> None:
    """The folder is empty, or this Python has no such package: either way the process ends with a traceback."""
    with pytest.raises(SfumatoError, match=r"^Qualcomm's emulation failed: \w+.*$"):
        Emulator(sys.executable, {}).run(tmp_path)


def test_answer_mode_is_refused(answer_export: Callable[[bool], Path]) -> None:
    with pytest.raises(SfumatoError, match="in answer mode, which --npu does not do"):
        check_export(answer_export(True))


def test_an_export_without_an_int8_model_is_refused(small_export: Callable[..., Path]) -> None:
    with pytest.raises(SfumatoError, match="holds no int8 model: it has float32"):
        check_export(small_export("float32"))


def test_files_that_are_there_are_replaced_on_demand_alone(copy: Path) -> None:
    assert check_export(copy).mode == "picture"
    (copy / NPU).write_text("{}")
    with pytest.raises(SfumatoError, match=r"has npu\.json already: give --overwrite"):
        check_export(copy)
    check_export(copy, overwrite=True)
    shutil.rmtree(copy / "audit")
    with pytest.raises(SfumatoError, match="came without its audit files"):
        check_export(copy, overwrite=True)


def run(*arguments: str | Path) -> str:
    app = Typer()
    app.command()(command.command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False).output


def test_the_command_refuses_before_it_exports(subsampled: Path, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="unknown --npu 'intel'"):
        run(tmp_path / "no-run", "--out", tmp_path / "out", "--npu", "intel")
    with pytest.raises(UsageError, match="--npu needs the int8 model"):
        run(subsampled, "--npu", "qualcomm", "--variants", "float32")
    with pytest.raises(UsageError, match="--npu qualcomm"):
        run(subsampled)


# The gates.


def test_a_graph_that_is_not_whole_is_refused_by_the_names_of_its_nodes() -> None:
    require_whole({"partitions": 1, "nodes": 9, "outside": []})
    with pytest.raises(SfumatoError, match=r"whole graph: a \(Erf\), b \(Erf\) would run on the processor$"):
        require_whole({"partitions": 2, "nodes": 9, "outside": ["a (Erf)", "b (Erf)"]})
    with pytest.raises(SfumatoError, match="n4 and 2 more would run"):
        require_whole({"partitions": 0, "nodes": 0, "outside": [f"n{i}" for i in range(7)]})
    with pytest.raises(SfumatoError, match="in 2 partitions, not in one"):
        require_whole({"partitions": 2, "nodes": 9, "outside": []})


def test_bytes_that_are_too_far_apart_are_refused() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(10, 246, (4, 16, 16, 3), dtype=np.uint8)
    require_close({"p": q}, {"p": q + np.uint8(1)})
    with pytest.raises(SfumatoError, match=r"the HTP computes p wrongly: it is off by 9\.0 of 256"):
        require_close({"p": q}, {"p": q + np.uint8(9)})


def test_keyed_uploads_are_those_of_the_phone(sealed: Path) -> None:
    """Equal bytes q give the upload that `perturb` gives; one other byte of 3,072 gives an independent draw."""
    phone, images = PhoneModel.load(sealed), pictures(6)
    q = run_int8(phone.session, images)
    assert equal_uploads(phone, images, q, q) == 1
    sent = [phone.perturb(image, key=npu.KEY).levels for image in images]
    other = {"p": q["p"].copy()}
    other["p"][0, 0, 0, 0] ^= 1
    other["p"][3, 31, 31, 2] ^= 1
    assert equal_uploads(phone, images, q, other) == 4 / 6
    own = {"p": other["p"][3]}
    drawn = phone.sample(images[3], own, phone.noise(images[3], own, npu.KEY))
    # Equal probabilities but for one, and yet as far apart as two draws are.
    far = (drawn != sent[3]).mean()
    p = q["p"][3] / 256
    assert far == pytest.approx((2 * p * (1 - p)).mean(), abs=0.03)


# npu.json.


def listed(folder: Path) -> dict[str, object]:
    (folder / "npu").mkdir()
    (folder / "npu" / "htp_v73.onnx").write_bytes(b"context")
    found = npu.describe(folder / "npu" / "htp_v73.onnx", generation=73, chip="one").model_dump()
    return {
        "schema": "sfumato-npu/1",
        "vendor": "qualcomm",
        "contract": read_with_digest(folder)[1].hex(),
        "model": {"name": INT8, "sha256": read_contract(folder).file(INT8).sha256},
        "files": [found],
        "library": {},
        "partition": {"partitions": 1},
        "emulated": {},
    }


def state(folder: Path) -> tuple[str, str]:
    return next((one.state, one.detail) for one in verify(folder).checks if one.name == NPU)


def test_verify_finds_what_does_not_belong_together(copy: Path) -> None:
    values = listed(copy)
    assert read_npu(copy) is None
    assert NPU not in [one.name for one in verify(copy).checks]
    write_json(copy / NPU, values)
    assert check_npu(copy, str(values["contract"])) is not None
    assert state(copy) == ("ok", "1 files for an NPU, sha256 as listed; not signed")
    (copy / "npu" / "htp_v73.onnx").write_bytes(b"contexT")
    assert state(copy)[0] == "failed"
    assert "htp_v73.onnx is not the file that npu.json names" in state(copy)[1]
    write_json(copy / NPU, values | {"contract": "0" * 64})
    assert "belongs to another contract" in state(copy)[1]
    outside = [{**values["files"][0], "name": "../secret.onnx"}]  # type: ignore[index]
    faults: list[dict[str, object]] = [
        {"schema": "sfumato-npu/2"},
        {"files": outside},
        {"files": []},
        {"latency_ms": 1},
    ]
    for broken in faults:
        write_json(copy / NPU, values | broken)
        assert state(copy)[1].startswith("npu.json: ")


# With Qualcomm's libraries.


def test_the_emulated_npu_takes_the_whole_network(subsampled: Path, copy: Path, emulator: Emulator) -> None:
    done: list[tuple[int, int]] = []
    made = add_npu(copy, emulator, photos=6, watch=lambda one, total: done.append((one, total)))
    assert done[-1] == (6, 6)
    assert made.partition["partitions"] == 1
    chips = {one.generation for one in made.files if one.generation}
    assert chips == set(npu.CHIPS)
    assert len(chips) >= 3
    # The contract is the same, so every draw of before is the same; all readers take the export as it was.
    for path in subsampled.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(subsampled)).read_bytes() == path.read_bytes()
    assert verify(copy).passed
    assert state(copy)[0] == "ok"
    assert read_npu(copy) == made
    assert "latency" not in (copy / NPU).read_text()
    images = pictures(800)[compared(copy, 6)]
    q = run_int8(PhoneModel.load(copy).session, images)["p"]
    found = made.emulated
    assert found["photos"] == 6
    assert 0.5 < found["equal_bytes"] <= 1
    assert found["mean_difference"] < 2 / 256
    assert found["equal_uploads"] == found["equal_photos"]
    rate = np.mean([PhoneModel.load(copy).rate_bits(i, {"p": one}) for i, one in zip(images, q, strict=True)])
    assert found["bits"]["first"] == pytest.approx(rate)


def compared(folder: Path, count: int) -> NDArray[np.int64]:
    """Rows of test photos, the first and the last among them, one in every so many."""
    from sfumato.data import Split

    dataset = open_dataset("synthetic,count=800,size=32", keep=("glasses",), hide=("smiling",))
    assert json.loads((folder / "audit" / "config.json").read_text())["data"] == "synthetic,count=800,size=32"
    test = dataset.splits[Split.TEST]
    return np.array([test[round(i * (len(test) - 1) / (count - 1))] for i in range(count)])


def test_nodes_that_the_npu_does_not_take_are_named(emulator: Emulator, tmp_path: Path) -> None:
    """Det has no counterpart among Qualcomm's operators."""
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["real"], name="real"),
        helper.make_node("Det", ["real"], ["det"], name="determinant"),
        helper.make_node("QuantizeLinear", ["det", "scale", "zero"], ["p"], name="p"),
    ]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4])],
        [helper.make_tensor_value_info("p", TensorProto.UINT8, [1])],
        [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    np.save(tmp_path / "photos.npy", np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(SfumatoError, match=r"does not take the whole graph: .*determinant \(Det\)"):
        require_whole(emulator.run(tmp_path))
    assert not (tmp_path / "htp_v73.onnx").exists()


def test_the_command_prints_what_was_found(copy: Path, emulator: Emulator) -> None:
    line: list[str | Path] = [
        copy,
        "--npu",
        "qualcomm",
        "--npu-python",
        emulator.python,
        "--npu-photos",
        "2",
        "--json",
    ]
    printed = run(*line)
    assert json.loads(printed[printed.index("{") :])["emulated"]["photos"] == 2
    with pytest.raises(SfumatoError, match="--overwrite"):
        run(*line)
    assert (copy / FILE).exists()
