"""The task: the desired labels, and the clean network as a teacher.

    CE(cloud) + w_f |features - features of the teacher|^2 / spread + w_a CE(local network's own classification)

Both cross entropies follow the labels and, by the share `distill`, the teacher's soft outputs.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from sfumato.models.cloud import BUILT_IN, answer
from sfumato.models.layers import fold
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput, Logits
from sfumato.training.log import RunningMeans
from sfumato.training.losses import feature_loss, task_loss
from sfumato.training.regularisers.base import Regulariser, Setting


class TaskLoss(Regulariser):
    """The task's own terms, with the same interface as what is added to them.

    Args:
        setting: of the run.
        clean: the clean cloud network, in evaluation mode on the training device.
    """

    name = "task"

    def __init__(self, setting: Setting, clean: nn.Module) -> None:
        self.config = setting.config
        self.built_in = isinstance(clean, BUILT_IN)
        # The same outputs from fewer operators. What the user's own networks do with their layers is not known.
        self.teacher = fold(deepcopy(clean)) if self.built_in else clean
        # Only the built-in network has features to compare, and a frozen one cannot follow, unless a restorer does it for it.
        able = self.built_in and (self.config.frozen_cloud is None or self.config.restore)
        self.feature_weight = self.config.feature_loss_weight if able else 0.0

    def teacher_outputs(self, images: Tensor) -> tuple[Logits, Tensor | None]:
        """The clean network's logits and features, in bfloat16 where that is quicker: they are soft targets anyway."""
        kind, quick = images.device.type, self.built_in and has_bfloat16(images.device)
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=quick):
            logits, features = answer(self.teacher, images)
        return {name: head.to(images.dtype) for name, head in logits.items()}, features

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The cloud network's loss, its features' and the local network's."""
        config, teacher, seen = self.config, None, None
        share = 1.0 if batch.mixed else config.distill
        if config.distill or self.feature_weight:
            teacher, seen = self.teacher_outputs(batch.images)
        task = task_loss(output.logits, batch.labels, teacher, share)
        log.add(task_loss=task.item())
        terms = [task]
        if self.feature_weight and output.features is not None and seen is not None:
            distance = feature_loss(output.features, seen)
            log.add(feature_loss=distance.item())
            terms.append(self.feature_weight * distance)
        if output.aux_logits:
            aux = task_loss(output.aux_logits, batch.labels, teacher, share)
            log.add(aux_loss=aux.item())
            terms.append(config.aux_weight * aux)
        return terms


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor or GPU has instructions for bfloat16, without which it is slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
