"""Every method: that the term which defines it really acts, and that no part learns which should not."""

import io
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import product
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.audit.attacks.taps import Taps
from sfumato.compare.methods import METHODS, Curve, Method, Task, UnsuitableError, create
from sfumato.compare.methods.arden import Arden
from sfumato.compare.methods.base import Phase, cross_entropies
from sfumato.compare.methods.blur import Blur
from sfumato.compare.methods.cloak import LEAST, MOST, Cloak
from sfumato.compare.methods.deep_obfuscator import DeepObfuscator, noise_picture
from sfumato.compare.methods.draws import Additive, laplace_noise
from sfumato.compare.methods.info_decom import InfoDecomStyle, without_block_means
from sfumato.compare.methods.mass import Mass, suppression_hinge, utility_hinge
from sfumato.compare.methods.maxent_arl import MaxEntArl, answer_entropy
from sfumato.compare.methods.narl import Narl
from sfumato.compare.methods.on_phone import NARROWEST, Classifier, OnPhone, Reader, widest
from sfumato.compare.methods.pixelate import Pixelate
from sfumato.compare.methods.protective import Protective, margin
from sfumato.compare.methods.shredder import Shredder
from sfumato.compare.methods.substitution import Substitution, mutual_information
from sfumato.compare.methods.training import (
    DivergedError,
    Optimizers,
    accuracy,
    adversary_accuracy,
    train_method,
)
from sfumato.compare.methods.uniform import UniformGaussian
from sfumato.compare.rows import Point, choose_rows
from sfumato.core.errors import UsageError
from sfumato.data import Split
from sfumato.data.label_cells import label_cells
from sfumato.models import pretrained
from sfumato.models.cost import cost
from sfumato.models.layers import Same
from sfumato.training.clean import make_cloud
from sfumato.training.loader import Batch, Batches
from sfumato.training.losses import task_loss
from sfumato.training.run import make_local

Make = Callable[[str], Method]
ACTIVE, WARM = Phase(epoch=0, epochs=3), Phase(epoch=-1, epochs=3)


def weights(module: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()] or [torch.zeros(1)])


def photos(batch: Batch) -> np.ndarray:  # type: ignore[type-arg]
    return (batch.images * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def train(method: Method, task: Task, batch: Batch, steps: int, phase: Phase = ACTIVE) -> dict[str, float]:
    torch.manual_seed(0)
    method.prepare_mode()
    optimizers = Optimizers(method, task, steps)
    parts: dict[str, float] = {}
    for _ in range(steps):
        parts = optimizers.step(batch, phase)
    return parts


@pytest.fixture
def few(batch: Batch) -> Batch:
    """Eight images, where nothing is counted over many."""
    return replace(batch, images=batch.images[:8], labels={name: of[:8] for name, of in batch.labels.items()})


def test_an_unknown_method_is_refused_with_the_known_ones(task: Task) -> None:
    with pytest.raises(UsageError, match=r"unknown method 'gap': known are raw, .*on-phone"):
        create("gap", task)


def test_every_method_has_a_curve_but_the_yardsticks(task: Task) -> None:
    without = {name for name, method in METHODS.items() if method.curve is None}
    assert without == {"raw"}
    for name, method in METHODS.items():
        if method.curve is None:
            continue
        assert len(set(method.curve.values)) >= (2 if name == "on-phone" else 4), name
        assert len({type(value) for value in method.curve.values}) == 1, name
        assert method.curve.published
        assert [method.curve.accept(name, value) for value in method.curve.values] == list(
            method.curve.values
        )


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.curve is not None])
def test_the_setting_reaches_the_method(name: str, task: Task, few: Batch) -> None:
    """The weight of a loss, the scale of a draw, or the picture itself: one of them follows the setting."""
    curve = METHODS[name].curve
    assert curve is not None
    seen = set()
    for value in curve.values:
        torch.manual_seed(0)
        method = create(name, task, value)
        method.prepare_mode()
        torch.manual_seed(0)
        upload = method.upload(few.images).sum().item()
        torch.manual_seed(0)
        losses = [method.losses(few, ACTIVE)["loss"].item() for _ in range(3)]
        seen.add((upload, *losses))
    assert len(seen) == len(curve.values)


