"""How much the cloud network trusts the phone's shortlist: what being on it adds to a class's logit, chosen on validation.

It cannot be learned in training. There the phone knows its photos by heart, so the list is nearly always right.

    reader.trust.copy_(best_trust(reader, batches, local, seed=0))
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from sfumato.models.local import LocalNetwork
from sfumato.models.shortlist import ShortlistReader
from sfumato.models.tensors import evaluating
from sfumato.training.loader import Batches

CANDIDATES = tuple(step / 4 for step in range(17))
"""0 to 4: from not at all to a list that decides nearly always."""
DRAWS = 4
"""Uploads of each photo: validation may have a few hundred photos."""


def best_trust(reader: ShortlistReader, batches: Batches, local: LocalNetwork, *, seed: int) -> Tensor:
    """The trust of each head, (heads,), that makes most answers right; of equal ones the middle.

    Args:
        reader, local: on the batches' device.
        batches: of the validation split.
        seed: of the draws.
    """
    generator = torch.Generator(device=batches.device).manual_seed(seed)
    right = {name: torch.zeros(len(CANDIDATES), dtype=torch.int64) for name in reader.heads}
    trust = torch.tensor(CANDIDATES, device=batches.device).view(-1, 1, 1)
    with evaluating(reader, local):
        for batch in batches.ordered():
            parameters = local(batch.images)
            for _ in range(DRAWS):
                upload = local.channel.sample(parameters, local.channel.noise(parameters, generator))
                logits, listed = reader.network(reader.picture(upload)), reader.listed(upload)
                for name, count in right.items():
                    answers = (logits[name] + trust * listed[name]).argmax(2)
                    count += (answers == batch.labels[name]).sum(1).cpu()
    return torch.tensor([CANDIDATES[middle_of_best(count.tolist())] for count in right.values()])


def middle_of_best(counts: Iterable[int]) -> int:
    """Index of the largest number; of several equal ones that in the middle, the lower of two.

    >>> middle_of_best([1, 5, 5, 5, 2]), middle_of_best([3, 1, 3])
    (2, 0)
    """
    values = list(counts)
    best = [index for index, count in enumerate(values) if count == max(values)]
    return best[(len(best) - 1) // 2]
