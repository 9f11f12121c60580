"""How much each block of a photo matters to the clean network: what gates may learn from before they learn from the task.

    significance = mean over a block of |d(score) / d(pixel) * (pixel - mean around it)|

The score is the clean network's own answer, before any softmax. Gradient times input says how much a pixel adds to a score
(Shrikumar et al., 2016). A plain wall has steep gradients too, but nothing on it can be seen, so the input is what differs from
its surroundings. One photo's map is noisy; a network that learns the maps of many photos averages that out.

logits, weights = answers_and_significance(clean, photos)      # weights: (B, 1, H / 8, W / 8)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels.dither import BLOCK
from sfumato.models.tensors import evaluating
from sfumato.training.losses import Logits

AROUND = 9
"""Height and width, in pixels, of a pixel's surroundings."""


def answers_and_significance(clean: nn.Module, photos: Tensor) -> tuple[Logits, Tensor]:
    """The clean network's logits for photos (B, 3, H, W), and each block's share of a photo's significance, (B, 1, h, w).

    Shares of a photo sum to 1; of several kept attributes the scores are added. Where nothing stands out they are equal.
    """
    with evaluating(clean), torch.enable_grad():
        seen = photos.detach().clone().requires_grad_()
        logits: Logits = clean(seen)
        score = sum(values.amax(1).sum() for values in logits.values())
        (slope,) = torch.autograd.grad(score, seen)  # type: ignore[arg-type]
    around = F.avg_pool2d(F.pad(photos, (AROUND // 2,) * 4, mode="reflect"), AROUND, 1)
    weights = F.avg_pool2d((slope * (photos - around)).abs().sum(1, keepdim=True), BLOCK)
    weights = weights + torch.finfo(weights.dtype).tiny
    shares = weights / weights.sum((2, 3), keepdim=True)
    return {name: values.detach() for name, values in logits.items()}, shares


def guide_loss(odds: Tensor, shares: Tensor) -> Tensor:
    """Mean cross entropy, in nats, between the shares of significance and the gates' log odds as if one block had to be chosen.

    Only differences between blocks count: how many are open is left to the task and the price.

    Args:
        odds: log odds that each block is open, (B, 1, h, w).
        shares: (B, 1, h, w).
    """
    return F.cross_entropy(odds.flatten(1), shares.flatten(1))
