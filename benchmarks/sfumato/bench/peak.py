"""What this machine can do at most, with the interpreter that runs the models: the roof over every measured time.

The rate comes from convolutions of size 1, which are matrix products, written here as one-operator .tflite files; the speed of
memory from copies between buffers of several sizes.

    machine = measure_machine()
    machine.int8_gmac_per_s
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from sfumato.bench.results import Machine
from sfumato.bench.standard import runner
from sfumato.bench.timing import interleave

SHAPES = ((16, 256), (32, 128), (32, 256), (48, 192))
"""(height and width, planes in and out) of the convolutions; the fastest counts."""
COPIES_KIB = (128, 512, 2048, 65536)
ROUNDS, RUNS, SECONDS = 8, 160, 1.6


def measure_machine() -> Machine:
    """Highest rates and copy speeds of one thread; ten seconds."""
    calls: dict[str, Callable[[], object]] = {}
    for kind in ("int8", "float32"):
        for side, planes in SHAPES:
            calls[f"{kind} {side * side * planes * planes}"] = runner(product_model(side, planes, kind))
    for size in COPIES_KIB:
        source, target = np.ones(512 * size, np.uint8), np.zeros(512 * size, np.uint8)
        calls[f"copy {size}"] = lambda source=source, target=target: np.copyto(target, source)  # type: ignore[misc]
    times = interleave(calls, rounds=ROUNDS, runs=RUNS, seconds=SECONDS)
    rates: dict[str, list[float]] = {"int8": [], "float32": [], "copy": []}
    for name, found in times.items():
        kind, work = name.split()
        # Both halves of the room are touched: one is read, one written.
        amount = 1024 * int(work) if kind == "copy" else int(work)
        # A roof is what can be reached, not what others left of the machine.
        rates[kind].append(amount / 1e6 / found.p(5))
    return Machine(
        int8_gmac_per_s=max(rates["int8"]),
        float32_gmac_per_s=max(rates["float32"]),
        copy_gb_per_s={str(size): speed for size, speed in zip(COPIES_KIB, rates["copy"], strict=True)},
    )


def table(kind: Any, **fields: Any) -> Any:
    """A table of the schema with these fields. Constructors of older releases take none."""
    made = kind()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def product_model(side: int, planes: int, kind: str) -> bytes:
    """A .tflite file with one convolution of size 1, (1, side, side, planes) -> the same; `kind` int8 or float32."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = importlib.import_module("flatbuffers")
    rng, int8 = np.random.default_rng(0), kind == "int8"
    weights = rng.integers(-127, 128, planes * planes).astype(np.int8)
    bias = np.zeros(planes, np.int32 if int8 else np.float32)
    buffers = [b"", weights.tobytes() if int8 else (weights / np.float32(127)).tobytes(), bias.tobytes()]
    types = schema.TensorType
    value, sums = (types.INT8, types.INT32) if int8 else (types.FLOAT32, types.FLOAT32)
    image = [1, side, side, planes]

    def tensor(name: str, shape: list[int], kind: int, buffer: int, scale: float, channels: int = 1) -> Any:
        quantization = None
        if int8:
            quantization = table(
                schema.QuantizationParametersT,
                scale=[scale] * channels,
                zeroPoint=[0] * channels,
                quantizedDimension=0,
            )
        return table(
            schema.TensorT, shape=shape, type=kind, buffer=buffer, name=name, quantization=quantization
        )

    tensors = [
        tensor("image", image, value, 0, 1 / 128),
        tensor("weights", [planes, 1, 1, planes], value, 1, 1 / 128, planes),
        tensor("bias", [planes], sums, 2, 1 / 128**2, planes),
        tensor("out", image, value, 0, planes / 128),
    ]
    options = table(schema.Conv2DOptionsT, padding=schema.Padding.VALID, strideW=1, strideH=1)
    operator = table(
        schema.OperatorT,
        opcodeIndex=0,
        inputs=[0, 1, 2],
        outputs=[3],
        builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
        builtinOptions=options,
    )
    code = schema.BuiltinOperator.CONV_2D
    model = table(
        schema.ModelT,
        version=3,
        operatorCodes=[
            table(
                schema.OperatorCodeT, deprecatedBuiltinCode=code, builtinCode=code, version=3 if int8 else 1
            )
        ],
        subgraphs=[table(schema.SubGraphT, tensors=tensors, inputs=[0], outputs=[3], operators=[operator])],
        buffers=[
            table(schema.BufferT, data=np.frombuffer(data, np.uint8) if data else None) for data in buffers
        ],
    )
    builder = flatbuffers.Builder(len(buffers[1]) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
