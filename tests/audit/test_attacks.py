"""Single attacks against the slow, obvious computation."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sfumato.audit.attack_data import AttackData, Batches, Photos, build_attack_data
from sfumato.audit.attacks import ATTACKS, create
from sfumato.audit.attacks import posterior as posterior_attack
from sfumato.audit.attacks.discriminant import LEAST_VARIANCE, RIDGES, factors
from sfumato.audit.attacks.ensemble import combine
from sfumato.audit.attacks.fit import Recipe, fit
from sfumato.audit.attacks.floors import table_scores
from sfumato.audit.attacks.posterior import class_scores, likelihood_of, likelihoods
from sfumato.audit.attacks.probe import train
from sfumato.audit.attacks.taps import Taps, pooled
from sfumato.audit.plan import PLANS
from sfumato.audit.predictions import (
    Prediction,
    ReconstructedImages,
    cross_entropy,
    fit_temperature,
    log_posterior,
    log_prior,
)
from sfumato.audit.scoring import best_attack, score
from sfumato.channels import create as create_channel
from sfumato.channels.dither import Dither
from sfumato.core.errors import UsageError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_dither_bits_are_read_back_from_the_upload(levels: int) -> None:
    channel = Dither(levels=levels)
    generator = torch.Generator().manual_seed(1)
    p = torch.rand(5, 3 * (levels.bit_length() - 1), 2, 2, generator=generator)
    noise = channel.noise({"p": p}, generator)
    upload = channel.sample({"p": p}, noise)
    assert torch.equal(channel.planes(upload.half().float()), (noise < p).float())


def test_posterior_on_dither_equals_enumeration() -> None:
    """Two pixels by two, three candidates: all 4,096 uploads, by hand."""
    p = torch.from_numpy(RNG.uniform(0.05, 0.95, (3, 3, 2, 2))).float()
    labels = np.array([0, 1, 1])
    prior = log_prior(labels, 2)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=12))).reshape(-1, 3, 2, 2)
    slow = torch.stack([torch.where(every == 1, q, 1 - q).double().flatten(1).prod(1) for q in p], dim=1)
    assert slow.sum(0).numpy() == pytest.approx(np.ones(3)), "each candidate's uploads sum to one"
    assert torch.exp(likelihood_of(Dither())(every, {"p": p})).numpy() == pytest.approx(
        slow.numpy(), rel=1e-4
    )

    table = likelihoods(create_channel("dither", levels=2), every.half(), {"p": p.half()})
    scores = class_scores(table, labels, 2, 1.0, prior)
    posterior = np.exp(log_posterior(scores, prior, 1.0))[:, 1]
    by_hand = (slow[:, 1] + slow[:, 2]) / slow.sum(1)
    assert posterior == pytest.approx(by_hand.numpy(), abs=3e-3)


def test_posterior_on_gaussian_equals_the_density() -> None:
    mean = torch.from_numpy(RNG.uniform(0, 1, (4, 3, 2, 2))).float()
    scale = torch.from_numpy(RNG.uniform(0.05, 0.5, (4, 3, 2, 2))).float()
    channel = create_channel("gaussian")
    parameters = {"mean": mean, "scale": scale}
    uploads = channel.sample(parameters, channel.noise(parameters, torch.Generator().manual_seed(0)))
    assert ((uploads == 0) | (uploads == 1)).any()
    fast = likelihood_of(channel)(uploads, parameters)
    for i, j in itertools.product(range(4), range(4)):
        slow = 0.0
        for x, m, s in zip(uploads[i].flatten(), mean[j].flatten(), scale[j].flatten(), strict=True):
            x_, m_, s_ = float(x), float(m), float(s)
            if x_ == 0:
                slow += norm.logcdf(0, m_, s_)
            elif x_ == 1:
                slow += norm.logsf(1, m_, s_)
            else:
                slow += norm.logpdf(x_, m_, s_)
        assert float(fast[i, j]) == pytest.approx(slow, rel=1e-4, abs=1e-3)


def test_temperature_undoes_overconfidence_and_ignores_noise() -> None:
    n, prior = 4000, np.log([0.5, 0.5])
    labels = RNG.integers(0, 2, n)
    ratio = np.where(labels == 1, 1.0, -1.0) + RNG.normal(0, 1, n)  # log ratio of the classes: 2 x
    honest = np.stack([-ratio, ratio], axis=1)
    assert fit_temperature(10 * honest, labels, prior) == pytest.approx(0.1, rel=0.3)
    assert fit_temperature(RNG.normal(0, 1, (n, 2)), labels, prior) < 0.1
    best = cross_entropy(log_posterior(honest, prior, 1.0), labels)
    t = fit_temperature(10 * honest, labels, prior)
    assert cross_entropy(log_posterior(10 * honest, prior, t), labels) == pytest.approx(best, abs=0.01)


def test_table_scores_are_the_conditional_frequencies() -> None:
    cells = np.array([0, 0, 0, 1, 1])
    labels = np.array([0, 0, 1, 1, 1])
    scores = table_scores(cells, labels, np.array([0, 1, 7]), 2)
    prior = np.log([2.5 / 6, 3.5 / 6])
    assert scores[0] == pytest.approx(np.log([2.5 / 4, 1.5 / 4]) - prior)
    assert scores[1] == pytest.approx(np.log([0.5 / 3, 2.5 / 3]) - prior)
    assert scores[2].tolist() == [0, 0], "a cell that was never seen says nothing"


def test_copies_are_mirrored_and_shifted_whenever_they_are_asked_for() -> None:
    every = RNG.integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)
    rows = np.array([0, 2, 3, 5, 8])
    photos = Photos.augmented(every, rows, 4, np.random.default_rng(0))
    # The slow way: whole copies, padded and cut, as they were kept in memory once.
    rng, expected = np.random.default_rng(0), list[Any]()
    for copy in range(4):
        images = every[rows][:, :, ::-1] if copy % 2 else every[rows]
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        corners = [(2, 2)] * 5 if copy < 2 else rng.integers(0, 5, size=(5, 2))
        expected += [one[y : y + 32, x : x + 48] for one, (y, x) in zip(padded, corners, strict=True)]
    assert photos.shape == (20, 32, 48, 3)
    assert np.array_equal(photos[:], np.stack(expected))
    picked = np.array([19, 0, 7, 7])
    assert np.array_equal(photos[picked], np.stack(expected)[picked])
    assert np.array_equal(photos.take(picked)[1:3], np.stack(expected)[picked[1:3]])
    assert len({one.tobytes() for one in expected}) == 20, "there is nothing to see if they are alike"


def test_evidence_draws_fresh_noise_for_training_and_fixed_noise_for_test(attack_data: Any) -> None:
    one: AttackData = attack_data("noise")
    rows = torch.arange(4)
    generator = one.generator("x")
    first, second = (one.train.uploads(rows, one.channel, generator) for _ in range(2))
    assert not torch.equal(first, second)
    again = without_cache(one)
    assert torch.equal(one.test_uploads.float(), again.test_uploads.float())
    assert len(one.validation_uploads) == 2 * one.validation.images
    assert one.train.copies == 2


def test_large_pictures_come_in_small_batches() -> None:
    for size, expected in ((16, [256, 44]), (64, [256, 44]), (96, [151, 149])):
        uploads = torch.zeros(1, 3, size, size).expand(300, -1, -1, -1)
        made = Batches(uploads, lambda rows: rows)
        assert [len(part) for part in made] == expected
        assert torch.equal(torch.cat(list(made)), torch.arange(300)), "every pass makes them anew"


def without_cache(one: AttackData) -> AttackData:
    """The same attack data without its cached uploads."""
    return AttackData(**{name: getattr(one, name) for name in one.__dataclass_fields__})


def test_shifted_versions_are_perturbed_after_the_shift(make: Any) -> None:
    artifact = make("planted")
    ready = build_attack_data(artifact, ("tone",), copies=3, seed=0)
    assert len(ready.train.pixels) == 3 * ready.train.images
    again = artifact.parameters(ready.train.pixels[:])["p"].half()
    assert torch.equal(again.float(), ready.train.parameters["p"].float())


def test_the_best_attack_is_chosen_on_validation(attack_data: Any) -> None:
    one: AttackData = attack_data("noise")
    validation, test = one.validation_labels("tone"), one.test.labels["tone"]

    def prediction(name: str, right_on_validation: float, right_on_test: float) -> Prediction:
        def scores(labels: np.ndarray[Any, Any], share: float) -> np.ndarray[Any, Any]:
            says = labels.copy()
            says[: int((1 - share) * len(labels))] ^= 1
            return np.asarray(np.eye(2)[says] * 2.0)

        return Prediction(
            attack="probe",
            architecture=name,
            attribute="tone",
            validation=scores(validation, right_on_validation),
            test=scores(test, right_on_test),
        )

    honest, lucky = (score(a, one) for a in (prediction("honest", 0.8, 0.7), prediction("lucky", 0.6, 0.9)))
    assert lucky.result.accuracy > honest.result.accuracy
    assert best_attack([lucky, honest]) is honest
    assert honest.result.accuracy == pytest.approx(0.7, abs=0.01)


def test_the_ensemble_is_no_worse_than_its_members_on_average(attack_data: Any) -> None:
    one: AttackData = attack_data("noise")
    labels = one.validation_labels("tone"), one.test.labels["tone"]
    predictions = []
    for index in range(5):
        rng = np.random.default_rng(index)
        # Five independent weak readers: their sum knows more than any of them.
        parts = [
            np.stack([-v, v], axis=1)
            for v in (np.where(split == 1, 0.5, -0.5) + rng.normal(0, 1, len(split)) for split in labels)
        ]
        predictions.append(
            Prediction(
                attack="probe", architecture=str(index), attribute="tone", validation=parts[0], test=parts[1]
            )
        )
    single = [score(prediction, one).result.accuracy for prediction in predictions]
    assert score(combine(predictions, one), one).result.accuracy > max(single) + 0.05
    with pytest.raises(ValueError, match="at least one attack"):
        combine([], one)


class Silent(torch.nn.Module):
    """A network whose scores are always zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"tone": 0 * self.weight * x.mean((1, 2, 3))[:, None].expand(-1, 2)}


