"""Averages, known pairs, denoising, white-box, and several seeds, on channels whose answer is known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch import Tensor, nn

from sfumato.audit import audit
from sfumato.audit.attack_data import AttackData, build_attack_data, keyed_noise, mean
from sfumato.audit.attacks import ATTACKS, create
from sfumato.audit.attacks.average import predict_posterior
from sfumato.audit.attacks.decoder_training import parameters, reconstruct, train_decoder
from sfumato.audit.attacks.denoise import Median, NonLocalMeans
from sfumato.audit.attacks.fit import BestEpoch, Recipe, blind_auc_deviation, learned
from sfumato.audit.attacks.pairs import similarity
from sfumato.audit.attacks.probe import train
from sfumato.audit.attacks.reidentify import reidentify
from sfumato.audit.plan import FULL, PLANS, Plan
from sfumato.audit.predictions import AttackOutput, Prediction, ReconstructedImages
from sfumato.audit.scoring import score
from sfumato.channels import Parameters
from sfumato.core.errors import UsageError
from sfumato.models.tensors import to_tensor

GIVEN = Callable[[str], AttackData]
BLIND = {"floor": "looks at no upload", "clean": "never saw an upload in training, and is reported for that"}
SMALL = FULL.model_copy(
    update={
        "name": "small",
        "probes": ("cnn",),
        "clean_probes": ("cnn",),
        "rates": (3e-3,),
        "provider_rates": (3e-3,),
        "epochs": 8,
        "provider_epochs": 12,
        "clean_epochs": 6,
        "steps": 1,
        "clean_steps": 1,
        "prior_steps": 10,
        "patience": 8,
        "copies": 2,
        "repeats": (2, 4),
        "average_networks": (4,),
        "pairs": (100,),
        "decoder_steps": 150,
        "flow_steps": 80,
        "drawings": 2,
    }
)


class Leaky(nn.Module):
    """A cloud network whose decision tells what is planted in the upload."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logit = self.gain * (x[:, :, 4:8, 8:12].mean((1, 2, 3)) - 0.5)
        return {"shape": torch.stack([-logit, logit], dim=1)}


def run(attack_data: AttackData, plan: Plan, name: str) -> list[AttackOutput]:
    return [found for step in create(name)(attack_data, plan, (("tone",),)) for found in step.run()]


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in BLIND])
def test_every_attack_on_uploads_finds_a_planted_bit(attack_data: GIVEN, name: str) -> None:
    one = replace(attack_data("planted"), networks={})
    if name == "output":
        one = replace(one, cloud=Leaky())
    plan = SMALL.model_copy(update={"pairs": ()})  # decoders of all pairs alone
    results = [score(found, one).result for found in run(one, plan, name) if isinstance(found, Prediction)]
    assert max(row.accuracy for row in results if row.input == "uploads") > 0.9


def test_raw_uploads_give_a_probe_the_clean_accuracy(attack_data: GIVEN) -> None:
    one = attack_data("identity")
    how = Recipe(attack="probe", architecture="cnn", lr=3e-3, epochs=6, patience=6, batch_size=64)
    (raw,) = train(one, ("tone",), how)
    (clean,) = train(one, ("tone",), Recipe(**{**how.__dict__, "attack": "clean", "clean": True}))
    assert score(clean, one).result.accuracy > 0.95
    assert score(raw, one).result.accuracy == pytest.approx(score(clean, one).result.accuracy, abs=0.02)


def test_unbalanced_labels_leave_the_rare_class_its_recall(make: Any) -> None:
    one = build_attack_data(make("clean", balanced=False), ("tone",), copies=1, seed=0)
    assert one.train.labels["tone"].mean() < 0.25
    how = Recipe(attack="probe", architecture="cnn", lr=3e-3, epochs=8, patience=8, batch_size=64)
    (answer,) = train(one, ("tone",), how)
    row = score(answer, one).result
    assert row.balanced_accuracy > 0.93
    assert row.balanced_accuracy > row.accuracy - 0.03


def test_averaging_gains_under_fresh_noise_alone(attack_data: GIVEN) -> None:
    one = attack_data("faint")

    def accuracy(repeats: int, noise: Any) -> float:
        (answer,) = predict_posterior(one, repeats, noise, ("tone",))
        return score(answer, one).result.accuracy

    single = accuracy(1, "keyed")
    assert 0.55 < single < 0.8
    assert accuracy(4, "fresh") > single + 0.05
    assert accuracy(16, "fresh") > 0.9
    assert accuracy(16, "keyed") == single


