"""MaxEnt-ARL (Roy and Boddeti, "Mitigating Information Leakage in Image Representations: A Maximum Entropy Approach",
CVPR 2019).

The encoder does not try to make the adversary wrong, which can be read by turning its answer round, but undecided:

    encoder, cloud:   CE_task - a H(q(s | z))        adversary q:   CE

H is the entropy of the adversary's answer, summed over the hidden attributes. Encoder and cloud are the halves of the clean
network, so that all methods start alike. a is the curve, its values are ours.
"""

import torch
from torch import Tensor

from sfumato.compare.methods.base import Curve, Method, Phase, Task
from sfumato.compare.methods.draws import Fixed
from sfumato.compare.methods.parts import CutEncoder, Tail, split
from sfumato.models.cost import Cost, cost
from sfumato.training.loader import Batch


def answer_entropy(logits: dict[str, Tensor]) -> Tensor:
    """Entropy of the answers in nats, mean over the batch, summed over attributes.

    >>> round(answer_entropy({"s": torch.zeros(3, 2)}).item(), 4)  # log 2
    0.6931
    """
    parts = [torch.special.entr(answer.softmax(1)).sum(1).mean() for answer in logits.values()]
    return torch.stack(parts).sum()


class MaxEntArl(Method):
    """Encoder that maximises the adversary's entropy."""

    curve = Curve(
        "weight",
        (1.0, 0.1, 10.0, 100.0),
        published="its figures are of other data and were not read in full, none is reproduced",
    )
    reads_hidden = True
    phone: CutEncoder

    def __init__(self, task: Task, *, weight: float = 1.0) -> None:
        head, whole = split(task.clean)
        phone = CutEncoder(head, task)
        cloud, adversary = Tail(whole, scale=phone.bound), task.adversary(phone.shape)
        super().__init__(task, phone=phone, draw=Fixed(), cloud=cloud, adversary=adversary)
        self.weight = weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Task minus the weighted entropy."""
        upload = self.upload(batch.images)
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        entropy = answer_entropy(self.adversary_logits(upload))
        return {"loss": task - self.weight * entropy, "task": task, "entropy": entropy}

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """The first layers."""
        return cost(self.phone.head, shape)
