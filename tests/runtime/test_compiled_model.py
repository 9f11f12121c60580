"""What the Android app counts on in CompiledModel, asked of the same release's library on this computer (decision 40)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("ai-edge-litert has wheels for Linux alone", allow_module_level=True)

from ai_edge_litert.compiled_model import CompiledModel, _cm
from ai_edge_litert.interpreter import Interpreter

CPU, GPU, NPU = 1, 2, 4
"""LiteRtHwAccelerator of litert_common.h; Python's own class has the CPU alone."""


@pytest.fixture(scope="module")
def model(int8_export: Callable[[str], Path]) -> Path:
    """An int8 model with two outputs of one size."""
    return int8_export("gaussian") / "local_int8.tflite"


def compiled(model: Path, accelerators: int) -> CompiledModel:
    """Compile for a set of accelerators."""
    options: dict[str, Any] = {"compiler_plugin_path": "", "dispatch_library_path": ""}
    return CompiledModel(_cm.CreateCompiledModelFromFile(str(model), hardware_accel=accelerators, **options))


@pytest.mark.parametrize("accelerators", [GPU, NPU, GPU | NPU])
def test_a_model_that_no_accelerator_takes_is_refused_unless_the_cpu_is_in_the_set(
    model: Path, accelerators: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """This computer has neither: alone they refuse, beside the CPU it runs everything and nothing is said."""
    with pytest.raises(RuntimeError, match="litert_compiled_model"):
        compiled(model, accelerators)
    capfd.readouterr()
    compiled(model, accelerators | CPU)
    assert "not accelerated" not in "".join(capfd.readouterr())


def test_buffers_have_the_interpreter_s_order_and_bytes(model: Path) -> None:
    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    assert interpreter.get_signature_list() == {}, "a signature would order the outputs by its own names"
    (entry,) = interpreter.get_input_details()
    image = np.random.default_rng(0).integers(-128, 128, entry["shape"]).astype(np.int8)
    interpreter.set_tensor(entry["index"], image)
    interpreter.invoke()
    network = compiled(model, CPU)
    inputs, outputs = network.create_input_buffers(0), network.create_output_buffers(0)
    details = interpreter.get_output_details()
    assert (len(inputs), len(outputs), len(details)) == (1, 2, 2)
    inputs[0].write(image.ravel())
    network.run_by_index(0, inputs, outputs)
    for detail, buffer in zip(details, outputs, strict=True):
        expected = interpreter.get_tensor(detail["index"]).ravel()
        assert np.array_equal(buffer.read(expected.size, np.int8), expected), detail["name"]
    (names,) = network.get_signature_list().values()
    assert names == {"inputs": [entry["name"]], "outputs": [detail["name"] for detail in details]}
