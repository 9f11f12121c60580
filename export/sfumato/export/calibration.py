"""What a bundle says about ordinary photos and its own confidence, fitted to photos of the run and the int8 model.

photos, labels = validation_photos(run)
figures |= calibrate(run, labels, picture_logits(run, session, photos))
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data import Split
from sfumato.export.measure import ask, draw
from sfumato.export.parity import run_int8
from sfumato.runtime import answer, confidence, familiar
from sfumato.runtime.interpreter import Session
from sfumato.training.answer import Images, Reader
from sfumato.training.run import AnswerRun, Run

PHOTOS = 2000
"""Validation photos, and ordinary ones, that are looked at, at most."""


def validation_photos(run: Run) -> tuple[Images, dict[str, Any]]:
    """Photos that no network was fitted to, (N, H, W, 3), and the labels of the kept attributes, without masks.

    A cell's class is the same at every temperature, so masks have none.
    """
    rows = run.dataset.splits[Split.VALIDATION][:PHOTOS]
    names = [name for name in run.keep if name not in run.dataset.masks]
    return np.array(run.dataset.images[rows]), {name: run.dataset.labels[name][rows] for name in names}


def ordinary_photos(run: Run) -> Images:
    """Photos (N, H, W, 3) of training and validation, spread evenly over them."""
    rows = np.concatenate([run.dataset.splits[split] for split in (Split.DEFENDER, Split.VALIDATION)])
    picks = np.linspace(0, len(rows) - 1, min(PHOTOS, len(rows))).astype(int)
    return np.array(run.dataset.images[np.sort(rows[picks])])


def picture_logits(run: Run, session: Session, images: Images) -> dict[str, Tensor]:
    """What the cloud network says of uploads that the int8 model and the shipped sampler drew, several of every photo; nothing
    of masks."""
    names = [name for name in run.keep if name not in run.dataset.masks]
    if not names:
        return {}
    return ask(run.cloud, draw(run.channel, images, run_int8(session, images)), names, run.channel)


def answer_logits(shipped: AnswerRun, read: Reader, images: Images) -> dict[str, Tensor]:
    """What the word of every photo means, by the cloud's table; a randomised answer is drawn."""
    words = shipped.table.states(read(images))
    if shipped.table.cumulative is not None:
        noise = np.random.default_rng(0).integers(256, size=(len(words), 2), dtype=np.uint8)
        words = answer.draw(shipped.table.cumulative, words, noise)
    rows = shipped.cloud.get_buffer("table")[torch.from_numpy(words)]
    counts = list(shipped.local.classes.values())
    return dict(zip(shipped.keep, rows.split(counts, dim=1), strict=True))


def calibrate(run: Run, labels: Mapping[str, Any], logits: Mapping[str, Tensor]) -> dict[str, Any]:
    """Figures for the contract: limits of ordinary photos, and a temperature for every kept attribute.

    Args:
        run: whose photos.
        labels: (N,) of validation photos, per kept attribute.
        logits: (K N, classes) per kept attribute; uploads repeat the photos in order.
    """
    temperatures = {
        name: confidence.fit_temperature(
            logits[name].double().numpy(), np.tile(truth, len(logits[name]) // len(truth))
        )
        for name, truth in labels.items()
    }
    return {
        confidence.KEY: temperatures,
        familiar.KEY: familiar.fit(ordinary_photos(run)).model_dump(mode="json"),
    }
