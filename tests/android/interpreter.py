"""An interpreter at the end of a pipe: what the app's benchmark measures on a computer (HostBenchmark.kt).

    python interpreter.py THREADS

The model comes first, after its size; the answer describes its tensors in JSON. Then each question is one letter: `f` fills the
input, `i` runs the model, `r` reads the outputs. Sizes are four bytes, the most significant first.
"""

import json
import sys
from typing import Any

import numpy as np

from sfumato.runtime.interpreter import open_model


def main() -> None:
    """Answer until the pipe is closed."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    session = open_model(questions.read(size(questions.read(4))), threads=int(sys.argv[1]))
    (entry,) = session.inputs.values()
    tensors = {
        "inputs": [describe(entry)],
        "outputs": [describe(output) for output in session.outputs.values()],
    }
    answers.write(sized(json.dumps(tensors).encode()))
    answers.flush()
    while question := questions.read(1):
        if question == b"f":
            count = int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
            image = np.frombuffer(questions.read(count), entry["dtype"]).reshape(entry["shape"])
            session.interpreter.set_tensor(entry["index"], image)
            answers.write(b".")
        elif question == b"i":
            session.interpreter.invoke()
            answers.write(b".")
        else:
            for output in session.outputs.values():
                answers.write(sized(session.interpreter.get_tensor(output["index"]).tobytes()))
        answers.flush()


def describe(entry: Any) -> dict[str, Any]:
    """A tensor as TensorInfo of the core."""
    scale, zero_point = entry["quantization"]
    return {
        "name": entry["name"],
        "shape": [int(side) for side in entry["shape"]],
        "type": np.dtype(entry["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }


def size(content: bytes) -> int:
    """Four bytes as a number."""
    return int.from_bytes(content, "big")


def sized(content: bytes) -> bytes:
    """Content after its size."""
    return len(content).to_bytes(4, "big") + content


if __name__ == "__main__":
    main()