def test_a_fit_that_learned_nothing_says_so(attack_data: Any) -> None:
    how = Recipe(attack="probe", architecture="linear", lr=1e-2, epochs=3, patience=3, batch_size=64)
    (silent,) = fit(Silent(), attack_data("planted"), ("tone",), how)
    (able,) = train(attack_data("planted"), ("tone",), how)
    assert silent.note is not None
    assert "no evidence of safety" in silent.note
    assert able.note is None


def test_taps_read_stages_and_let_gradients_through() -> None:
    class Own(torch.nn.Module):
        """A user's cloud network without named stages."""

        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Conv2d(3, 4, 3, stride=2)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"shape": self.head(self.body(x).mean((2, 3)))}

    features, logits = Taps(Own())(torch.rand(2, 3, 9, 9))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "body": (2, 4, 4, 4),
        "head": (2, 2),
    }
    assert logits.shape == (2, 2)
    assert pooled(features["body"], 2).shape == (2, 16)
    assert torch.allclose(pooled(features["body"], 1), features["body"].mean((2, 3)))
    assert features["body"].requires_grad


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_answers_for_every_attribute(
    attack_data: Callable[[str], AttackData], name: str
) -> None:
    one = attack_data("planted")
    plan = PLANS["quick"].model_copy(
        update={
            "epochs": 1,
            "steps": 1,
            "clean_steps": 1,
            "clean_epochs": 1,
            "provider_epochs": 1,
            "probes": ("linear",),
            "clean_probes": ("linear",),
            "repeats": (4,),
            "average_networks": (4,),
            "pairs": (100,),
            "decoder_steps": 2,
            "flow_steps": 2,
        }
    )
    for step in create(name)(one, plan, (("tone",),)):
        found = step.run()
        assert found
        for prediction in found:
            if isinstance(prediction, ReconstructedImages):
                continue
            assert prediction.test.shape == (one.test.images, 2)
            assert len(prediction.validation) == len(one.validation_labels("tone", clean=prediction.clean))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match="posterior"):
        create("oracle")