def test_a_wrong_setting_is_wrong_use(task: Task) -> None:
    with pytest.raises(UsageError, match=r"the temperature of pass is a number from 0.001, not 0"):
        create("pass", task, 0.0)
    with pytest.raises(UsageError, match=r"the grid of pixelate is a whole number from 1 to 1024, not 2.5"):
        create("pixelate", task, 2.5)
    with pytest.raises(UsageError, match="raw has no setting"):
        create("raw", task, 1.0)
    assert Curve("grid", (8,), published="-").accept("x", 4.0) == 4


@pytest.mark.parametrize("name", METHODS)
def test_every_method_moves_what_it_trains_and_nothing_else(
    name: str, make: Make, task: Task, few: Batch
) -> None:
    method, clean = make(name), weights(task.clean)
    before = {part: weights(getattr(method, part)) for part in ("phone", "cloud")}
    parts = train(method, task, few, 2)
    assert np.isfinite(list(parts.values())).all()
    for part, old in before.items():
        moved = not torch.equal(old, weights(getattr(method, part)))
        assert moved == (part in method.trained and len(old) > 1), part
    assert torch.equal(clean, weights(task.clean))


@pytest.mark.parametrize("name", METHODS)
def test_uploads_are_cheap_to_describe_and_fixed_by_their_noise(name: str, make: Make, few: Batch) -> None:
    method = make(name).eval().requires_grad_(False)
    parameters = method.phone(few.images)

    def draw(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return method.draw.sample(parameters, method.draw.noise(parameters, generator))

    upload = draw(0)
    assert upload.shape[0] == len(few.images)
    assert torch.equal(upload, draw(0))
    assert method.cloud(upload)["smiling"].shape == (len(few.images), 2)
    assert method.draw.rate(parameters).shape == (len(few.images),)
    price = method.cost((3, 48, 48))
    assert min(price.parameters, price.macs, method.upload_sizes(upload, photos(few))[0].min() - 1) >= 0


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("protective",)])
def test_the_adversary_gets_no_gradient_from_the_defender(name: str, make: Make, few: Batch) -> None:
    method = make(name)
    if method.adversary is None:
        pytest.skip("no adversary")
    method.prepare_mode()
    method.losses(few, ACTIVE)["loss"].backward()
    assert all(p.grad is None for p in method.adversary.parameters())
    method.zero_grad()
    loss = method.adversary_loss(few, ACTIVE)
    assert loss is not None
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in method.phone.parameters())


def test_blur_keeps_the_mean_and_loses_detail(batch: Batch) -> None:
    weak, strong = (Blur(d)(batch.images)["mean"] for d in (0.5, 4.0))
    assert strong.var() < weak.var() < batch.images.var()
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(Blur(2.0)(flat)["mean"], flat)


def test_pixelate_leaves_one_colour_a_cell(batch: Batch) -> None:
    mosaic = Pixelate(8)(batch.images)["mean"]
    cells = mosaic.unfold(2, 6, 6).unfold(3, 6, 6).flatten(4)
    assert (cells == cells[..., :1]).all()
    torch.testing.assert_close(cells[..., 0][0, 0, 0, 0], batch.images[0, 0, :6, :6].mean())


