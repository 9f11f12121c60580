"""What a stranger's run or export may do: nothing. Loading it imports, starts and opens nothing of its own.

Python tells of every import, process, socket and file (`sys.addaudithook`); the hostile artifacts name modules and files that
would leave a mark.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from tests.runtime.test_verify import reseal

import sfumato.audit
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError
from sfumato.export import load_export
from sfumato.runtime.ledger import Ledger
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.verification import verify
from sfumato.server.model import CloudModel
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.run import Run, load_run

EVENTS: list[tuple[str, str]] | None = None
WATCHED = (
    "import",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "open",
    "exec",
)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if EVENTS is not None and event in WATCHED:
        EVENTS.append((event, str(arguments[0]) if arguments else ""))


sys.addaudithook(_watch)


@pytest.fixture
def events() -> Iterator[list[tuple[str, str]]]:
    global EVENTS
    EVENTS = []
    yield EVENTS
    EVENTS = None


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that can be imported and leaves a mark."""
    (tmp_path / "trap").mkdir()
    mark = tmp_path / "trap" / "was_run"
    (tmp_path / "trap" / "trapdoor.py").write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from sfumato.models.cloud import ResNet\n"
        "def make(classes): return ResNet(classes)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "trap"))
    monkeypatch.delitem(sys.modules, "trapdoor", raising=False)
    return mark


def hostile_config(**changes: Any) -> dict[str, Any]:
    data = "synthetic,count=800,size=32"
    config = TrainConfig(data=data, keep=("glasses",), hide=("smiling",), cloud="resnet,width=8")
    return {**config.model_dump(mode="json"), **changes}


def make_run_folder(folder: Path, config: dict[str, Any], run: Run) -> Path:
    from sfumato.training.checkpoint import save_module

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    card = {"schema": "sfumato-run/2", **run.card}
    (folder / "card.json").write_text(json.dumps(card))
    save_module(run.local, folder / "local.safetensors")
    save_module(run.cloud, folder / "cloud.safetensors")
    return folder


NAMES = ("trapdoor:make", "subprocess:run", "os:system", "builtins:exec")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["cloud", "frozen_cloud"])
def test_loading_imports_and_runs_nothing_that_an_artifact_names(
    name: str,
    field: str,
    bundle: Path,
    dither_run: Run,
    trap: Path,
    tmp_path: Path,
    events: list[tuple[str, str]],
) -> None:
    config = hostile_config(**{"cloud": "resnet", field: name})
    run = make_run_folder(tmp_path / "run", config, dither_run)
    (bundle / "audit" / "config.json").write_text(json.dumps(config))
    reseal(bundle, "audit/config.json")
    loads: list[Callable[[], object]] = [
        lambda: load_run(run),
        lambda: load_run(run, cloud="mine:make"),
        lambda: load_export(bundle),
        lambda: sfumato.audit.load(run),
        lambda: sfumato.audit.load(bundle, cloud="trapdoor:makes"),
        lambda: sfumato.audit.audit(bundle, "quick"),
        lambda: sfumato.export.export(run, tmp_path / "out"),
    ]
    events.clear()
    for load in loads:
        with pytest.raises(SfumatoError, match=rf"if it is yours, say so with --cloud {name}") as caught:
            load()
        assert "\n" not in str(caught.value)
    assert not trap.exists()
    assert "trapdoor" not in sys.modules
    done = [what for what in events if what[0] not in ("import", "open", "exec")]
    assert done == []
    assert not [what for what in events if what[0] == "import" and what[1] == "trapdoor"]
    assert not [what for what in events if "trapdoor" in what[1] and what[0] != "import"]
    assert not (tmp_path / "out").exists()


