"""Known pairs: a decoder that learned from pairs of photo and upload turns new uploads back into photos.

Decoders learn from 100, from 1,000 and from all of the attacker's images. What they reconstruct is compared with the test
photos (PSNR, SSIM; Wang et al., 2004) beside the best guesses without any upload: the mean photo, and the mean photo of
those with the same desired label. Attackers on attributes read the reconstructed photos: a network trained on clean photos,
and one trained anew. Where persons are labelled, reconstructed photos are matched with other photos of the same person.

    for step in steps(data, DEFAULT, (("race",),)): step.run()
"""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from sfumato.audit.attack_data import BATCH, AttackData, batch_size
from sfumato.audit.attacks import clean
from sfumato.audit.attacks.decoder_training import mean_of, photos, restored, train_decoder
from sfumato.audit.attacks.fit import make_recipe
from sfumato.audit.attacks.frozen_front import apply, retrain
from sfumato.audit.attacks.reidentify import reidentify
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import AttackOutput, Groups, ReconstructedImages, Step, all_attributes
from sfumato.audit.rows import Gathered
from sfumato.audit.schema import Reconstruction
from sfumato.data.label_cells import label_cells
from sfumato.models.decoder import Clamped

SHOWN = 8
"""Reconstructed test images that are kept for the report."""
SHOWN_ROWS = 2
"""Of several of each; where they differ, the generator made it up."""
BEST_PSNR = 100.0
"""dB; what a perfect copy is given instead of infinity."""


def similarity(images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """PSNR in dB and SSIM of each of a batch of images (n, 3, H, W) in 0..1."""
    psnr = peak_signal_noise_ratio(images, truth, data_range=1.0, reduction="none", dim=(1, 2, 3))
    alike = structural_similarity_index_measure(images, truth, data_range=1.0, reduction="none")
    assert isinstance(alike, Tensor)  # it returns more only if asked for more
    return psnr.clamp(max=BEST_PSNR), alike.view(-1)


def as_bytes(images: Tensor) -> NDArray[np.uint8]:
    """The first few images as bytes, (m, H, W, 3)."""
    shown = (images[:SHOWN] * 255).round().byte().permute(0, 2, 3, 1)
    return np.ascontiguousarray(shown.numpy())


def evaluate(
    data: AttackData, method: str, reconstructed: Iterable[Tensor], pairs: int, *, match: bool = False
) -> ReconstructedImages:
    """Figures of reconstructed test images; their means, if there are several of each.

    Args:
        data: has the test photos.
        method: for the report.
        reconstructed: batches of images (n, 3, H, W), or several of each (k, n, 3, H, W), in order, on the CPU.
        pairs: that the method learned from.
        match: find the persons on them, where persons are labelled.
    """
    found: list[list[tuple[Tensor, Tensor]]] = []  # of every batch, PSNR and SSIM of each drawing
    shown: NDArray[np.uint8] | None = None
    drawings = 0
    matched = Gathered(data.test.images) if match and data.persons is not None else None
    done = 0
    for images in reconstructed:
        several = images.dim() == 5
        truth = data.test.clean(torch.arange(done, done + images.shape[-4]))
        done += len(truth)
        drawings = len(images) if several else 0
        each = images if several else images[None]
        found.append([similarity(one, truth) for one in each])
        if shown is None:
            shown = np.stack([as_bytes(one) for one in each[:SHOWN_ROWS]]) if several else as_bytes(images)
        if matched is not None:
            matched.append(images.transpose(0, 1) if several else images)
    assert shown is not None  # there is a test image
    figures = [
        [torch.cat(one).mean().item() for one in zip(*drawing, strict=True)]
        for drawing in zip(*found, strict=True)
    ]
    psnr, ssim = np.mean(figures, axis=0)
    identity = None
    if matched is not None:
        every = matched.tensor()
        identity = reidentify(data, every.transpose(0, 1) if drawings else every)
    result = Reconstruction(
        method=method,
        pairs=pairs,
        drawings=drawings,
        psnr=float(psnr),
        ssim=float(ssim),
        reidentification=identity,
    )
    return ReconstructedImages(figures=result, images=shown)


def mean_photos(data: AttackData) -> list[ReconstructedImages]:
    """The best constant guess, and the best one for whoever knows the desired labels."""
    train = data.train
    whole = mean_of(train, photos).clamp(0, 1)
    classes = [data.classes[name] for name in data.keep]
    known, asked = (
        label_cells([split.labels[name][: split.images] for name in data.keep], classes)
        for split in (train, data.test)
    )
    by_cell: dict[int, Tensor] = {}
    for cell in np.unique(known):
        rows = torch.from_numpy(np.flatnonzero(known == cell))
        total: Tensor = sum(
            (photos(train, part).sum(0) for part in torch.split(rows, BATCH)), torch.zeros(())
        )
        by_cell[int(cell)] = (total / len(rows)).clamp(0, 1)
    labels = torch.from_numpy(asked).split(batch_size(data.test.pixels))
    constant = (whole.repeat(len(part), 1, 1, 1) for part in labels)
    by_label = (torch.stack([by_cell.get(int(cell), whole) for cell in part]) for part in labels)
    return [
        evaluate(data, "mean photo", constant, pairs=0),
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
    images = restored(decoder, data.test_uploads)
    architecture, network = clean.clean_network(data, plan, attributes)
    predictions = apply(
        decoder, network, data, "pairs", f"clean {architecture} on restored, n={pairs}", attributes
    )
    if pairs < data.train.images:
        return [evaluate(data, "decoder", images, pairs), *predictions]
    # From all pairs only: persons are matched, and a network is trained anew.
    reconstructed = evaluate(data, "decoder", images, pairs, match=True)
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
