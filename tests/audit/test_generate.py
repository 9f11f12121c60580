"""Drawn photos: as varied as photos where the upload tells nothing, and the true ones where it tells all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.special import log_softmax
from torch import nn

from sfumato.audit.attack_data import BATCH, AttackData
from sfumato.audit.attacks.generate import draw_photos, read, train_flow
from sfumato.audit.attacks.pairs import evaluate, restorer
from sfumato.audit.plan import FULL
from sfumato.models.flow import Flow

PLAN = FULL.model_copy(update={"decoder_steps": 40})
Given = Callable[[str], AttackData]


class Exact(Flow):
    """The velocity to a known photo: photo - start, wherever the state is on the line."""

    photo: torch.Tensor
    start: torch.Tensor

    def forward(self, state: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return (self.photo - self.start) / self.scale


def test_a_drawing_follows_its_line_to_the_photo() -> None:
    generator = torch.Generator().manual_seed(0)
    photo, estimate, noise = (torch.rand(2, 3, 16, 16, generator=generator) for _ in range(3))
    flow = Exact((3, 16, 16), 0.2)
    flow.photo, flow.start = photo, estimate + 0.2 * noise
    time = torch.tensor([0.1, 0.9])
    assert float(flow.loss(photo, photo, estimate, noise, time)) < 1e-10
    assert torch.allclose(flow.draw(photo, estimate, noise, 4), photo, atol=1e-5)
    # Before any training the velocity is 0: the loss is the squared length of the line, and a drawing stays where it starts.
    fresh = Flow((3, 16, 16), 0.2).eval()
    slow = ((photo - estimate - 0.2 * noise) / 0.2).square().mean()
    assert torch.allclose(fresh.loss(photo, photo, estimate, noise, time), slow)
    assert torch.allclose(
        fresh.draw(photo, estimate, noise, 3), (estimate + 0.2 * noise).clamp(0, 1), atol=1e-6
    )


def tint(images: torch.Tensor) -> torch.Tensor:
    """How much redder than blue each photo (n, 3, H, W) is."""
    return (images[:, 0] - images[:, 2]).mean((1, 2))


def test_without_information_drawings_vary_like_photos_and_agree_with_none(attack_data: Given) -> None:
    one = replace(attack_data("noise"), networks={})
    decoder = restorer(one, PLAN)
    flow = train_flow(one, decoder, 120)
    batches = draw_photos(flow, decoder, one.test_uploads, 2, torch.Generator().manual_seed(0))
    drawn = torch.cat(list(batches), dim=1)
    assert drawn.shape == (2, one.test.images, 3, 16, 16)
    truth = one.test.clean(torch.arange(one.test.images))
    spread = [float(tint(images).std()) for images in (drawn[0], drawn[1], truth)]
    assert min(spread[:2]) > 0.4 * spread[2]
    # Made up: two drawings of one upload agree as little with each other as with the photo.
    alike = np.corrcoef([tint(images).numpy() for images in (drawn[0], drawn[1], truth)])
    assert np.abs(alike[np.triu_indices(3, 1)]).max() < 0.25
    figures = evaluate(one, "drawn photos", drawn.split(BATCH, dim=1), 400).figures
    assert figures.drawings == 2
    assert figures.psnr == np.mean(
        [evaluate(one, "x", each.split(BATCH), 400).figures.psnr for each in drawn]
    )
    mean = truth.mean(0).expand_as(truth)
    assert figures.psnr < evaluate(one, "mean", mean.split(BATCH), 0).figures.psnr


def test_probabilities_are_averaged_over_drawings(attack_data: Given) -> None:
    one = attack_data("noise")

    class Red(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(8.0))

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"tone": torch.stack([self.gain * tint(x), -self.gain * tint(x)], dim=1)}

    drawn = torch.rand(3, 7, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = read(Red(), drawn.split(3, dim=1), one, ("tone",))["tone"]
    prior = one.prior("tone")
    each = []
    for images in drawn:
        score = 8 * tint(images).double().numpy()
        posterior = np.exp(log_softmax(np.stack([score, -score], axis=1) + prior, axis=1))
        each.append(posterior)
    assert np.allclose(found, np.log(np.mean(each, axis=0)) - prior, atol=1e-5)
