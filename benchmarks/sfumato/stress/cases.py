"""Uploads with the answers that belong to them, as requests ready for the wire.

cases = make_cases(export)
cases[0].request                # bytes of a whole HTTP request
cases[0].check(body)            # raises if the answer is not the network's own
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.cloud_model import CloudModel
from sfumato.device import PhoneModel
from sfumato.upload import encode_png, pack

TOLERANCE = 5e-6
"""A probability may differ by this much: the size of a batch shows in the last digits."""
FORMS = {"png": "image/png", "packed": "application/vnd.sfumato.packed"}
KEY = bytes(32)


@dataclass(frozen=True)
class Case:
    """One upload and what must be answered."""

    request: bytes
    body: bytes
    levels: NDArray[np.uint8]
    expected: Mapping[str, Mapping[str, float]]

    def right(self, answer: bytes) -> bool:
        """Whether a body is the network's own answer to this upload."""
        answers = json.loads(answer)["answers"]
        return all(
            abs(answers[name]["probabilities"][option] - value) <= TOLERANCE
            for name, options in self.expected.items()
            for option, value in options.items()
        )


def make_cases(export: Path, *, count: int = 64, form: str = "png") -> list[Case]:
    """Perturb `count` soft pictures, each of its own colours, and ask the network about each alone."""
    phone, cloud = PhoneModel.load(export), CloudModel.load(export)
    bits, cases = phone.contract.channel.bits, []
    for number in range(count):
        levels = phone.perturb(waves(number, *phone.contract.size), key=KEY).levels
        (answer,) = cloud.answer([levels])
        body = encode_png(levels, bits=bits) if form == "png" else pack(levels, bits=bits)
        expected = {name: found.probabilities for name, found in answer.items()}
        cases.append(Case(request(body, FORMS[form], cloud.contract_digest), body, levels, expected))
    return cases


def waves(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture with something to see in it, (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width] / height
    a, b, c = np.random.default_rng(number).uniform(1, 6, (3, 3))
    picture: NDArray[np.uint8] = (127 + 120 * np.sin(a * x[..., None] + b * y[..., None] + c)).astype(
        np.uint8
    )
    return picture


def request(body: bytes, content_type: str, digest: str, *, more: str = "") -> bytes:
    """A POST of an upload; `more` are further header lines, each with its line end."""
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Sfumato-Contract: {digest}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body
