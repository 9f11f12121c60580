r"""A tighter bound on the information in an upload: its divergence from a mixture prior instead of a uniform one.

The rate compares every upload with one uniform prior, so a code word that is repeated over many pixels is counted once per
pixel. But any prior over uploads bounds the mutual information, also a mixture r = sum_c w_c r_c. Its component c may be any
function of the image:

    I(X'; X) <= E KL(p(x'|x) || r) <= E[-log w_c] + E KL(p(x'|x) || r_c),        c = c(x)
                                        the answer        the residual

The residual alone bounds I(X'; X | C): what the upload tells about anything else once the answer C is known. Two images that
get the same answer and the same channel parameters differ in nothing that leaves the phone.

The components are fitted on the attacker's images (hard EM, that is k-means under the divergence, from the desired labels)
and evaluated on the test images, so nothing in the bound depends on the images it is evaluated on.

    bounds = information_bounds(data)
    bounds.tightest, bounds.total, bounds.answer, bounds.residual        # bits an image
"""

from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.audit.autoregressive_bound import autoregressive_bound
from sfumato.audit.schema import InformationBounds
from sfumato.channels import Channel, Parameters
from sfumato.core.rates import PICTURE_BITS
from sfumato.data.label_cells import label_cells

if TYPE_CHECKING:
    from sfumato.audit.attack_data import AttackData

ROUNDS = 10
"""Rounds of EM at most; it stops when no image changes its component."""
BATCH = 256


def fit_components(channel: Channel, parameters: Parameters, assigned: Tensor) -> tuple[Parameters, Tensor]:
    """The moment-matched component of every cell that has images, and log w.

    Args:
        channel: gives the moments.
        parameters: each (N, planes, H, W), any float type.
        assigned: (N,) int64, the cell of each image.

    Returns:
        parameters (K, planes, H, W) and the log share of each cell (K,).
    """
    members = [torch.nonzero(assigned == cell).flatten() for cell in assigned.unique()]
    parts = [
        {name: value.mean(0) for name, value in channel.to_moments(_float(parameters, rows)).items()}
        for rows in members
    ]
    stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    share = torch.tensor([len(rows) for rows in members], dtype=torch.float64) / len(assigned)
    return channel.from_moments(stacked), share.log()


def divergences(channel: Channel, parameters: Parameters, components: Parameters) -> Tensor:
    """KL of every image's upload from every component, in nats, (N, K) float64."""
    count = len(next(iter(parameters.values())))
    out = []
    for rows in torch.split(torch.arange(count), BATCH):
        part = _float(parameters, rows)
        out.append((channel.rate(part)[:, None] - channel.gain(part, components)).double())
    return torch.cat(out)


def fit_mixture(channel: Channel, parameters: Parameters, assigned: Tensor) -> tuple[Parameters, Tensor]:
    """Hard EM from the partition `assigned` (N,); returns components and their log weights."""
    components, log_weight = fit_components(channel, parameters, assigned)
    for _ in range(ROUNDS):
        moved = (divergences(channel, parameters, components) - log_weight).argmin(1)
        if torch.equal(moved, assigned):
            break
        assigned = moved
        components, log_weight = fit_components(channel, parameters, assigned)
    return components, log_weight


def information_bounds(data: "AttackData") -> InformationBounds:
    """The bounds in bits an image, evaluated on the test images."""
    base, train = data.train.images, data.train
    classes = [data.classes[name] for name in data.keep]
    answers = torch.from_numpy(label_cells([train.labels[name][:base] for name in data.keep], classes))
    known = {name: value[:base] for name, value in train.parameters.items()}
    components, log_weight = fit_mixture(data.channel, known, answers)
    nats = divergences(data.channel, data.test.parameters, components)
    cost = nats - log_weight
    nearest = cost.argmin(1, keepdim=True)
    total = cost.gather(1, nearest).mean().item() / log(2)
    residual = nats.gather(1, nearest).mean().item() / log(2)
    # A mixture of a few components cannot predict the next pixel of a picture.
    autoregressive = autoregressive_bound(data) if total > PICTURE_BITS else None
    return InformationBounds(
        total=total, answer=total - residual, residual=residual, autoregressive=autoregressive
    )


def _float(parameters: Parameters, rows: Tensor) -> Parameters:
    return {name: value[rows].float() for name, value in parameters.items()}
