"""The matched network: small enough for CKKS at N = 8192, with squares or with ReLU in the same places.

A convolution of 8x8 with stride 4 and two linear layers, an activation after each of the first two: the shape of CryptoNets
(Gilad-Bachrach et al., ICML 2016). CKKS multiplies and adds, so it can only run squares; two-party computation runs both.

    network = train(SmallNetwork("square", classes=2), dataset, "smiling", epochs=30)
    network(prepare(images))               # (B, classes) logits
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split
from sfumato.models.schedule import one_cycle, set_learning_rate
from sfumato.models.tensors import to_tensor
from sfumato.training.loader import Batches

Activation = Literal["square", "relu"]
SIDE = 32
KERNEL, STRIDE = 8, 4
PLANES, HIDDEN = 4, 32
GRID = (SIDE - KERNEL) // STRIDE + 1
PEAK_RATE = 1e-2
BATCH = 64
CALM = 1e-2
"""Weight of the mean squared logit in the loss: what is left of the CKKS modulus at the end has room for 2^4."""


class SmallNetwork(nn.Module):
    """Convolution, activation, linear, activation, linear, for prepared images of SIDE x SIDE."""

    def __init__(self, activation: Activation, classes: int) -> None:
        super().__init__()
        self.activation = activation
        self.convolution = nn.Conv2d(3, PLANES, KERNEL, stride=STRIDE)
        self.first = nn.Linear(PLANES * GRID**2, HIDDEN)
        self.second = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, SIDE, SIDE) in -1..1 -> logits (B, classes)."""
        act = torch.square if self.activation == "square" else F.relu
        x = act(self.convolution(x)).flatten(1)
        logits: Tensor = self.second(act(self.first(x)))
        return logits


def prepare(images: NDArray[np.uint8]) -> Tensor:
    """Images (N, SIDE, SIDE, 3) as the network takes them, (N, 3, SIDE, SIDE) in -1..1."""
    return (2 * to_tensor(images) - 1).contiguous()


def train(network: SmallNetwork, dataset: Dataset, keep: str, *, epochs: int, seed: int = 0) -> SmallNetwork:
    """Train on the defender's split and return the network, ready to be evaluated."""
    seed_everything(seed, "cryptographic", network.activation)
    for part in (network.convolution, network.first, network.second):
        part.reset_parameters()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    batches = Batches(dataset, Split.DEFENDER, (keep,), BATCH)
    step, steps = 0, epochs * batches.steps
    for epoch in range(epochs):
        seed_everything(seed, "cryptographic", network.activation, epoch)
        order = torch.from_numpy(dataset.splits[Split.DEFENDER].copy())
        order = order[torch.randperm(len(order))]
        for start in range(0, batches.steps * BATCH, BATCH):
            set_learning_rate(optimizer, one_cycle(step, steps, PEAK_RATE))
            batch = batches.load(order[start : start + BATCH])
            # Mirrored half of the time. The trainer's turns and shifts are more than so small a network can follow.
            images = torch.where(
                torch.rand(len(batch.images), 1, 1, 1) < 0.5, batch.images, batch.images.flip(3)
            )
            logits = network(2 * images - 1)
            loss = F.cross_entropy(logits, batch.labels[keep]) + CALM * logits.square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
    return network.eval().requires_grad_(False)
