"""Known pairs: a decoder that learned from pairs of photo and upload turns new uploads back into photos.

Decoders learn from 100, from 1,000 and from all of the attacker's images. What they restore is compared with the test
photos (PSNR, SSIM; Wang et al., 2004) beside the best guesses without any upload: the mean photo, and the mean photo of
those with the same desired label. Attackers on attributes read the restored photos: a network trained on clean photos,
and one trained anew on restored ones. Where persons are labelled, restored photos are matched with other photos of them.

    for step in steps(evidence, DEFAULT, (("race",),)): step.run()
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from sfumato.audit.attack_data import BATCH, Evidence
from sfumato.audit.attacks import clean, reidentify
from sfumato.audit.attacks.decoding import average_of, photos, restore, train_decoder
from sfumato.audit.attacks.fit import recipe
from sfumato.audit.attacks.floors import cells
from sfumato.audit.attacks.through import apply, retrain
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Finding, Restoration, Step
from sfumato.models.decoder import Clamped

PICTURES = 8
"""Restored test images that are kept for the report."""
BEST_PSNR = 100.0
"""dB; what a perfect copy is given instead of infinity."""


def similarity(restored: Tensor, truth: Tensor) -> tuple[float, float]:
    """Mean PSNR in dB and mean SSIM of images (n, 3, H, W) in 0..1."""
    psnr, ssim = [], []
    for one, other in zip(torch.split(restored, BATCH), torch.split(truth, BATCH), strict=True):
        each = peak_signal_noise_ratio(one, other, data_range=1.0, reduction="none", dim=(1, 2, 3))
        psnr.append(each.clamp(max=BEST_PSNR))
        alike = structural_similarity_index_measure(one, other, data_range=1.0, reduction="none")
        assert isinstance(alike, Tensor)  # it returns more only if asked for more
        ssim.append(alike.view(-1))
    return float(torch.cat(psnr).mean()), float(torch.cat(ssim).mean())


def pictures(images: Tensor) -> NDArray[np.uint8]:
    """The first few images as bytes, (m, H, W, 3)."""
    shown = (images[:PICTURES] * 255).round().byte().permute(0, 2, 3, 1)
    return np.ascontiguousarray(shown.numpy())


def test_photos(evidence: Evidence) -> Tensor:
    """The clean test images, (n_test, 3, H, W)."""
    return evidence.test.clean(torch.arange(evidence.test.images))


def compared(evidence: Evidence, restorer: str, restored: Tensor, known: int) -> Restoration:
    """Figures of some restored test images."""
    psnr, ssim = similarity(restored, test_photos(evidence))
    return Restoration(restorer=restorer, pairs=known, psnr=psnr, ssim=ssim, pictures=pictures(restored))


def guesses(evidence: Evidence) -> list[Restoration]:
    """The best constant guess, and the best one for whoever knows the desired labels."""
    side, count = evidence.train, evidence.test.images
    whole = average_of(side, photos).clamp(0, 1)
    classes = [evidence.classes[name] for name in evidence.keep]
    mine = cells([side.labels[name][: side.images] for name in evidence.keep], classes)
    asked = cells([evidence.test.labels[name] for name in evidence.keep], classes)
    informed = whole.repeat(count, 1, 1, 1)
    for cell in np.unique(mine):
        rows = torch.from_numpy(np.flatnonzero(mine == cell))
        total: Tensor = sum((photos(side, part).sum(0) for part in torch.split(rows, BATCH)), torch.zeros(()))
        informed[torch.from_numpy(asked == cell)] = (total / len(rows)).clamp(0, 1)
    return [
        compared(evidence, "mean photo", whole.repeat(count, 1, 1, 1), 0),
        compared(evidence, "mean photo of the desired label", informed, 0),
    ]


def attack(evidence: Evidence, plan: Plan, known: int, attributes: tuple[str, ...]) -> Sequence[Finding]:
    """Train a decoder on `known` images, measure what it restores, and let attackers on attributes read it."""
    decoder = Clamped(train_decoder(evidence, photos, pairs=known, steps=plan.decoder_steps))
    restored = restore(decoder, evidence.test_uploads)
    everything = known == evidence.train.images
    found = compared(evidence, "decoder", restored, known)
    architecture, network = clean.trained(evidence, plan, attributes)
    answers = apply(
        decoder, network, evidence, "pairs", f"clean {architecture} on restored, n={known}", attributes
    )
    if not everything:
        return [found, *answers]
    found = replace(found, identity=reidentify.match(evidence, restored))
    how = recipe(plan, evidence, "pairs", f"cnn on restored, n={known}", max(plan.rates), plan.epochs)
    return [found, *answers, *retrain(decoder, evidence, attributes, how)]


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """The guesses, then a decoder for every number of pairs up to all of them."""
    everything = tuple(name for group in groups for name in group)
    counts = sorted({min(count, evidence.train.images) for count in (*plan.pairs, evidence.train.images)})
    work = [Step(title="mean photos", run=partial(guesses, evidence))]
    return work + [
        Step(title=f"pairs, n={known}", run=partial(attack, evidence, plan, known, everything))
        for known in counts
    ]
