"""`demo`: both modes from nothing, on drawn pictures, with tables at the end.

    demo(Path("demo"))

First a question for answer mode: keep the smile of drawn faces, hide skin tone, glasses and hair. The rule of `sfumato advise`
chooses the mode; the model is exported to int8 TFLite, judged, and run on a photo. Then a small example of picture mode: keep
the object of drawn scenes, hide the passer-by. There the upload carries a part of the picture, and noise is allocated by
significance. Everything is written below one folder; every part runs through the same functions as the commands `train`,
`export`, `audit` and `perturb`.
"""

import io
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sfumato.audit import Artifact, Audit, audit
from sfumato.audit.plan import QUICK
from sfumato.audit.plots import figure, noise_maps
from sfumato.audit.runner import Watch
from sfumato.cli.advise_run import credits
from sfumato.core.console import note, progress
from sfumato.core.files import atomic_write, claim_folder, write_json
from sfumato.data import Split
from sfumato.export.artifact import load_export
from sfumato.export.pipeline import export
from sfumato.runtime.phone_model import PhoneModel
from sfumato.training.advice import Advice, Figures, recommend
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.run import Run
from sfumato.training.runner import train

FACES = {
    "keep": ("smiling",),
    "hide": ("skin", "glasses", "hair"),
    "data": "synthetic,count=9000",
    "clean_epochs": 8,
    "pretrain_epochs": 16,
    "epochs": 28,
}
QUICK_FACES = {
    "keep": ("hair",),  # its colour is learned in seconds, a smile is not
    "hide": ("skin", "glasses", "smiling"),
    "mode": "answer",  # so short a training leaves nothing to choose by
    "data": "synthetic,size=48,count=900",
    "clean_epochs": 5,
    "pretrain_epochs": 12,
    "epochs": 1,
}
SCENE_KEEP = ("object",)
SCENE_HIDE = ("presence", "skin")
# Nothing is told about the passer-by: `rate` reads no label of what is hidden. What the object does not need is not sent.
SCENE_GOAL = {"objective": "rate", "bits": 500, "feature_weight": 1.0, "gates": True}
SCENES = {
    "data": "scenes,count=6000",
    "clean_epochs": 10,
    "pretrain_epochs": 6,
    "gating": {"epochs": 12, "region": 5},
    "epochs": 10,
}
# This example shows where noise goes. One network of each kind is enough to find its leaks.
SCENE_ATTACKS = QUICK.model_copy(
    update={
        "name": "demo",
        "probes": ("cnn",),
        "clean_probes": ("cnn",),
        "epochs": 6,
        "provider_epochs": 4,
        "clean_epochs": 6,
        "prior_steps": 150,
        "control": False,
    }
)
QUICK_SCENES = {
    "data": "scenes,size=48,count=600",
    "clean_epochs": 2,
    "pretrain_epochs": 2,
    "gating": {"epochs": 2, "region": 5},
    "epochs": 2,
}
QUICK_ATTACKS = {
    "epochs": 1,
    "provider_epochs": 1,
    "clean_epochs": 1,
    "steps": 1,
    "clean_steps": 1,
    "prior_steps": 10,
}
"""Without them every attacker takes some hundred steps, most of the time of a quick demo."""
PICTURES = 6


@dataclass(frozen=True)
class Demo:
    """What the demo leaves behind.

    Attributes:
        advice: the mode of the first question, and why.
        audit: of the exported int8 model that answers it.
        card: of its training run.
        picture_audit: of the example of picture mode.
        picture_card: of its training run.
        seconds: of each part.
    """

    advice: Advice
    audit: Audit
    card: dict[str, Any]
    picture_audit: Audit
    picture_card: dict[str, Any]
    seconds: dict[str, float]


def configuration(*, quick: bool) -> TrainConfig:
    """The first question, for whichever mode the rule chooses; `quick` only shows that every part of answer mode runs."""
    return make_config(QUICK_FACES if quick else FACES)


def picture_configuration(*, quick: bool) -> TrainConfig:
    """The example of picture mode."""
    return make_config(
        {"keep": SCENE_KEEP, "hide": SCENE_HIDE, **SCENE_GOAL, **(QUICK_SCENES if quick else SCENES)}
    )


