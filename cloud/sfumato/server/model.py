"""The cloud's half of an export: contract.json and cloud.onnx, run by ONNX Runtime; neither torch nor TensorFlow is needed.

    model = CloudModel.load(Path("export"))
    (found,) = model.predict([levels])          # levels (H, W, 3) of one upload
    found["smiling"].label, found["smiling"].probabilities

The rest of the bundle (the phone's models, the audit files) need not be there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfumato.core.errors import SfumatoError
from sfumato.core.onnx_heads import match_heads
from sfumato.core.onnx_session import open_session
from sfumato.runtime.confidence import read_temperatures
from sfumato.runtime.contract import Contract, LabelPart, read_file, read_sealed
from sfumato.runtime.makers import check_remembered
from sfumato.runtime.masks import to_runs
from sfumato.runtime.sampler import pictures
from sfumato.runtime.verification import check_answers, run_onnx_sandboxed

MODEL = "cloud.onnx"
DIGITS = 6
"""Probabilities are rounded to this many digits: below it, the size of a batch shows in the last bits."""
VALUE_DIGITS = 3
"""And numbers to this many."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class AttributePrediction:
    """The prediction for one kept attribute."""

    label: Annotated[str, Field(examples=["yes"])]
    probabilities: Annotated[Mapping[str, float], Field(examples=[{"no": 0.03, "yes": 0.97}])]
    """Class name -> probability, in the order of the contract."""
    value: Annotated[float | None, Field(examples=[34.2])] = None
    """Of a number: the expected value over the classes by the network's own logits, in the number's unit. A kept class has
    none."""
    mask: Annotated[Sequence[int] | None, Field(examples=[[0, 37, 1, 4, 0, 215]])] = None
    """Of a mask: the class of every cell, row by row, as runs: class index, number of cells, and so on. `probabilities` are
    then the shares of the cells that each class is expected to have, `label` the class with the largest. Others have none."""


@dataclass(frozen=True)
class CloudModel:
    """A loaded cloud network with the contract it belongs to."""

    contract: Contract
    contract_json: bytes
    """contract.json as it lies on disk: what is served, and what the digest is of."""
    contract_digest: str
    """sha256 of `contract_json`, in hexadecimal."""
    id: str
    """sha256 of cloud.onnx, in hexadecimal."""
    session: Any

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> "CloudModel":
        """Open the cloud network of an export and run it once.

        Raises:
            SfumatoError: the contract or the network is missing, damaged, or not what the contract says.
        """
        folder = Path(folder)
        if (folder / "checkpoint").exists() or (folder / "local.safetensors").exists():
            raise SfumatoError(
                f"{folder} is a run: make an export of it first, sfumato export {folder} --out EXPORT"
            )
        contract, content = read_sealed(folder)
        check_remembered(folder)
        entry = contract.file(MODEL)
        network = read_file(folder, entry)
        run_onnx_sandboxed(network, MODEL, lambda session: check_answers(session, contract))
        session = open_session(network, threads=threads, name=MODEL)
        return cls(contract, content, hashlib.sha256(content).hexdigest(), entry.sha256, session)

    def predict(self, uploads: Sequence[Bytes]) -> list[dict[str, AttributePrediction]]:
        """Predictions for a batch of uploads: attribute -> prediction, one dictionary an upload.

        Args:
            uploads: levels of each, (height, width, 3) of the contract's `upload_size`.
        """
        return self.predict_pixels(self.pixels(uploads))

    def pixels(self, uploads: Sequence[Bytes]) -> NDArray[np.float32]:
        """Uploads as the network takes them: (B, 3, H, W) in 0..1."""
        channel = self.contract.channel
        return pictures(uploads, bits=channel.bits, side=channel.side)

    def predict_pixels(self, pixels: NDArray[np.float32]) -> list[dict[str, AttributePrediction]]:
        """The same as `predict`, of what `pixels` gives."""
        logits = self.run(pixels)
        heads = [
            _predictions(entry, head, temperature)
            for entry, head, temperature in zip(self.contract.keep, logits, self.temperatures, strict=True)
        ]
        names = [entry.name for entry in self.contract.keep]
        return [dict(zip(names, found, strict=True)) for found in zip(*heads, strict=True)]

    def run(self, pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Uploads (B, 3, H, W) in 0..1 -> logits (B, classes) of every kept attribute, in the order of the contract; of a mask
        (B, classes, rows, columns)."""
        image, heads = self.ends
        logits: list[NDArray[np.float32]] = self.session.run(heads, {image: pixels})
        return logits

    @cached_property
    def temperatures(self) -> tuple[float, ...]:
        """What the logits of every kept attribute are divided by, so that probabilities mean what they say.

        Raises:
            SfumatoError: the contract's figures are damaged.
        """
        return read_temperatures(self.contract)

    @cached_property
    def ends(self) -> tuple[str, list[str]]:
        """Names of the network's input and of its outputs, in the order of the contract."""
        outputs = [output.name for output in self.session.get_outputs()]
        heads = match_heads(outputs, [entry.name for entry in self.contract.keep])
        return self.session.get_inputs()[0].name, list(heads)


def _predictions(
    entry: LabelPart, logits: NDArray[np.float32], temperature: float
) -> list[AttributePrediction]:
    """Of one head, (B, classes), or of a mask (B, classes, rows, columns)."""
    masks: Sequence[list[int] | None] = [None] * len(logits)
    probabilities = softmax(logits / temperature)
    if entry.grid is not None:
        masks = [to_runs(cells) for cells in logits.argmax(axis=1)]
        probabilities = probabilities.mean(axis=(2, 3))
    labels, rows = probabilities.argmax(axis=1).tolist(), probabilities.round(DIGITS).tolist()
    numbers: Sequence[float | None] = [None] * len(rows)
    if entry.values is not None:
        # Without the temperature, as training, audit and the contract's figures read numbers.
        numbers = (softmax(logits) @ np.array(entry.values)).round(VALUE_DIGITS).tolist()
    return [
        AttributePrediction(entry.classes[label], dict(zip(entry.classes, row, strict=True)), value, mask)
        for label, row, value, mask in zip(labels, rows, numbers, masks, strict=True)
    ]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(B, classes) logits, or more axes behind -> probabilities, in double precision."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result