def test_a_factory_that_the_user_names_is_called(dither_run: Run, trap: Path, tmp_path: Path) -> None:
    from sfumato.models.cloud import ResNet
    from sfumato.training.checkpoint import save_module

    run = make_run_folder(tmp_path / "run", hostile_config(cloud="trapdoor:make"), dither_run)
    save_module(ResNet({"glasses": 2}), run / "cloud.safetensors")
    assert isinstance(load_run(run, cloud="other:make, trapdoor:make").cloud, ResNet)
    assert trap.exists()


def test_the_commands_say_what_to_type(dither_run: Run, trap: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    run = make_run_folder(tmp_path / "run", hostile_config(cloud="trapdoor:make"), dither_run)
    for arguments in (["audit", run], ["export", run, "--out", tmp_path / "out"]):
        shown = CliRunner().invoke(app, [*map(str, arguments)])
        assert isinstance(shown.exception, SfumatoError)
        assert str(shown.exception).endswith("--cloud trapdoor:make")
    assert not trap.exists()


def answering(**parts: Any) -> onnx.GraphProto:
    """A cloud network for the export of the tests: glasses, two classes, 32 x 32."""
    image = helper.make_tensor_value_info("upload", TensorProto.FLOAT, ["n", 3, 32, 32])
    logits = helper.make_tensor_value_info("glasses", TensorProto.FLOAT, ["n", 2])
    weights = parts.pop("weights", np.zeros((3, 2), np.float32))
    nodes = [
        helper.make_node("ReduceMean", ["upload"], ["means"], axes=[2, 3], keepdims=0),
        *parts.pop("nodes", []),
        helper.make_node("MatMul", ["means", "w"], ["glasses"]),
    ]
    return helper.make_graph(nodes, "g", [image], [logits], [numpy_helper.from_array(weights, "w")], **parts)


def save_cloud(bundle: Path, graph: onnx.GraphProto) -> None:
    opset = [helper.make_opsetid("", 17)]
    (bundle / "cloud.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )
    reseal(bundle, "cloud.onnx")


def both_refuse(bundle: Path, words: str) -> None:
    failed = verify(bundle).failed
    assert len(failed) == 1
    assert words in failed[0].detail
    assert "\n" not in failed[0].detail
    with pytest.raises(SfumatoError, match=words):
        CloudModel.load(bundle)


def test_a_sound_cloud_network_of_this_kind_is_served(bundle: Path) -> None:
    save_cloud(bundle, answering())
    assert verify(bundle).passed
    found = CloudModel.load(bundle).predict([np.zeros((32, 32, 3), np.uint8)])
    assert found[0]["glasses"].probabilities == {"no": 0.5, "yes": 0.5}


def test_weights_in_another_file_are_not_read(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[tuple[str, str]]
) -> None:
    """ONNX Runtime would read them, relative to where the service was started."""
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(6, dtype=np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    events.clear()
    for location in ("secret", str(secret), "../" * 9 + str(secret)[1:]):
        graph = answering()
        graph.initializer[0].ClearField("raw_data")
        graph.initializer[0].data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", "24")):
            entry = graph.initializer[0].external_data.add()
            entry.key, entry.value = key, value
        save_cloud(bundle, graph)
        with pytest.raises(SfumatoError, match="lie in a file of their own"):
            CloudModel.load(bundle)
    both_refuse(bundle, "lie in a file of their own")
    assert not [what for what in events if what[0] == "open" and what[1].endswith("secret")]


def test_a_network_that_would_fill_the_memory_is_refused(bundle: Path) -> None:
    """700 million elements took 5.8 GB and were called ok."""
    huge = helper.make_tensor("huge", TensorProto.INT64, [2], [700_000_000, 1])
    nodes = [
        helper.make_node("ReduceMean", ["means"], ["one"], axes=[0, 1], keepdims=0),
        helper.make_node("Expand", ["one", "size"], ["flood"]),
        helper.make_node("ReduceMean", ["flood"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["means", "zero"], ["more"]),
    ]
    graph = answering(nodes=[helper.make_node("Constant", [], ["size"], value=huge), *nodes])
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    graph.node[-1].input[0] = "more"
    save_cloud(bundle, graph)
    both_refuse(bundle, "cloud.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, bundle: Path) -> None:
    save_cloud(bundle, answering(weights=np.full((3, 2), value, np.float32)))
    if value == np.inf:
        both_refuse(bundle, "not finite")
    with pytest.raises(SfumatoError, match="not finite"):
        CloudModel.load(bundle)
    path = bundle / "audit" / "cloud.safetensors"
    from safetensors.torch import load_file

    weights = load_file(path)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name] = torch.full_like(weights[name], value)
    path.unlink()
    save_file(weights, path)
    reseal(bundle, "audit/cloud.safetensors")
    with pytest.raises(SfumatoError, match="NaN or infinite weights"):
        load_export(bundle)


def deep(folder: Path) -> None:
    (folder / "card.json").write_bytes(b"[" * 100_000)


def change_card(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        (folder / "card.json").write_text(json.dumps({**card, **changes}))

    return change


def pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def flip_weights(folder: Path) -> None:
    path = folder / "cloud.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))


def cut_weights(folder: Path) -> None:
    path = folder / "cloud.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested card": (deep, "is not valid JSON"),
    "card of a list": (lambda f: (f / "card.json").write_text("[]"), "an object was expected"),
    "config of a list": (lambda f: (f / "config.json").write_text("[]"), "an object was expected"),
    "config of strange values": (
        lambda f: (f / "config.json").write_text(json.dumps(hostile_config(keep=3, bits="x"))),
        "keep",
    ),
    "no data set": (change_card(dataset=None), "dataset"),
    "figures that are text": (change_card(clean_accuracy={"glasses": "high"}), "clean_accuracy"),
    "figures that are no numbers": (change_card(clean_accuracy={"glasses": float("nan")}), "clean_accuracy"),
    "figures of another attribute": (change_card(clean_accuracy={"hair": 0.5}), "no figure for glasses"),
    "card that is a pipe": (pipe("card.json"), "is a pipe"),
    "config that is a pipe": (pipe("config.json"), "is a pipe"),
    "weights that are a pipe": (pipe("local.safetensors"), "is a pipe"),
    "a flipped bit": (flip_weights, "sha256 differs"),
    "a cut file": (cut_weights, "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_one_line(damage: str, dither_run: Run, tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run", hostile_config(), dither_run)
    assert load_run(run).keep == ("glasses",)
    change, words = DAMAGES[damage]
    change(run)
    with pytest.raises(SfumatoError, match=words) as caught:
        load_run(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "link", "device"])
def test_files_of_an_export_are_files(kind: str, bundle: Path, tmp_path: Path) -> None:
    for name in ("contract.json", "contract.sha256", "local_int8.tflite", "cloud.onnx"):
        path = bundle / name
        kept = shutil.move(path, tmp_path / "kept")
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(kept if kind == "link" else "/dev/zero")
        loads: dict[str, list[Callable[[Path], object]]] = {
            "local_int8.tflite": [PhoneModel.load],
            "cloud.onnx": [CloudModel.load],
        }
        for load in loads.get(name, [PhoneModel.load, CloudModel.load]):
            with pytest.raises(SfumatoError, match=r"is a link|is a pipe"):
                load(bundle)
        assert not verify(bundle).passed
        path.unlink()
        shutil.move(kept, path)
    PhoneModel.load(bundle)


@pytest.mark.parametrize("name", ["ledger", "ledger.anchor"])
def test_a_ledger_that_is_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", bytes(range(32)))
    ledger.account("photos.example")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SfumatoError, match=r"no regular file|is a pipe"):
        Ledger(tmp_path / "ledger", bytes(range(32))).account("photos.example")


def test_a_configuration_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.toml")
    with pytest.raises(SfumatoError, match="is a pipe"):
        make_config({}, tmp_path / "settings.toml")
