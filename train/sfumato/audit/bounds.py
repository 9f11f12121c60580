r"""A tighter bound on what an upload tells: its divergence from a mixture of references instead of from one.

The rate measures every upload against one fixed reference r, so a code word that is repeated over many pixels for safety is
counted once per pixel. But any reference bounds the mutual information, also a mixture r = sum_c w_c r_c, one part per thing
that the uploads say, and c may be any function of the image:

    I(X'; X) <= E KL(p(x'|x) || r) <= E[-log w_c] + E KL(p(x'|x) || r_c),        c = c(x)
                                        the answer          beyond it

The second term alone bounds I(X'; X | C): what the upload tells about anything else once the answer C is known. Two images
that get the same answer and the same channel parameters differ in nothing that leaves the phone.

The references are fitted on the attacker's images (hard EM, that is k-means under the divergence, from the desired labels) and
judged on the test images, so nothing in the bound depends on what it is judged on.

    bound = bound_information(evidence)
    bound.least, bound.total, bound.answer, bound.beyond        # bits an image
"""

from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.audit.autoregressive_bound import context_bits
from sfumato.audit.schema import InformationBits
from sfumato.channels import Channel, Parameters
from sfumato.core.rates import PICTURE_BITS

if TYPE_CHECKING:
    from sfumato.audit.attack_data import Evidence

ROUNDS = 10
"""Rounds of EM at most; it stops when no image changes its reference."""
BATCH = 256


def references(channel: Channel, parameters: Parameters, cells: Tensor) -> tuple[Parameters, Tensor]:
    """The moment-matched reference of every cell that has images, and log w.

    Args:
        channel: gives the moments.
        parameters: each (N, planes, H, W), any float type.
        cells: (N,) int64.

    Returns:
        parameters (K, planes, H, W) and the log share of each cell (K,).
    """
    rows = [torch.nonzero(cells == cell).flatten() for cell in cells.unique()]
    parts = [
        {name: value.mean(0) for name, value in channel.to_moments(_float(parameters, r)).items()}
        for r in rows
    ]
    stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    share = torch.tensor([len(r) for r in rows], dtype=torch.float64) / len(cells)
    return channel.from_moments(stacked), share.log()


def divergences(channel: Channel, parameters: Parameters, reference: Parameters) -> Tensor:
    """KL of every image's draw from every reference, in nats, (N, K) float64."""
    count = len(next(iter(parameters.values())))
    out = []
    for rows in torch.split(torch.arange(count), BATCH):
        part = _float(parameters, rows)
        out.append((channel.rate(part)[:, None] - channel.gain(part, reference)).double())
    return torch.cat(out)


def fit(channel: Channel, parameters: Parameters, cells: Tensor) -> tuple[Parameters, Tensor]:
    """Hard EM from the partition `cells` (N,); returns references and their log weights."""
    reference, log_weight = references(channel, parameters, cells)
    for _ in range(ROUNDS):
        moved = (divergences(channel, parameters, reference) - log_weight).argmin(1)
        if torch.equal(moved, cells):
            break
        cells = moved
        reference, log_weight = references(channel, parameters, cells)
    return reference, log_weight


def bound_information(evidence: "Evidence") -> InformationBits:
    """The bound in bits an image, judged on the test images."""
    base, side = evidence.train.images, evidence.train
    cells = torch.zeros(base, dtype=torch.int64)
    for name in evidence.keep:
        cells = cells * evidence.classes[name] + torch.from_numpy(side.labels[name][:base])
    known = {name: value[:base] for name, value in side.parameters.items()}
    reference, log_weight = fit(evidence.channel, known, cells)
    tables = divergences(evidence.channel, evidence.test.parameters, reference)
    cost = tables - log_weight
    chosen = cost.argmin(1, keepdim=True)
    total = cost.gather(1, chosen).mean().item() / log(2)
    beyond = tables.gather(1, chosen).mean().item() / log(2)
    # No mixture of a few knows what a picture's next pixel will be.
    context = context_bits(evidence) if total > PICTURE_BITS else None
    return InformationBits(total=total, answer=total - beyond, beyond=beyond, context=context)


def _float(parameters: Parameters, rows: Tensor) -> Parameters:
    return {name: value[rows].float() for name, value in parameters.items()}
