"""`demo`: the whole idea on the embedded faces, from nothing to a perturbed image, with a table at the end.

    demo(Path("demo"))

Keeps the smile, hides skin tone, glasses and hair: co-trains, exports to int8 TFLite, attacks the exported file with fresh
attackers and perturbs a picture with it. Everything is written below one folder; every part runs through the same functions
as the commands `train`, `export`, `audit` and `perturb`.
"""

import io
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sfumato.audit import Artifact, Audit, audit
from sfumato.audit.plots import figure, noise_maps
from sfumato.audit.runner import Watch
from sfumato.core.console import progress
from sfumato.core.files import atomic_write, claim_folder, write_json
from sfumato.data import Split
from sfumato.export.artifact import load_export
from sfumato.export.pipeline import export
from sfumato.runtime.phone_model import PhoneModel
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.runner import train

KEEP = ("smiling",)
HIDE = ("skin", "glasses", "hair")
PICTURES = 4
EPOCHS = {"clean_epochs": 8, "pretrain_epochs": 24, "epochs": 22}
FOLDS = 3
"""Attackers are trained so often, each time tested on other images: on one test split chance moves them by two points."""
QUICK_EPOCHS = {"clean_epochs": 4, "pretrain_epochs": 4, "epochs": 6}


@dataclass(frozen=True)
class Demo:
    """What the demo leaves behind.

    Attributes:
        audit: of the exported int8 model.
        card: of the training run.
        seconds: of each part.
    """

    audit: Audit
    card: dict[str, Any]
    seconds: dict[str, float]


def configuration(*, quick: bool) -> TrainConfig:
    """The demo's training: a few minutes on two cores; `quick` only shows that every part runs."""
    common = {"keep": KEEP, "hide": HIDE, "objective": "suppress", "bits": 8, "beyond": 0.03}
    if quick:
        return make_config({**common, "data": "synthetic,size=32,count=900", **QUICK_EPOCHS})
    return make_config({**common, "data": "synthetic,count=9000", **EPOCHS})


def demo(out: Path, *, quick: bool = False, overwrite: bool = False) -> Demo:
    """Run everything and leave it below `out`: `run/`, `export/`, `picture.png`, `summary.json`.

    A demo that was interrupted goes on where its training stood.

    Raises:
        SfumatoError: `out` already holds a demo and `overwrite` is not set, or a part failed.
    """
    if (out / "summary.json").exists() or not (out / "run").exists():
        claim_folder(out, holds="summary.json", overwrite=overwrite)
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal started
        seconds[part] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()

    run = train(configuration(quick=quick), out / "run", resume=True)
    lap("train")
    bundle = out / "export"
    shutil.rmtree(bundle, ignore_errors=True)
    export(run, bundle)
    artifact = load_export(bundle)
    lap("export")
    with progress() as bar:
        folds = 1 if quick else FOLDS
        result = audit(artifact, "quick", attributes=HIDE, folds=folds, watch=_watch(bar))
    lap("audit")
    images = test_images(artifact)
    draw(artifact, images, out / "picture.png")
    perturb_one(bundle, images[0], out)
    lap("perturb")
    write_json(out / "summary.json", {"audit": result.to_json(), "card": run.card, "seconds": seconds})
    return Demo(result, run.card, seconds)


def test_images(artifact: Artifact) -> NDArray[np.uint8]:
    """A few test images (N, H, W, 3)."""
    return np.asarray(artifact.dataset.images[artifact.dataset.splits[Split.TEST][:PICTURES]])


def draw(artifact: Artifact, images: NDArray[np.uint8], path: Path) -> None:
    """Write originals, noise maps and uploads, one above the other."""
    channel, parameters = artifact.channel, artifact.parameters(images)
    noise = channel.noise(parameters, torch.Generator().manual_seed(0))
    uploads = channel.sample(parameters, noise).detach().numpy()
    figure(images, noise_maps(channel, parameters), uploads, path)


def perturb_one(bundle: Path, image: NDArray[np.uint8], out: Path) -> None:
    """What the phone does: read a photo, perturb it with the exported file and a device key, write the upload."""
    stream = io.BytesIO()
    Image.fromarray(image).resize((960, 960), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    upload = PhoneModel.load(bundle).perturb(stream.getvalue(), key=secrets.token_bytes(32))
    with atomic_write(out / "photo.jpg") as scratch:
        scratch.write_bytes(stream.getvalue())
    with atomic_write(out / "upload.png") as scratch:
        scratch.write_bytes(upload.content)


def _watch(bar: Any) -> Watch:
    task = bar.add_task("audit", total=1, figures="")

    def watch(done: int, total: int, title: str, best: str) -> None:
        bar.update(task, completed=done, total=total, description=f"{title:<32.32}", figures=best)

    return watch