def demo(out: Path, *, quick: bool = False, overwrite: bool = False) -> Demo:
    """Run everything and leave it below `out`: `run/`, `export/`, `picture/`, `picture.png`, `summary.json`.

    A demo that was interrupted goes on where its training stood.

    Raises:
        SfumatoError: `out` already holds a demo and `overwrite` is not set, or a part failed.
    """
    if (out / "summary.json").exists() or not (out / "run").exists():
        claim_folder(out, holds="summary.json", overwrite=overwrite)
    lap = Lap()
    run = train(configuration(quick=quick), out / "run", resume=True, auto=not quick)
    advice = chosen(run)
    lap("train")
    bundle = out / "export"
    shutil.rmtree(bundle, ignore_errors=True)
    export(run, bundle, allow_missed_goal=True)  # the audit says so
    artifact = load_export(bundle)
    lap("export")
    plan, scene_plan = (
        one.model_copy(update=QUICK_ATTACKS if quick else {}) for one in (QUICK, SCENE_ATTACKS)
    )
    result = watched(lambda watch: audit(artifact, plan, attributes=run.hide, watch=watch))
    lap("audit")
    image = np.asarray(artifact.dataset.images[artifact.dataset.splits[Split.TEST][0]])
    perturb_one(bundle, image, out)
    lap("perturb")
    note("now a question that needs the picture: which object is it, whoever stands beside it?")
    scenes = train(picture_configuration(quick=quick), out / "picture", resume=True)
    draw(scenes, passers_by(scenes), out / "picture.png")
    lap("train on scenes")
    seen = watched(lambda watch: audit(scenes, scene_plan, attributes=SCENE_HIDE, watch=watch))
    lap("audit on scenes")
    done = Demo(advice, result, run.card, seen, scenes.card, lap.seconds)
    write_json(
        out / "summary.json",
        {
            "advice": asdict(advice),
            "audit": result.to_json(),
            "card": run.card,
            "picture": {"audit": seen.to_json(), "card": scenes.card},
            "seconds": lap.seconds,
        },
    )
    return done


class Lap:
    """How long each part took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def __call__(self, part: str) -> None:
        """A part has ended; the next one begins."""
        now = time.perf_counter()
        self.seconds[part], self._started = round(now - self._started, 1), now


def chosen(run: Run) -> Advice:
    """The rule's choice for a finished run: the phone's own network beside the clean one, on validation images."""
    names, dataset = run.keep, run.dataset
    cloud = credits(run.clean, dataset, Split.VALIDATION, names)
    phone = {
        name: float(hits.mean())
        for name, hits in credits(run.cloud, dataset, Split.VALIDATION, names).items()
    }
    return recommend(
        Figures(
            classes={name: len(dataset.attributes[name].classes) for name in names},
            phone=run.card["best_epoch"].get("val_accuracy_by_head", phone),
            cloud={name: float(hits.mean()) for name, hits in cloud.items()},
        )
    )


def passers_by(run: Run) -> NDArray[np.uint8]:
    """A few test scenes that show a person, of different objects, (N, H, W, 3)."""
    labels, rows = run.dataset.labels, run.dataset.splits[Split.TEST]
    shown = rows[labels["presence"][rows] == 1]
    first = np.unique(labels["object"][shown], return_index=True)[1]
    return np.asarray(run.dataset.images[np.sort(shown[first])[:PICTURES]])


def draw(artifact: Artifact, images: NDArray[np.uint8], path: Path) -> None:
    """Write originals, noise maps and uploads, one above the other."""
    channel, parameters = artifact.channel, artifact.parameters(images)
    noise = channel.noise(parameters, torch.Generator().manual_seed(0))
    uploads = channel.sample(parameters, noise).detach().numpy()
    figure(images, noise_maps(channel, parameters), uploads, path)


def perturb_one(bundle: Path, image: NDArray[np.uint8], out: Path) -> None:
    """What the phone does: read a photo, run the exported file with a device key, write the upload.

    In answer mode twice: the code word, which is what a client sends, and the same word as an image, for a cloud network that
    wants images.
    """
    stream = io.BytesIO()
    Image.fromarray(image).resize((960, 960), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    photo, key, model = stream.getvalue(), secrets.token_bytes(32), PhoneModel.load(bundle)
    files = {"photo.jpg": photo, "upload.png": model.perturb(photo, key=key, encoding="image").content}
    if model.contract.answer is not None:
        files["upload.word"] = model.perturb(photo, key=key).content
    for name, content in files.items():
        with atomic_write(out / name) as scratch:
            scratch.write_bytes(content)


def watched(work: Callable[[Watch], Audit]) -> Audit:
    """An audit under a progress bar."""
    with progress() as bar:
        task = bar.add_task("audit", total=1, figures="", estimated=True)

        def watch(done: int, total: int, title: str, best: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title:<32.32}", figures=best)

        return work(watch)
