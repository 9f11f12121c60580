"""Both networks as one module, and what one pass of a batch through them gives.

model = LocalCloudModel(local, cloud, {"gender": 2})
output = model(images)                     # images: (B, 3, H, W) in 0..1
output.logits["gender"], output.rate       # (B, 2), and (B,) in nats
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from sfumato.channels import Parameters, prior_rate
from sfumato.channels.dither import Dither
from sfumato.core.strengths import FULL
from sfumato.models.argmax_head import ClassScores
from sfumato.models.cloud import answer, inner_network
from sfumato.models.local import LocalNetwork

Logits = dict[str, Tensor]
"""Head -> (B, classes)."""


class ForwardOutput(NamedTuple):
    """What one pass through both networks gives. A tuple: Fabric and DDP hand it through and find the tensors in it.

    Attributes:
        logits: of the cloud network, head -> (B, classes).
        features: what its heads look at, (B, F); None for a network other than the built-in one.
        aux_logits: of the local network's own classification, head -> (B, classes); empty without a decision or an auxiliary
            classifier.
        decision: of the local network, one-hot, head -> (B, classes); empty without.
        parameters: of the channel, each (B, planes, H, W).
        upload: (B, 3, H, W) in 0..1, of full strength.
        rate: of the upload against the uniform prior, (B,) in nats.
    """

    logits: Logits
    features: Tensor | None
    aux_logits: Logits
    decision: Logits
    parameters: Parameters
    upload: Tensor
    rate: Tensor


def by_head(planes: Tensor, heads: Mapping[str, int]) -> Logits:
    """Planes of all heads, (B, K, 1, 1) -> head -> (B, classes).

    Args:
        planes: those of the heads follow one another.
        heads: name -> number of classes.
    """
    return dict(zip(heads, planes.flatten(1).split(list(heads.values()), dim=1), strict=True))


class EncoderClassifier(nn.Module):
    """The part of a local network that classifies: its encoder and the logits of its decision, or of an auxiliary classifier.

    Args:
        local: a network with a decision, unless there are other scores.
        heads: names and classes of the kept attributes, in the order of the decision's planes.
        scores: an auxiliary classifier of the encoder's coarsest features.
    """

    def __init__(
        self, local: LocalNetwork, heads: Mapping[str, int], scores: ClassScores | None = None
    ) -> None:
        super().__init__()
        decision = local.decision if scores is None else scores
        assert decision is not None
        self.encoder, self.decision, self.heads = local.encoder, decision, dict(heads)

    def forward(self, x: Tensor) -> Logits:
        """Images (B, 3, H, W) -> logits, head -> (B, classes)."""
        return by_head(self.decision.logits(self.encoder(x)[-1]), self.heads)


class LocalCloudModel(nn.Module):
    """Local and cloud network as one module, so that one optimiser and one process group drive both.

    The logits of the local network's decision are trained on the desired labels beside everything else (deep supervision, Lee
    et al., 2015): through the noise of a few bits an image the local network would learn them far too slowly. Without a
    decision an auxiliary classifier does that for the encoder; it stays behind when the local network ships.

    Args:
        local, cloud: the two networks.
        heads: names and classes of the kept attributes, in the order of the decision's planes.
        fixed: the cloud network takes no step and stays in evaluation mode; gradients only pass through it. A restorer before
            it learns.
        dial: strengths, beside full strength, of the uploads that the cloud network learns from.
        auxiliary: classifies what the encoder sees, where the local network has no decision.
    """

    def __init__(
        self,
        local: LocalNetwork,
        cloud: nn.Module,
        heads: Mapping[str, int],
        *,
        fixed: bool = False,
        dial: Sequence[int] = (),
        auxiliary: ClassScores | None = None,
    ) -> None:
        super().__init__()
        self.local, self.cloud, self.heads, self.fixed = local, cloud, dict(heads), fixed
        self.auxiliary = auxiliary
        self.strengths = (FULL, *dial)
        if fixed:
            inner_network(cloud).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, for the local network alone if the cloud one is fixed."""
        super().train(mode)
        if self.fixed:
            inner_network(self.cloud).eval()
        return self

    def forward(self, x: Tensor) -> ForwardOutput:
        """Images (B, 3, H, W) in 0..1 -> what both networks make of them, with one fresh upload for each."""
        channel = self.local.channel
        fine, bottleneck, scores = self.look(x)
        aux_logits = {} if scores is None else by_head(scores, self.heads)
        decision = {} if self.local.decision is None else by_head(bottleneck, self.heads)
        parameters = self.local.decode(x, fine, bottleneck, scores)
        noise = channel.noise(parameters)
        upload = seen = channel.sample(parameters, noise)
        if self.training and len(self.strengths) > 1:
            # One of the strengths for each image. Everything but the cloud network looks at uploads of full strength.
            chosen = torch.randint(len(self.strengths), (len(x),), device=x.device)
            strength = torch.tensor(self.strengths, device=x.device)[chosen]
            seen = channel.sample(cast(Dither, channel).weaken(parameters, strength), noise)
        logits, features = answer(self.cloud, seen)
        rate = prior_rate(channel, parameters)
        return ForwardOutput(logits, features, aux_logits, decision, parameters, upload, rate)

    def look(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """What the phone sees on images (B, 3, H, W) before its decoder.

        Returns:
            The encoder's finer features, its decision or else the coarsest features, and the logits of all heads, (B, K, 1, 1):
            those of the decision, the shortlist or the auxiliary classifier; without any of these None.
        """
        *fine, coarse = self.local.encoder(x)
        if self.local.decision is not None:
            planes, decision = self.local.decision(coarse)
            return fine, decision, planes
        scores = self.scores
        return fine, coarse, None if scores is None else scores.logits(coarse)

    @property
    def scores(self) -> ClassScores | None:
        """What classifies the encoder's coarsest features where there is no decision."""
        return self.auxiliary if self.local.shortlist is None else self.local.shortlist

    def classifier(self) -> EncoderClassifier | None:
        """What classifies on the phone's side, for pretraining; None where nothing does."""
        if self.local.decision is None and self.scores is None:
            return None
        return EncoderClassifier(self.local, self.heads, self.scores)