def test_readers_are_found_where_samples_hardly_vary() -> None:
    """Two uploads without any noise: products of a million, whose float32 rounding may be more than the ridge of 1."""
    generator = torch.Generator().manual_seed(0)
    for count in range(30, 130, 10):
        words = (torch.rand(2, 3072, generator=generator) < 0.5).float()
        white = words[torch.randint(2, (count,), generator=generator)]
        white = (white - white.mean(0)) / LEAST_VARIANCE**0.5
        exact = white.double() @ white.double().T / count
        for ridge, root in zip(RIDGES, factors(white), strict=True):
            assert torch.allclose(root @ root.T, exact + ridge * torch.eye(count).double(), rtol=1e-5)


def test_posterior_in_pieces_equals_posterior_at_once(
    attack_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one: AttackData = attack_data("clean")
    chosen = {"tone": posterior_attack.Choice(0.0, 0.1, one.train.images)}
    whole = posterior_attack.posterior_scores(one.test_uploads, one, one.train.parameters, chosen)["tone"]
    monkeypatch.setattr(posterior_attack, "ROWS", 33)
    monkeypatch.setattr(posterior_attack, "CHUNK", 50)
    assert posterior_attack.posterior_scores(one.test_uploads, one, one.train.parameters, chosen)[
        "tone"
    ] == pytest.approx(whole, abs=1e-3)


def test_posterior_on_a_part_of_the_candidates_stays_finite() -> None:
    """The best candidate may lie outside the part that is asked about, by thousands of nats."""
    table = np.array([[-5000.0, -5001.0, 0.0]], dtype=np.float32)
    labels, prior = np.array([0, 1]), np.log([0.5, 0.5])
    scores = class_scores(table[:, :2], labels, 2, 1.0, prior)
    assert np.exp(log_posterior(scores, prior, 1.0))[0, 0] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
