"""Known pairs: a decoder that learned from pairs of photo and upload turns new uploads back into photos.

Decoders learn from 100, from 1,000 and from all of the attacker's images. What they reconstruct is compared with the test
photos (PSNR, SSIM; Wang et al., 2004) beside the best guesses without any upload: the mean photo, and the mean photo of
those with the same desired label. Attackers on attributes read the reconstructed photos: a network trained on clean photos,
and one trained anew. Where persons are labelled, reconstructed photos are matched with other photos of the same person.

    for step in steps(data, DEFAULT, (("race",),)): step.run()
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from sfumato.audit.attack_data import BATCH, AttackData
from sfumato.audit.attacks import clean
from sfumato.audit.attacks.decoder_training import mean_of, photos, reconstruct, train_decoder
from sfumato.audit.attacks.fit import make_recipe
from sfumato.audit.attacks.frozen_front import apply, retrain
from sfumato.audit.attacks.reidentify import reidentify
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import AttackOutput, Groups, ReconstructedImages, Step, all_attributes
from sfumato.audit.schema import Reconstruction, Reidentification
from sfumato.data.label_cells import label_cells
from sfumato.models.decoder import Clamped

SHOWN = 8
"""Reconstructed test images that are kept for the report."""
BEST_PSNR = 100.0
"""dB; what a perfect copy is given instead of infinity."""


def similarity(images: Tensor, truth: Tensor) -> tuple[float, float]:
    """Mean PSNR in dB and mean SSIM of images (n, 3, H, W) in 0..1."""
    psnr, ssim = [], []
    for one, other in zip(torch.split(images, BATCH), torch.split(truth, BATCH), strict=True):
        each = peak_signal_noise_ratio(one, other, data_range=1.0, reduction="none", dim=(1, 2, 3))
        psnr.append(each.clamp(max=BEST_PSNR))
        alike = structural_similarity_index_measure(one, other, data_range=1.0, reduction="none")
        assert isinstance(alike, Tensor)  # it returns more only if asked for more
        ssim.append(alike.view(-1))
    return float(torch.cat(psnr).mean()), float(torch.cat(ssim).mean())


def as_bytes(images: Tensor) -> NDArray[np.uint8]:
    """The first few images as bytes, (m, H, W, 3)."""
    shown = (images[:SHOWN] * 255).round().byte().permute(0, 2, 3, 1)
    return np.ascontiguousarray(shown.numpy())


def test_photos(data: AttackData) -> Tensor:
    """The clean test images, (n_test, 3, H, W)."""
    return data.test.clean(torch.arange(data.test.images))


def evaluate(
    data: AttackData, method: str, images: Tensor, pairs: int, identity: Reidentification | None = None
) -> ReconstructedImages:
    """Figures of reconstructed test images (n_test, 3, H, W), or their means over several of each (k, n_test, 3, H, W)."""
    each = images if images.dim() == 5 else images[None]
    truth = test_photos(data)
    psnr, ssim = np.mean([similarity(one, truth) for one in each], axis=0)
    figures = Reconstruction(
        method=method,
        pairs=pairs,
        drawings=len(images) if images.dim() == 5 else 0,
        psnr=float(psnr),
        ssim=float(ssim),
        reidentification=identity,
    )
    return ReconstructedImages(figures=figures, images=as_bytes(each[0]))


def mean_photos(data: AttackData) -> list[ReconstructedImages]:
    """The best constant guess, and the best one for whoever knows the desired labels."""
    train, count = data.train, data.test.images
    whole = mean_of(train, photos).clamp(0, 1)
    classes = [data.classes[name] for name in data.keep]
    known, asked = (
        label_cells([split.labels[name][: split.images] for name in data.keep], classes)
        for split in (train, data.test)
    )
    by_label = whole.repeat(count, 1, 1, 1)
    for cell in np.unique(known):
        rows = torch.from_numpy(np.flatnonzero(known == cell))
        total: Tensor = sum(
            (photos(train, part).sum(0) for part in torch.split(rows, BATCH)), torch.zeros(())
        )
        by_label[torch.from_numpy(asked == cell)] = (total / len(rows)).clamp(0, 1)
    return [
        evaluate(data, "mean photo", whole.repeat(count, 1, 1, 1), pairs=0),
        evaluate(data, "mean photo of the desired label", by_label, pairs=0),
    ]


def restorer(data: AttackData, plan: Plan, pairs: int | None = None) -> nn.Module:
    """The decoder of so many pairs, by default all, with outputs in 0..1; one that this audit has already, or a new one."""
    pairs = data.train.images if pairs is None else pairs
    name = f"decoder, n={pairs}"
    if name not in data.networks:
        data.networks[name] = Clamped(train_decoder(data, photos, pairs=pairs, steps=plan.decoder_steps))
    return data.networks[name]


def attack(data: AttackData, plan: Plan, pairs: int, attributes: tuple[str, ...]) -> Sequence[AttackOutput]:
    """Train a decoder on `pairs` images, evaluate what it reconstructs, and let attackers on attributes read it."""
    decoder = restorer(data, plan, pairs)
    images = reconstruct(decoder, data.test_uploads)
    architecture, network = clean.clean_network(data, plan, attributes)
    predictions = apply(
        decoder, network, data, "pairs", f"clean {architecture} on restored, n={pairs}", attributes
    )
    if pairs < data.train.images:
        return [evaluate(data, "decoder", images, pairs), *predictions]
    # From all pairs only: persons are matched, and a network is trained anew.
    reconstructed = evaluate(data, "decoder", images, pairs, reidentify(data, images))
    if not plan.retrain_restored:
        return [reconstructed, *predictions]
    recipe = make_recipe(plan, data, "pairs", f"cnn on restored, n={pairs}", max(plan.rates), plan.epochs)
    return [reconstructed, *predictions, *retrain(decoder, data, attributes, recipe)]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """The mean photos, then a decoder for every number of pairs up to all of them."""
    attributes = all_attributes(groups)
    counts = sorted({min(count, data.train.images) for count in (*plan.pairs, data.train.images)})
    work = [Step(title="mean photos", run=partial(mean_photos, data))]
    return work + [
        Step(title=f"pairs, n={known}", run=partial(attack, data, plan, known, attributes), work=12)
        for known in counts
    ]
