"""`export --encoding index`: uploads that are entries of a public book (docs/decisions/0045-index-encoding.md).

request = read_encoding("index:1728")
part = index_part(run, request, strengths=(), variants=("int8",))
figures = measure_index(run, open_model(content), part)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.channels import upload_size
from sfumato.core.errors import UsageError
from sfumato.export.measure import SEED, bits_of, hits, measured_images, spread
from sfumato.export.parity import run_int8
from sfumato.runtime.contract import INDEX_BITS_A_PIXEL, INDEX_MEMORY, MOST_INDEX_PIXELS, Contract, IndexPart
from sfumato.runtime.index_code import IndexCode
from sfumato.runtime.interpreter import Session
from sfumato.training.run import AnswerRun, Run

IMAGES = 500
"""Test images that indices are drawn for, at most: a draw takes ten times as long as the network."""
BATCH = 16


@dataclass(frozen=True)
class IndexRequest:
    """What `--encoding index` asks for."""

    bits: int | None = None
    """Of an index; None: half of the packed upload."""
    power: int = 2
    memory: int = INDEX_MEMORY[1]
    """Every bit more doubles the time of a draw, and less accuracy is lost."""


def read_encoding(text: str) -> IndexRequest | None:
    """What `--encoding` asks for; None for `packed`.

    >>> read_encoding("packed"), read_encoding("index:1728:1")
    (None, IndexRequest(bits=1728, power=1, memory=10))

    Raises:
        UsageError: neither `packed` nor `index[:BITS[:POWER[:MEMORY]]]`.
    """
    found = re.fullmatch(r"packed|(index)(?::([0-9]{1,9})(?::([12])(?::([4-9]|10))?)?)?", text)
    if found is None:
        raise UsageError(
            "--encoding is packed or index[:BITS[:POWER[:MEMORY]]] with a power of 1 or 2 and a memory of 4 to 10 bits, "
            f"not {text!r}"
        )
    name, *given = found.groups()
    numbers = {key: int(one) for key, one in zip(("bits", "power", "memory"), given, strict=True) if one}
    return None if name is None else IndexRequest(**numbers)


def index_part(
    run: Run, request: IndexRequest, *, strengths: Sequence[int], variants: Sequence[str]
) -> IndexPart:
    """The book that a run's uploads become entries of.

    Args:
        run: in picture mode.
        request: of `read_encoding`.
        strengths: points of the export.
        variants: models of the export.

    Raises:
        UsageError: the run has no dither channel of 2 or 4 levels without gates, there are points or no int8 model, or the book
            cannot have so many bits.
    """
    if (
        isinstance(run, AnswerRun)
        or run.channel.name != "dither"
        or bits_of(run.channel) > 2
        or run.channel.settings.get("gates")
    ):
        raise UsageError(
            "--encoding index needs picture mode and the channel dither with 2 or 4 levels, without gates"
        )
    if run.channel.colours != 3:
        raise UsageError(
            "a book has entries in colour alone: export packed uploads of this run, whose pictures are grey"
        )
    if run.config.shortlist:
        raise UsageError("a book has no entry for every shortlist: export packed uploads of this run")
    if strengths:
        raise UsageError("an index has no points: export with --points ''")
    if "int8" not in variants:
        raise UsageError("an index is drawn from the int8 model: export the variant int8 too")
    (height, width), planes = upload_size(run.channel, run.dataset.size), 3 * bits_of(run.channel)
    bits = request.bits or height * width * planes // 2
    least, most = height * width * planes // 3, height * width * min(planes, INDEX_BITS_A_PIXEL)
    if height * width > MOST_INDEX_PIXELS or not least <= bits <= most:
        raise UsageError(
            f"an index of {height} x {width} pixels has {least:,} to {most:,} bits, not {bits:,}"
        )
    return IndexPart(bits=bits, power=request.power, memory=request.memory)  # type: ignore[arg-type]


def with_index(contract: Contract, part: IndexPart, figures: dict[str, Any]) -> Contract:
    """A contract whose uploads are indices, with what was measured of them."""
    sizes = {**contract.figures["upload_bytes"], "index": float(-(-part.bits // 8))}
    upload = contract.upload.model_copy(update={"encoding": "index"})
    return contract.model_copy(
        update={
            "sampler": 2,
            "upload": upload,
            "index": part,
            "figures": {**contract.figures, "upload_bytes": sizes, "index": figures},
        }
    )


def measure_index(run: Run, session: Session, part: IndexPart) -> dict[str, Any]:
    """Accuracy of the cloud network on drawn entries, and what they tell: for the contract's `figures`.

    Returns:
        `images`; `accuracy`, a fraction per kept attribute; `rate_bits`, mean, p95 and max of the exact bits.
    """
    images, truths = measured_images(run, IMAGES)
    q = run_int8(session, images)["p"]
    height, width, planes = q.shape[1:]
    gray = bool(run.channel.settings.get("gray"))
    code = IndexCode(height, width, planes, part.bits, gray, part.power, part.memory)
    rng = np.random.default_rng(SEED)
    drawn: list[NDArray[np.uint8]] = []
    rates = []
    for start in range(0, len(q), BATCH):
        some = q[start : start + BATCH]
        noise = rng.integers(0, 256, (len(some), code.noise_bytes), dtype=np.uint8)
        drawn += [*code.levels_of_many(code.draw_many(some, noise))]
        rates.append(code.exact_law(some)[0])
    right = hits(run.cloud, drawn, truths, run.channel)
    return {
        "images": len(images),
        "accuracy": {name: round(share, 6) for name, share in right.items()},
        "rate_bits": {name: round(bits, 6) for name, bits in spread(np.concatenate(rates)).items()},
    }
