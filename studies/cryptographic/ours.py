"""Our own row: an export perturbs, its cloud network reads the upload.

answers, alone = answer(load_export(Path("export")), images)
"""

import secrets
import time

import numpy as np
import torch
from numpy.typing import NDArray
from studies.cryptographic.answers import Answers
from torch import Tensor

from sfumato.export.artifact import ExportArtifact
from sfumato.export.measure import pictures
from sfumato.models.tensors import to_tensor


def answer(export: ExportArtifact, images: NDArray[np.uint8]) -> tuple[Answers, list[float]]:
    """Answer images (N, H, W, 3) of the model's size about the first kept attribute.

    Returns:
        Answers, and the milliseconds of the cloud network alone on each of the images as they are.
    """
    key, name = secrets.token_bytes(32), export.keep[0]
    logits, perturb, read, alone, sent, cpu_ms = [], [], [], [], [], []
    for image in images:
        started, before = time.perf_counter(), time.process_time()
        upload = export.phone.perturb(image, key=key)
        perturb.append(1000 * (time.perf_counter() - started))
        values, took = forward(export, pictures([upload.levels], export.channel))
        cpu_ms.append(1000 * (time.process_time() - before))
        logits.append(values[name][0])
        read.append(took)
        alone.append(forward(export, to_tensor(image[None]))[1])
        sent.append(len(upload.content))
    return Answers(
        logits=torch.stack(logits).double().numpy(),
        total_ms=[a + b for a, b in zip(perturb, read, strict=True)],
        cpu_ms=cpu_ms,
        parts_ms={"perturb": perturb, "evaluate": read},
        sent=sent,
        received=[4 * len(logits[0])] * len(images),
    ), alone


def forward(export: ExportArtifact, image: Tensor) -> tuple[dict[str, Tensor], float]:
    """The cloud network's logits for one image (1, 3, H, W) in 0..1, and milliseconds."""
    with torch.inference_mode():
        started = time.perf_counter()
        logits: dict[str, Tensor] = export.cloud(image)
    return logits, 1000 * (time.perf_counter() - started)