@pytest.mark.parametrize(("name", "quality"), [("jpeg", 10), ("webp", 10), ("avif", 20)])
def test_a_picture_format_is_what_the_codec_makes_of_the_image(
    name: str, quality: int, make: Make, batch: Batch
) -> None:
    method = make(name)
    upload = method.upload(batch.images[:1])
    pixels = photos(batch)[0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, name, quality=quality)
    sizes, _ = method.upload_sizes(upload, photos(batch)[:1])
    assert sizes.tolist() == [len(stream.getvalue())], "the file itself, not a second encoding"
    expected = np.asarray(Image.open(stream).convert("RGB"))
    assert np.array_equal((upload[0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    assert np.abs(expected.astype(int) - pixels).mean() > 1


def test_a_format_that_pillow_does_not_write_is_a_line(
    task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: name != "avif")
    assert "avif" not in {row.method for row in choose_rows(["all"], [Point(8)])}
    assert "avif is left out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="writes no AVIF"):
        create("avif", task)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_uniform_noise_has_the_deviation_it_promises(name: str, make: Make) -> None:
    method = make(name)
    parameters = method.phone(torch.full((64, 3, 16, 16), 0.5))
    noise = parameters["scale"] * method.draw.noise(parameters, torch.Generator().manual_seed(0))
    assert noise.std().item() == pytest.approx(0.5, rel=0.05)
    upload = method.upload(torch.full((4, 3, 16, 16), 0.5))
    assert [upload.min().item(), upload.max().item()] == [0, 1]


def test_more_noise_has_a_lower_rate(task: Task, batch: Batch) -> None:
    rates = []
    for deviation in (0.1, 0.2, 0.3):
        method = UniformGaussian(task, deviation=deviation)
        rates.append(method.draw.rate(method.phone(batch.images)).mean())
    assert rates[0] > rates[1] > rates[2] > 0


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_likelihoods_match_torch(kind: str) -> None:
    """Against torch's densities, up to a constant per upload."""
    torch.manual_seed(0)
    mean, uploads = torch.rand(3, 3, 4, 4), torch.rand(5, 3, 4, 4)
    parameters = {"mean": mean, "scale": torch.full_like(mean, 0.2)}
    draw = Additive(kind, clip=False)  # type: ignore[arg-type]
    family: Any = torch.distributions.Normal if kind == "gaussian" else torch.distributions.Laplace
    expected = torch.stack([family(mean, 0.2).log_prob(u).flatten(1).sum(1) for u in uploads])
    found = draw.likelihood(uploads, parameters)
    torch.testing.assert_close(
        found - found[:, :1], (expected - expected[:, :1]).double(), atol=1e-3, rtol=1e-4
    )


def test_laplace_noise_is_laplace() -> None:
    noise = laplace_noise(torch.zeros(200_000), torch.Generator().manual_seed(0))
    assert noise.abs().mean().item() == pytest.approx(1.0, rel=0.02)
    assert noise.var().item() == pytest.approx(2.0, rel=0.03)


def test_arden_nullifies_clips_and_adds_noise(task: Task, batch: Batch) -> None:
    method = Arden(task, nullification=0.3, scale=0.0).eval().requires_grad_(False)
    uniform, _ = method.draw.noise({"image": batch.images})
    zeroed = (uniform < 0.3).float()
    assert zeroed.mean().item() == pytest.approx(0.3, abs=0.02)
    everything = Arden(task, nullification=1.0, scale=0.0).eval().requires_grad_(False)
    first, second = everything.upload(batch.images[:2])
    torch.testing.assert_close(first, second)  # nothing of the image is left
    features = method.phone.features(100 * batch.images)
    assert features.abs().max() <= method.phone.bound * (1 + 1e-5)
    loud = Arden(task, nullification=0.0, scale=0.5).eval().requires_grad_(False)
    plain = loud.draw.to_upload(loud.phone.features(batch.images))
    noise = 2 * (loud.upload(batch.images) - plain)  # in units of B
    assert noise.abs().mean().item() == pytest.approx(0.5, rel=0.05)


def test_arden_trains_on_the_worst_direction(make: Make, batch: Batch) -> None:
    method = make("arden")
    method.prepare_mode()
    parts = method.losses(batch, ACTIVE)
    assert parts["worst"] > parts["task"]


def test_arden_puts_the_two_halves_together_again(task: Task, batch: Batch) -> None:
    method = Arden(task, nullification=0.0, scale=0.0).eval().requires_grad_(False)
    quiet = batch.images[:8]
    # Where no feature reaches the bound, phone and cloud are the clean network.
    inside = method.phone.head(2 * quiet - 1).flatten(1).abs().amax(1) <= method.phone.bound
    assert inside.any()
    torch.testing.assert_close(
        method.cloud(method.upload(quiet))["smiling"][inside],
        task.clean(quiet)["smiling"][inside],
        atol=1e-4,
        rtol=1e-3,
    )


def test_shredder_learns_noise_that_grows_with_its_weight(task: Task, batch: Batch) -> None:
    sizes = []
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        method = Shredder(task, weight=weight)
        sizes.append(train(method, task, batch, 10)["noise"])
    assert sizes[1] > sizes[0]
    assert [g["params"] for g in method.groups()] == [[method.phone.tensors]]
    assert not any(p.requires_grad for p in method.phone.head.parameters())


def test_shredder_draws_one_of_its_tensors(make: Make, batch: Batch) -> None:
    method = make("shredder").eval().requires_grad_(False)
    parameters = method.phone(batch.images[:1].expand(64, -1, -1, -1))
    uploads = method.draw.sample(parameters, method.draw.noise(parameters))
    assert 1 < len(torch.unique(uploads.flatten(1), dim=0)) <= 8


def test_cloak_enlarges_only_when_told_and_is_the_same_for_all_images(task: Task, batch: Batch) -> None:
    scales = []
    for phase in (ACTIVE, Phase(epoch=1, epochs=3)):
        method = Cloak(task)
        start = method.phone.scale.mean().item()
        train(method, task, batch, 10, phase)
        scales.append(method.phone.scale.mean().item() / start)
    assert scales[0] > 1.03
    assert scales[0] > scales[1]
    scale = method.phone(batch.images)["scale"]
    assert (scale == scale[:1]).all()


def test_cloak_replaces_the_noisiest_samples_by_constants(task: Task, batch: Batch) -> None:
    method = Cloak(task)
    with torch.no_grad():
        method.phone.rho[:, :, :24] = 5.0
        method.phone.constant.fill_(0.25)
    method.finish()
    method.requires_grad_(False)
    upload = method.upload(batch.images)
    assert (upload[:, :, :, :24] == 0.25).all()
    assert upload[:, :, :, 24:].std() > 0
    assert LEAST < method.phone.scale[0, 0, -1] < MOST
    assert torch.isfinite(method.draw.rate(method.phone(batch.images))).all()


def test_deepobfuscator_goes_through_its_phases_in_order(task: Task, batch: Batch) -> None:
    method = DeepObfuscator(task, weight=10.0, picture_weight=2.0)
    method.prepare_mode()
    warm = method.losses(batch, WARM)
    assert torch.equal(warm["loss"], warm["task"])
    reader, reconstructor = (
        [*part.parameters()] for part in (method.adversary.reader, method.adversary.reconstructor)
    )
    for _ in range(2):
        for step, moved, still in ((0, reconstructor, reader), (1, reader, reconstructor), (2, [], [])):
            parts = method.losses(batch, ACTIVE)
            task_part, hidden, likeness = (parts[name] for name in ("task", "adversary", "likeness"))
            expected = (task_part, task_part + 2 * (1 - likeness), task_part - 10 * hidden)[step]
            torch.testing.assert_close(parts["loss"], expected)
            method.zero_grad()
            opponents = method.adversary_loss(batch, ACTIVE)
            assert (opponents is None) == (step == 2)
            if opponents is not None:
                opponents.backward()
                assert any(p.grad is not None and p.grad.any() for p in moved)
                assert not any(p.grad is not None and p.grad.any() for p in still)


def test_the_noise_picture_is_noise(batch: Batch) -> None:
    first, second = noise_picture(batch.images), noise_picture(batch.images)
    assert first.shape == batch.images.shape
    assert not torch.equal(first, second)
    assert 0 <= first.min() < 0.1
    assert first.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["deepobfuscator", "maxent-arl"])
def test_encoder_and_cloud_start_as_the_clean_network(
    name: str, make: Make, task: Task, batch: Batch
) -> None:
    method = make(name).eval()
    with torch.no_grad():
        answer = method.cloud(method.upload(batch.images))["smiling"]
        torch.testing.assert_close(answer, task.clean(batch.images)["smiling"], atol=1e-4, rtol=1e-3)


def test_all_learn_from_labels_and_from_the_clean_network(make: Make, task: Task, batch: Batch) -> None:
    method = make("raw").eval()
    assert 0 < task.config.distill < 1
    with torch.no_grad():
        answers, teacher = method.cloud(batch.images), task.clean(batch.images)
        expected = task_loss(answers, batch.labels, teacher, task.config.distill)
        torch.testing.assert_close(method.task_loss(batch.images, batch), expected)
    assert not torch.isclose(expected, task_loss(answers, batch.labels))


def test_block_means_are_gone_and_nothing_else(batch: Batch) -> None:
    filtered = without_block_means(batch.images)
    blocks = filtered.unfold(2, 8, 8).unfold(3, 8, 8)
    assert blocks.mean((-2, -1)).abs().max() < 1e-5
    expected = batch.images[0, 1, 8:16, 16:24] - batch.images[0, 1, 8:16, 16:24].mean()
    torch.testing.assert_close(filtered[0, 1, 8:16, 16:24], expected)


def test_the_jacobian_is_that_of_the_features(task: Task, batch: Batch) -> None:
    """Random projections against the whole Jacobian of a small crop."""
    method = InfoDecomStyle(task).eval()
    crop = batch.images[:1, :, :8, :8]
    jacobian = torch.autograd.functional.jacobian(method.phone.features, crop)
    torch.manual_seed(0)
    found = method.phone.squared_jacobian(crop, projections=2000)
    assert found.item() == pytest.approx(jacobian.square().sum().item(), rel=0.1)


def test_infodecom_style_calibrates_its_noise(task: Task, batch: Batch) -> None:
    scales = []
    for information in (0.0, 1.0):
        torch.manual_seed(0)
        method = InfoDecomStyle(task, information=information)
        method.prepare_mode()
        warm = method.losses(batch, WARM)
        assert torch.equal(warm["loss"], warm["task"])
        assert method.phone.get_buffer("scale") == 0
        method.losses(batch, ACTIVE)
        assert method.phone.get_buffer("scale") > 0
        method.finish()
        method.eval()
        scales.append(method.phone(batch.images)["scale"].mean().item())
    # One nat a sample less known: the standard deviation is larger by a factor of e.
    assert scales[0] / scales[1] == pytest.approx(np.e, rel=1e-3)
    unit = method.wanted_scale(torch.tensor(float(np.prod(task.shape))))
    assert unit.item() == pytest.approx((2 * np.pi * np.e) ** -0.5 / np.e, rel=1e-5)
    parameters = method.phone(batch.images)
    noise = method.upload(batch.images) - parameters["mean"]
    assert noise.std().item() == pytest.approx(scales[1], rel=0.02)


def test_the_margin_is_the_slow_one_and_has_an_end(batch: Batch) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(20, 4), torch.randint(4, (20,))
    slow = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        others = [value for index, value in enumerate(row) if index != label]
        slow += max(0.0, row[label] - max(others)) / len(logits)
    assert margin({"s": logits}, {"s": labels}).item() == pytest.approx(slow, rel=1e-5)
    fooled = logits - 100 * torch.nn.functional.one_hot(labels, 4)
    assert margin({"s": fooled}, {"s": labels}) == 0, "pushing further gains nothing"


@pytest.mark.parametrize("name", ["raw", "narl"])
def test_the_most_accurate_of_the_last_epochs_is_kept(
    name: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six epochs: 0 to 3 are too early, 4 is better than 5."""
    six = Task(
        config=task.config.model_copy(update={"epochs": 6, "pretrain_epochs": 0}),
        dataset=task.dataset,
        clean=task.clean,
    )
    assert [Phase(epoch, 6).candidate for epoch in range(-1, 6)] == [False] * 5 + [True] * 2
    assert Phase(0, 1).candidate
    figures, states = iter((0.9, 0.6, 0.9)), []

    def measured(method: Method, batches: Batches, seed: int) -> float:
        states.append(weights(method))
        return next(figures)

    monkeypatch.setattr("sfumato.compare.methods.training.accuracy", measured)
    method = create(name, six)
    done = train_method(method, name, six)
    assert done.epoch == 4
    assert done.validation_accuracy == 0.9
    assert torch.equal(states[0], weights(method))
    assert not torch.equal(states[1], weights(method))


def test_accuracy_is_that_of_uploads(make: Make, task: Task) -> None:
    batches = Batches(task.dataset, Split.VALIDATION, ("smiling", "skin"), 16)
    method = make("raw")
    rows = task.dataset.splits[Split.VALIDATION]
    images = torch.from_numpy(task.dataset.images[rows]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        right = (
            method.eval().cloud(images)["smiling"].argmax(1).numpy() == task.dataset.labels["smiling"][rows]
        )
    assert accuracy(method, batches, 0) == pytest.approx(right.mean())
    assert adversary_accuracy(method, batches, 0) == {}
    noisy = make("narl")
    assert adversary_accuracy(noisy, batches, 0) == adversary_accuracy(noisy, batches, 0)
    assert noisy.adversary is not None
    heads: Any = noisy.adversary.heads
    with torch.no_grad():
        heads["skin"].weight.zero_()
        heads["skin"].bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    share = (task.dataset.labels["skin"][rows] == 1).mean()
    assert adversary_accuracy(noisy, batches, 0) == {"skin": pytest.approx(share)}


def test_a_loss_that_is_no_number_says_which(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    method = create("raw", task)
    monkeypatch.setattr(
        method, "task_loss", lambda upload, batch: next(method.parameters()).sum() * torch.nan
    )
    with pytest.raises(DivergedError, match="training of raw diverged in epoch -1"):
        train_method(method, "raw", task)


def test_maxent_raises_the_entropy_of_the_adversary(task: Task, batch: Batch) -> None:
    sure = {"skin": torch.tensor([[20.0, 0, 0, 0]])}
    assert answer_entropy(sure) < 1e-4
    assert answer_entropy({"skin": torch.zeros(2, 4)}).item() == pytest.approx(log(4))
    entropies = []
    for weight in (0.0, 50.0):
        torch.manual_seed(1)
        method = MaxEntArl(task, weight=weight)
        assert method.adversary is not None
        heads: torch.nn.ModuleDict = method.adversary.heads  # type: ignore[assignment]
        torch.nn.init.normal_(heads["skin"].weight, std=2.0)  # type: ignore[arg-type]
        method.adversary_loss = lambda batch, phase: None  # type: ignore[method-assign]
        entropies.append(train(method, task, batch, 8)["entropy"])
    assert entropies[1] > entropies[0]


def test_narl_adds_noise_of_its_scale_to_bounded_features(task: Task, batch: Batch) -> None:
    method = Narl(task, scale=0.4).eval().requires_grad_(False)
    parameters = method.phone(100 * batch.images)
    assert parameters["mean"].abs().max() <= 1
    noise = method.draw.sample(parameters, method.draw.noise(parameters)) - parameters["mean"]
    assert noise.std().item() == pytest.approx(0.4, rel=0.02)


def test_the_hinges_of_mass_are_zero_when_satisfied(make: Make, batch: Batch) -> None:
    assert suppression_hinge(torch.tensor(1.5), 1.4) == 0
    assert suppression_hinge(torch.tensor(1.0), 1.4).item() == pytest.approx(0.4)
    assert utility_hinge(torch.tensor(0.05), 0.7, 0.65) == 0
    assert utility_hinge(torch.tensor(0.25), 0.7, 0.65).item() == pytest.approx(0.2)
    method = make("mass")
    assert isinstance(method, Mass)
    method.prepare_mode()
    # An adversary that knows nothing leaves nothing to suppress, but for the labels' imbalance in one batch.
    for parameter in method.adversary.parameters():  # type: ignore[union-attr]
        parameter.data.zero_()
    assert method.losses(batch, ACTIVE)["suppression"] < 1e-3
    assert len(method.groups()) == 3


def test_pass_sends_stored_training_images_only(make: Make, batch: Batch) -> None:
    method = make("pass").eval().requires_grad_(False)
    assert isinstance(method, Substitution)
    bank = method.phone.get_buffer("stored").float() / 255
    assert all((bank == upload).flatten(1).all(1).any() for upload in method.upload(batch.images))
    parameters = method.phone(batch.images)
    assert (method.draw.rate(parameters) <= log(len(bank))).all()
    certain = {"logits": torch.full((2, len(bank)), -50.0)}
    certain["logits"][0, 3], certain["logits"][1, 5] = 0, 0
    sent = method.draw.sample(certain, method.draw.noise(certain))
    assert torch.equal(sent, method.phone.look_up(torch.tensor([3, 5])))
    scores = method.draw.likelihood(sent, certain)  # type: ignore[attr-defined]
    assert scores.argmax(1).tolist() == [0, 1]


def test_pass_presses_on_the_hidden_attribute(task: Task, batch: Batch) -> None:
    assert mutual_information(torch.full((2, 4), 0.25), torch.tensor([0.5, 0.5])).abs() < 1e-6
    leaks = []
    for weight in (0.0, 30.0):
        torch.manual_seed(0)
        method = Substitution(task, weight=weight)
        leaks.append(train(method, task, batch, 30)["leak"])
    assert leaks[1] < leaks[0]


def test_protective_makes_the_other_network_fail(task: Task, batch: Batch) -> None:
    others = []
    for weight in (0.0, 5.0):
        torch.manual_seed(0)
        method = Protective(task, weight=weight)
        assert method.adversary is not None
        train(method, task, batch, 30, WARM)
        before = weights(method.adversary)
        parts = train(method, task, batch, 25)
        assert parts["margin"] >= 0
        assert torch.equal(before, weights(method.adversary))
        method.eval()
        others.append(
            cross_entropies(method.adversary_logits(method.upload(batch.images)), batch.labels).item()
        )
    assert others[1] > others[0]


def test_on_phone_sends_its_answer_at_the_price_of_our_network(make: Make, task: Task, batch: Batch) -> None:
    method = make("on-phone").eval()
    upload = method.upload(batch.images)
    assert isinstance(method, OnPhone)
    decided = method.phone.answers(batch.images)["smiling"].argmax(1)
    assert torch.equal(method.cloud(upload)["smiling"].argmax(1), decided)
    assert all(picture.unique().numel() == 1 for picture in upload)
    sizes, encoding = method.upload_sizes(upload, photos(batch))
    assert (sizes.tolist(), encoding) == ([1], "answer")
    assert method.draw.rate(method.phone(batch.images)).unique().item() == pytest.approx(log(2))


@pytest.mark.parametrize("times", [1, 3, 10, 30])
def test_the_phone_alone_costs_what_it_is_said_to(times: int, task: Task) -> None:
    """The widest network that fits: at its width and one plane more, counted."""
    most = times * cost(make_local(task.config, task.dataset), task.shape).macs
    method = create("on-phone", task, times)
    assert isinstance(method, OnPhone)
    assert 0.9 * most < method.cost(task.shape).macs <= most
    halving = [
        part for part in method.phone.modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)
    ]
    assert all(isinstance(part, Same) for part in halving), "padded as our own network is"
    wider = Classifier(method.phone.encoder.width // 4 + 1, task.dataset.size, task.kept)
    assert cost(wider, task.shape).macs > most


@pytest.fixture
def library_task(task: Task, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The same task with a small network of a library in the cloud, its first convolution and batch norm frozen."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3, 2), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 8, 3, 2)]
    backbone = torch.nn.Sequential(
        torch.nn.Sequential(*layers[:2]),
        torch.nn.Sequential(*layers[2:]),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    made = (backbone, (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setattr(pretrained, "_timm", lambda spec, size: deepcopy(made))
    config = task.config.model_copy(update={"cloud": "timm:small,freeze=2,rate=0.5"})
    return replace(task, config=config, clean=make_cloud(config, task.dataset).eval())


SPLIT = {"arden", "shredder", "deepobfuscator", "maxent-arl", "narl", "infodecom-style"}


def test_methods_keep_what_a_library_network_freezes_or_say_that_they_cannot_cut_it(
    library_task: Task, few: Batch
) -> None:
    for name in METHODS:
        torch.manual_seed(0)
        if name in SPLIT:
            with pytest.raises(UnsuitableError, match="cuts the cloud network in two"):
                create(name, library_task)
            continue
        method = create(name, library_task)
        before = {key: value.clone() for key, value in method.cloud.state_dict().items()}
        train(method, library_task, few, 2)
        after = method.cloud.state_dict()
        for key, value in before.items():
            learns = "cloud" in method.trained and not key.startswith("backbone.0.")
            assert torch.equal(value, after[key]) != learns, (name, key)
    groups = create("raw", library_task).groups()
    assert [(len(group["params"]), group["factor"]) for group in groups] == [(2, 1.0), (2, 0.5)]


def test_mass_needs_features(make: Make, batch: Batch) -> None:
    class Bare(torch.nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"smiling": x.mean((2, 3))[:, :2]}

    method = make("mass")
    assert isinstance(method, Mass)
    method.taps = Taps(Bare())
    with pytest.raises(UnsuitableError, match="no part of this cloud network"):
        method.features(batch.images)


def test_no_phone_is_too_small_for_a_network(task: Task) -> None:
    assert widest(task, 0).encoder.width == 4 * NARROWEST


def test_several_answers_come_apart_again() -> None:
    heads = {"a": 2, "b": 5, "c": 3}
    every = list(product(*map(range, heads.values())))
    labels = dict(zip(heads, torch.tensor(every).T, strict=True))
    cell = label_cells([labels[name] for name in heads], list(heads.values()))
    grey = ((cell + 0.5) / len(every))[:, None, None, None].expand(-1, 3, 16, 16)
    answers = Reader(heads)(grey)
    assert list(answers) == list(heads)
    assert all(torch.equal(answers[name].argmax(1), labels[name]) for name in heads)
