"""Uploads with the answers that belong to them, as requests ready for the wire.

cases = make_cases(export)          # an answer bundle's travel as words, all others as PNG
cases[0].request                # bytes of a whole HTTP request
cases[0].right(body)            # whether the answer is the network's own
batch(cases)                    # the same uploads in one request
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import UsageError
from sfumato.runtime.answer import read_image, word_bytes
from sfumato.runtime.contract import Contract
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import encode_png, pack
from sfumato.server.formats import PACKED, PACKED_BATCH, PNG, WORD, WORD_BATCH
from sfumato.server.model import CloudModel

TOLERANCE = 5e-6
"""A probability may differ by this much: the size of a batch shows in the last digits."""
FORMS = {"png": PNG, "packed": PACKED, "word": WORD}
KEY = bytes(32)


@dataclass(frozen=True)
class Case:
    """One upload and what must be answered."""

    request: bytes
    kind: str
    """Media type."""
    body: bytes
    levels: NDArray[np.uint8]
    expected: Mapping[str, Mapping[str, float]]
    uploads = 1

    def right(self, answer: bytes) -> bool:
        """Whether a body is the network's own answer to this upload."""
        return self.agrees(json.loads(answer))

    def agrees(self, answer: Any) -> bool:
        """The same, for JSON that has been read."""
        return all(
            abs(answer["answers"][name]["probabilities"][option] - value) <= TOLERANCE
            for name, options in self.expected.items()
            for option, value in options.items()
        )


@dataclass(frozen=True)
class Batch:
    """Several uploads in one request."""

    request: bytes
    cases: Sequence[Case]

    @property
    def uploads(self) -> int:
        """How many."""
        return len(self.cases)

    def right(self, answer: bytes) -> bool:
        """Whether a body holds the network's own answer to each, in order."""
        items = json.loads(answer)["items"]
        return len(items) == len(self.cases) and all(map(Case.agrees, self.cases, items))


def make_batches(export: Path, cases: Sequence[Case], size: int, *, more: str = "") -> list[Batch]:
    """The cases, `size` a request; `more` as for `request`."""
    cloud = CloudModel.load(export)
    kind, form = (
        (WORD_BATCH, "word") if cases[0].kind == WORD else (PACKED_BATCH, "packed")
    )  # there is no batch of PNGs
    groups = [cases[at : at + size] for at in range(0, len(cases) - size + 1, size)]
    bodies = [b"".join(encode(case.levels, cloud.contract, form) for case in group) for group in groups]
    return [
        Batch(request(body, kind, cloud.contract_digest, path="/v1/predict/batch", more=more), group)
        for body, group in zip(bodies, groups, strict=True)
    ]


def make_cases(export: Path, *, count: int = 64, form: str | None = None, more: str = "") -> list[Case]:
    """Perturb `count` soft pictures, each of its own colours, and ask the network about each alone.

    `form` is one of `FORMS`; None takes the word of an answer bundle, and the PNG of any other. `more` as for `request`.

    Raises:
        UsageError: another form, or the word of a picture bundle.
    """
    phone, cloud = PhoneModel.load(export), CloudModel.load(export)
    form, cases = checked_form(phone.contract, form), []
    for number in range(count):
        levels = phone.perturb(waves(number, *phone.contract.size), key=KEY).levels
        (answer,) = cloud.predict([levels])
        body = encode(levels, phone.contract, form)
        expected = {name: found.probabilities for name, found in answer.items()}
        content = request(body, FORMS[form], cloud.contract_digest, more=more)
        cases.append(Case(content, FORMS[form], body, levels, expected))
    return cases


def checked_form(contract: Contract, form: str | None) -> str:
    """The form in which uploads travel.

    Raises:
        UsageError: another form, or the word of a picture bundle.
    """
    words = contract.answer is not None
    if form is None:
        return "word" if words else "png"
    known = [name for name in FORMS if words or name != "word"]
    if form not in known:
        raise UsageError(f"this export's uploads travel as {' or '.join(known)}, not as {form!r}")
    return form


def encode(levels: NDArray[np.uint8], contract: Contract, form: str) -> bytes:
    """An upload (H, W, 3) as it travels."""
    if form == "word":
        assert contract.answer is not None, "checked_form comes first"
        words = contract.answer.words
        return word_bytes(read_image(levels, words), words)
    bits = contract.channel.bits
    return encode_png(levels, bits=bits) if form == "png" else pack(levels, bits=bits)


def waves(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture with something to see in it, (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width] / height
    a, b, c = np.random.default_rng(number).uniform(1, 6, (3, 3))
    picture: NDArray[np.uint8] = (127 + 120 * np.sin(a * x[..., None] + b * y[..., None] + c)).astype(
        np.uint8
    )
    return picture


def request(
    body: bytes, content_type: str, digest: str, *, more: str = "", path: str = "/v1/predict"
) -> bytes:
    """A POST of uploads; `more` are further header lines, each with its line end."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Sfumato-Contract: {digest}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body