def test_keyed_uploads_repeat_and_fresh_ones_do_not(attack_data: GIVEN) -> None:
    one = attack_data("noise")
    rows, generator = torch.arange(6), torch.Generator().manual_seed(0)

    def draws(key: bytes | None) -> list[Tensor]:
        split = replace(one.test, repeats=3, key=key)
        return list(split.draws(rows, one.channel, generator))

    first, second, third = draws(b"one")
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(first, draws(b"one")[0]), "another day, the same upload"
    assert torch.equal(mean(iter([first, second, third])), first)
    assert not torch.equal(first[0], first[1]), "another image, other noise"
    assert not torch.equal(first, draws(b"two")[0]), "another phone, other noise"
    parameters = {name: value[rows].float() for name, value in one.test.parameters.items()}
    nudged = {name: value.clone() for name, value in parameters.items()}
    next(iter(nudged.values()))[0, 0, 0, 0] += 1 / 256

    def noise(given: Parameters, artifact: bytes) -> Tensor:
        return keyed_noise(one.channel, given, one.test.pixels[:6], b"one", artifact=artifact)

    same, other, release = noise(parameters, b""), noise(nudged, b""), noise(parameters, b"release")
    assert torch.equal(same, noise(parameters, b""))
    assert not torch.equal(same[0], other[0]), "another parameter, other noise"
    assert torch.equal(same[1:], other[1:]), "and for that image alone"
    assert not (same == release).flatten(1).all(1).any(), "another artifact, other noise"
    fresh = draws(None)
    assert not torch.equal(fresh[0], fresh[1])


def test_mean_statistics_hold_what_all_uploads_hold(attack_data: GIVEN) -> None:
    """The likelihood of three uploads together, from their mean statistics and one by one."""
    from sfumato.audit.attacks import posterior

    one = attack_data("clean")
    candidates = {name: value[:5].float() for name, value in one.train.parameters.items()}
    generator = torch.Generator().manual_seed(0)
    uploads = [one.test.uploads(torch.arange(4), one.channel, generator) for _ in range(3)]
    likelihood = posterior.likelihood_of(one.channel)
    slow = torch.stack([likelihood(upload, candidates) for upload in uploads]).sum(0)
    statistics = mean(likelihood.statistics(upload) for upload in uploads)
    fast = 3 * posterior.combined(statistics, *likelihood.weights(candidates))
    assert fast.numpy() == pytest.approx(slow.numpy(), rel=1e-4)


def test_a_decoder_reconstructs_what_the_channel_passes(attack_data: GIVEN) -> None:
    one = replace(attack_data("identity"), networks={})
    plan = SMALL.model_copy(update={"decoder_steps": 400, "pairs": ()})
    found = [one for one in run(one, plan, "pairs") if isinstance(one, ReconstructedImages)]
    by_name = {one.figures.method: one for one in found}
    decoded, guess = by_name["decoder"], by_name["mean photo"]
    assert decoded.figures.psnr > 30
    assert decoded.figures.psnr > guess.figures.psnr + 10
    assert decoded.figures.ssim > 0.9 > guess.figures.ssim
    assert by_name["mean photo of the desired label"].figures.psnr > guess.figures.psnr, "the disc is known"
    assert decoded.images.shape == (8, 16, 16, 3)


def test_a_decoder_of_noise_is_the_mean_photo(attack_data: GIVEN) -> None:
    plan = SMALL.model_copy(update={"epochs": 1})
    found = run(replace(attack_data("noise"), networks={}), plan, "pairs")
    figures = [one.figures for one in found if isinstance(one, ReconstructedImages)]
    psnr = {(one.method, one.pairs): one.psnr for one in figures}
    assert psnr[("decoder", 400)] == pytest.approx(psnr[("mean photo", 0)], abs=0.2)


def test_an_estimator_finds_the_parameters(attack_data: GIVEN) -> None:
    one = attack_data("planted")
    estimator = train_decoder(one, parameters, pairs=one.train.images, steps=150)
    truth = one.test.parameters["p"].float()
    error = float(((reconstruct(estimator, one.test_uploads) - truth) ** 2).mean())
    assert error < 0.3 * float(((truth - 0.5) ** 2).mean())


def test_similarity_of_a_copy_and_of_a_known_error() -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.8
    psnr, ssim = similarity(images, images)
    assert psnr.tolist() == [100] * 3
    assert ssim.tolist() == pytest.approx([1] * 3)
    assert similarity(images + 0.1, images)[0].tolist() == pytest.approx([20] * 3, abs=1e-3)


def test_persons_are_matched_by_photo_and_by_upload(make: Any) -> None:
    artifact = make("clean")
    one = build_attack_data(artifact, ("tone",), copies=1, seed=0)
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (20, 16, 16, 3)).astype(np.int64)
    again = (photos + rng.integers(-20, 21, photos.shape)).clip(0, 255)
    pixels = np.concatenate([photos, again, rng.integers(0, 256, (5, 16, 16, 3))]).astype(np.uint8)
    split = replace(one.test, pixels=pixels, images=45, parameters=artifact.parameters(pixels))
    seen = replace(one, test=split, persons=np.concatenate([np.arange(20), np.arange(20), np.arange(90, 95)]))
    blank = torch.full((45, 3, 16, 16), 0.5)
    found = reidentify(seen, blank)
    assert found is not None
    assert (found.persons, found.queries) == (20, 20)
    assert found.clean == 1
    assert found.likelihood > 0.9
    assert found.reconstructed < 0.3
    sharp = reidentify(seen, to_tensor(pixels))
    assert sharp is not None
    assert sharp.reconstructed == 1
    assert reidentify(one, blank) is None
    assert reidentify(replace(seen, persons=np.arange(45)), blank) is None, "nobody is seen twice"


