"""Qualcomm's emulation of the Hexagon's tensor processor (HTP) on this machine's processor, in a process of its own.

`onnxruntime-qnn` needs ONNX Runtime 1.24 or later, and the export has 1.23.0 (onnx2tf wants it), so the two cannot share an
environment. This file is run by the Python of the other one. It imports nothing of sfumato: `onnxruntime-qnn` brings all it
needs. A library that ends its process ends no more than this one.

    python qnn_emulator.py                  # versions, as a line of JSON
    python qnn_emulator.py FOLDER 73 75     # the work in FOLDER, for these generations of the Hexagon

FOLDER holds `model.onnx` and `photos.npy` (N, H, W, 3). Written there: `result.json`, the outputs of all photos as `NAME.npy`,
and for each generation `htp_vNN.onnx`, a context binary inside an ONNX file. Arithmetic is emulated, time is not.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPEATED = 4
"""Photos that every context binary is tried on."""
FATAL = 4


class Emulator:
    """ONNX Runtime with Qualcomm's execution provider, which is a plug-in: it is registered, not linked."""

    def __init__(self) -> None:
        """Raises ImportError, or what ONNX Runtime raises where it is too old."""
        import onnxruntime
        import onnxruntime_qnn

        self.runtime, self.qnn = onnxruntime, onnxruntime_qnn
        self.name: str = onnxruntime_qnn.get_ep_name()
        onnxruntime.register_execution_provider_library(self.name, onnxruntime_qnn.get_library_path())

    def versions(self) -> dict[str, str]:
        """What computes: a chip's own libraries may be of another version."""
        packages = {name: version(name) for name in ("onnxruntime", "onnxruntime-qnn")}
        return {**packages, "qnn": self.qnn.build_and_package_info.qnn_version}

    def open(
        self, model: Path, generation: int, *, fallback: bool = False, context: Path | None = None
    ) -> Any:
        """A session on the HTP.

        Args:
            model: with QuantizeLinear and DequantizeLinear, or a context binary.
            generation: of the Hexagon.
            fallback: let nodes that the HTP does not take run on the processor, to learn which they are.
            context: where a context binary is written.
        """
        options = self.runtime.SessionOptions()
        options.log_severity_level = FATAL
        entries = {"session.record_ep_graph_assignment_info": "1"}
        if not fallback:
            entries["session.disable_cpu_ep_fallback"] = "1"
        if context is not None:
            entries |= {"ep.context_enable": "1", "ep.context_embed_mode": "1"}
            entries["ep.context_file_path"] = str(context)
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        devices = [each for each in self.runtime.get_ep_devices() if each.ep_name == self.name]
        backend = {"backend_path": self.qnn.get_qnn_htp_path(), "htp_arch": str(generation)}
        options.add_provider_for_devices(devices, backend)
        return self.runtime.InferenceSession(str(model), options)

    def partition(self, model: Path, generation: int) -> dict[str, Any]:
        """How many parts of the graph the HTP took, with how many nodes, and which nodes it left."""
        parts = self.open(model, generation, fallback=True).get_provider_graph_assignment_info()
        mine = [part for part in parts if part.ep_name == self.name]
        others = [node for part in parts if part.ep_name != self.name for node in part.get_nodes()]
        return {
            "partitions": len(mine),
            "nodes": sum(len(part.get_nodes()) for part in mine),
            "outside": [f"{node.name} ({node.op_type})" for node in others],
        }


def work(folder: Path, generations: list[int]) -> dict[str, Any]:
    """Partition, run and compile; a graph that is not whole is neither run nor compiled."""
    import numpy as np

    emulator, model = Emulator(), folder / "model.onnx"
    found = emulator.partition(model, generations[0])
    if found["partitions"] != 1 or found["outside"]:
        return found
    photos = np.load(folder / "photos.npy")

    def run(session: Any, count: int) -> list[Any]:
        """Outputs of the first photos, each (count, H, W, planes)."""
        (entry,) = session.get_inputs()
        rows = []
        for number in range(count):
            rows.append(session.run(None, {entry.name: photos[number : number + 1]}))
            if count == len(photos):
                print("photo", number + 1, flush=True)
        return [np.concatenate(one) for one in zip(*rows, strict=True)]

    session = emulator.open(model, generations[0])
    outputs = run(session, len(photos))
    for entry, values in zip(session.get_outputs(), outputs, strict=True):
        np.save(folder / f"{entry.name}.npy", values)
    differ = []
    for generation in generations:
        context = folder / f"htp_v{generation}.onnx"
        emulator.open(model, generation, context=context)
        again = run(emulator.open(context, generation), min(REPEATED, len(photos)))
        if any((one != all_[: len(one)]).any() for one, all_ in zip(again, outputs, strict=True)):
            differ.append(generation)
    return {**found, "contexts_that_differ": differ}


def main(arguments: list[str]) -> None:
    """Versions, or the work of a folder."""
    if not arguments:
        print(json.dumps(Emulator().versions()))
        return
    folder = Path(arguments[0])
    result = work(folder, [int(one) for one in arguments[1:]])
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