@pytest.mark.parametrize("binary", [False, True])
def test_median_equals_the_slow_one(binary: bool) -> None:
    x = torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    x = x.round() if binary else x
    slow = median_filter(x.numpy(), size=(1, 1, 5, 5), mode="mirror")
    assert Median(5)(x).numpy() == pytest.approx(slow)


def test_non_local_means_smooths_noise_and_keeps_edges() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(2, 3, 24, 24)
    clean[..., 12:] = 1.0
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    done = NonLocalMeans()(noisy)
    assert float(((done - clean) ** 2).mean()) < 0.25 * float(((noisy - clean) ** 2).mean())
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(NonLocalMeans()(flat), flat)


def test_a_network_that_ranks_has_learned_although_it_never_guesses_the_rare_class() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    rng = np.random.default_rng(0)
    blind = []
    for _ in range(200):
        order = rng.permutation(1000)
        ranks = np.argsort(order)[900:].sum()
        blind.append((ranks - 100 * 99 / 2) / (100 * 900))
    assert blind_auc_deviation(labels) == pytest.approx(np.std(blind), rel=0.15)
    assert learned(BestEpoch(accuracy_gain=0.0, auc=0.7), labels)
    assert not learned(BestEpoch(accuracy_gain=0.0, auc=0.55), labels)
    assert learned(BestEpoch(accuracy_gain=0.02, auc=0.5), labels)


TABLE = SMALL.model_copy(
    update={
        "attacks": ("floor", "clean", "posterior", "average", "pairs", "generate"),
        "clean_probes": ("linear",),
        "clean_epochs": 2,
        "epochs": 2,
        "repeats": (4, 16),
        "average_networks": (),
        "decoder_steps": 8,
        "flow_steps": 8,
    }
)


def test_fresh_averages_are_shown_and_never_the_best_attack(make: Any) -> None:
    artifact = make("faint")
    result = audit(artifact, attacks=TABLE)
    (tone,) = result.attributes
    averaged = [row for row in result.attacks if row.input == "averaged fresh uploads"]
    assert {row.architecture for row in averaged} == {"posterior, k=4, fresh", "posterior, k=16, fresh"}
    assert max(row.accuracy for row in averaged) > 0.9
    keyed = {row.architecture for row in result.attacks if row.architecture.endswith("keyed")}
    assert keyed == {"posterior, k=1, keyed", "posterior, k=16, keyed"}
    assert tone.best.accuracy < 0.8
    assert tone.strongest_on_test.accuracy < 0.8
    assert any("k=16, fresh" in statement for statement in result.statements)
    assert {one.method for one in result.reconstructions} == {
        "mean photo",
        "mean photo of the desired label",
        "decoder",
        "drawn photos",
    }
    page = (artifact.folder / "report.html").read_text(encoding="utf-8")
    assert "Averages of one photo" in page
    assert "Photos reconstructed from uploads" in page
    assert "drawn photos, 400 pairs, 2 of each, 2 shown" in page
    assert "A drawing looks like a photo\n    whether or not the upload told anything" in page
    # The channel is equally random everywhere, so a sentence stands in place of the noise map.
    assert "No noise map: every pixel is equally random" in page
    assert page.count("data:image/png") == 2 + len(result.reconstructions)


def test_several_seeds_are_several_audits(make: Any) -> None:
    artifact = make("faint")
    plan = TABLE.model_copy(update={"attacks": ("floor", "clean", "posterior")})
    alone = [audit(artifact, attacks=plan, seed=seed) for seed in (3, 4)]
    assert alone[0].seeds == ()
    assert alone[0].seed_spread == ()
    result = audit(artifact, attacks=plan, seed=3, seeds=2)
    assert result.attributes == alone[0].attributes
    assert result.seeds == (3, 4)
    (spread,) = result.seed_spread
    assert spread.accuracy.values == tuple(one.attributes[0].best.accuracy for one in alone)
    assert spread.accuracy.min <= spread.accuracy.mean <= spread.accuracy.max
    assert spread.accuracy.ci95[0] <= spread.accuracy.mean <= spread.accuracy.ci95[1]
    for one in alone[1].reasons:
        assert f"seed 4: {one}" in result.reasons
    assert "Over 2 attack seeds" in (artifact.folder / "report.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="at least one seed"):
        audit(artifact, attacks=plan, seeds=0)


def test_plans_grow() -> None:
    quick, default, full = (set(PLANS[name].attacks) for name in ("quick", "default", "full"))
    assert quick < default < full
    assert full == set(ATTACKS)
