"""What keeps an audit short: tournaments, networks on clean photos from the cache, and steps that are not run twice."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies.audit_cost.faded import Faded
from studies.audit_cost.study import measure

from sfumato.audit import audit
from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import clean, probe
from sfumato.audit.attacks.fit import Fit, Recipe, evaluation_images, fit, train_epoch
from sfumato.audit.attacks.tournament import Contestant, Tournament
from sfumato.audit.plan import DEFAULT, QUICK
from sfumato.audit.positive_control import COIN
from sfumato.audit.predictions import AttackOutput, Prediction, ReconstructedImages
from sfumato.audit.runner import TimeLeft
from sfumato.audit.schema import Audit, Reconstruction
from sfumato.audit.scoring import score
from sfumato.audit.stored import FOLDER, StoredSteps, fingerprint, from_plain, to_plain
from sfumato.core.cloud_spec import parse_cloud
from sfumato.core.errors import UsageError
from sfumato.models.pretrained import create_pretrained

GIVEN = Callable[[str], AttackData]
LINEAR = Recipe(attack="probe", architecture="linear", lr=1e-2, epochs=3, patience=3, batch_size=64)


def trained_again(*_: Any) -> None:
    raise AssertionError("a network was trained that is in the cache")


def played(one: AttackData, number: int) -> list[Prediction]:
    found = Tournament(one, ("tone",), contestants(), rounds=3).steps()[number].run()
    return [each for each in found if isinstance(each, Prediction)]


def contestants(epochs: int = 5) -> list[Contestant]:
    recipes = [replace(LINEAR, lr=lr, epochs=epochs) for lr in (1e-7, 1e-2, 1e-8, 3e-2, 1e-9)]
    return [Contestant(probe.start, recipe) for recipe in recipes]


def test_networks_that_share_batches_learn_what_they_learn_alone(attack_data: GIVEN) -> None:
    one = attack_data("planted")
    validation, test = evaluation_images(one, clean=False)

    def train(recipes: list[Recipe]) -> list[Prediction]:
        generator = torch.Generator().manual_seed(7)
        fits = [Fit(probe.start(one, ("tone",), recipe), one, ("tone",), recipe) for recipe in recipes]
        for _ in range(2):
            for each, reached in zip(fits, train_epoch(fits, one, generator), strict=True):
                each.evaluate(validation, reached)
        return [each.predictions(test)[0] for each in fits]

    with torch.random.fork_rng():
        other = replace(LINEAR, lr=3e-3)
        together, alone = train([LINEAR, other]), [*train([LINEAR]), *train([other])]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a.test, b.test)
        assert a.lr == b.lr


def test_a_tournament_trains_the_able_to_the_end_and_reports_everybody(attack_data: GIVEN) -> None:
    one = attack_data("planted")
    work = Tournament(one, ("tone",), contestants(), rounds=3).steps()
    by_round = [[each for each in step.run() if isinstance(each, Prediction)] for step in work]
    assert [len(found) for found in by_round] == [3, 1, 1]
    assert {found.lr for found in by_round[1] + by_round[2]} == {1e-2, 3e-2}, "the others cannot learn"
    assert [found.epochs for found in by_round[0]] == [1, 1, 1]
    assert score(by_round[2][0], one).result.accuracy > 0.9
    assert work[0].work == pytest.approx(sum(step.work for step in work) * 5 / (5 + 4 + 6))


def test_a_later_round_plays_those_before_it(attack_data: GIVEN) -> None:
    """An audit that goes on after an interruption has the first round's predictions, but not its networks."""
    one = attack_data("planted")
    whole = [step.run() for step in Tournament(one, ("tone",), contestants(), rounds=3).steps()][2]
    last = played(one, 2)
    assert len(whole) == len(last) == 1
    for before, after in zip(whole, last, strict=True):
        assert isinstance(before, Prediction)
        assert before.lr == after.lr
        assert np.array_equal(before.test, after.test)


def test_every_round_ends_at_a_rate_of_zero_and_looks_a_few_times(attack_data: GIVEN) -> None:
    one = attack_data("planted")
    patient = [Contestant(each.start, replace(each.recipe, patience=99)) for each in contestants(epochs=27)]
    game = Tournament(one, ("tone",), patient, rounds=3)
    ends = []
    for number in (1, 2, 3):
        game.play(number)
        for each in game.fits or game.finished:
            assert each.epoch == each.until
            assert each.optimizer.param_groups[0]["lr"] < 0.05 * each.recipe.lr
            ends.append((each.began, each.until, each.interval))
    assert ends == [(0, 3, 1), (0, 3, 1), (3, 9, 1), (9, 27, 3)]


def test_as_few_epochs_as_rounds_are_enough(attack_data: GIVEN) -> None:
    game = Tournament(attack_data("planted"), ("tone",), contestants(epochs=2), rounds=3)
    epochs = [[each.epochs for each in game.play(number)] for number in (1, 2, 3)]
    assert epochs == [[1, 1, 1], [2], [3]]


def test_a_large_cloud_network_is_measured_against_a_copy_that_learned_photos(
    attack_data: GIVEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse_cloud("lite0,weights=none")
    assert spec is not None
    lite0 = create_pretrained(spec, {"tone": 2}, size=(32, 32))
    assert sum(weight.numel() for weight in lite0.parameters()) > clean.LARGE
    data = replace(attack_data("planted"), networks={})
    plan = QUICK.model_copy(update={"clean_probes": ("linear",), "provider_epochs": 20, "clean_steps": 200})
    assert [step.title for step in clean.steps(data, plan, (("tone",),))] == ["clean linear"]
    assert [step.title for step in clean.steps(replace(data, cloud=lite0), plan, (("tone",),))] == [
        "clean linear",
        "clean finetune",
    ]
    monkeypatch.setattr(clean, "LARGE", 1)
    before = {name: value.clone() for name, value in data.cloud.state_dict().items()}
    photos, uploads = (
        one for one in clean.steps(data, plan, (("tone",),))[1].run() if isinstance(one, Prediction)
    )
    assert photos.clean
    assert not uploads.clean
    assert photos.attack == uploads.attack == "clean"
    assert score(photos, data).result.accuracy > 0.9
    assert len(uploads.test) == data.test.images
    assert all(torch.equal(value, before[name]) for name, value in data.cloud.state_dict().items())


def test_a_probe_starts_from_the_clean_network_and_repeats_itself(
    attack_data: GIVEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    plan = DEFAULT.model_copy(
        update={
            "probes": ("linear",),
            "clean_probes": ("linear", "cnn"),
            "clean_epochs": 3,
            "steps": 1,
            "clean_steps": 1,
        }
    )
    data = replace(attack_data("planted"), networks={})
    for step in clean.steps(data, plan, (("tone",),)):
        step.run()
    (found,) = [
        one for one in probe.contestants(data, plan, ("tone",)) if one.recipe.architecture == "from clean"
    ]
    architecture, network = clean.clean_network(data, plan, ("tone",))
    started = found.start(data, ("tone",), found.recipe)
    assert started is not network
    for a, b in zip(started.parameters(), network.parameters(), strict=True):
        assert torch.equal(a, b)
    runs = [probe.train(data, ("tone",), replace(found.recipe, epochs=2), found.start) for _ in range(2)]
    assert np.array_equal(runs[0][0].test, runs[1][0].test)
    # After an interruption the clean networks are not trained again, and the same one is found.
    monkeypatch.setattr(Tournament, "play", trained_again)
    later = replace(data, networks={})
    again = clean.clean_network(later, plan, ("tone",))
    assert again[0] == architecture
    for a, b in zip(again[1].parameters(), network.parameters(), strict=True):
        assert torch.equal(a, b)
    features = replace(data)  # uploads that are no images
    features.__dict__["test_uploads"] = np.zeros((len(data.test_uploads), 8, 4, 4), dtype=np.float32)
    assert "from clean" not in [
        one.recipe.architecture for one in probe.contestants(features, plan, ("tone",))
    ]


def test_clean_networks_come_from_the_cache(
    attack_data: GIVEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    recipe = replace(LINEAR, attack="clean", clean=True)
    trained: list[Recipe] = []

    def counted(*parts: Any) -> list[Prediction]:
        trained.append(parts[-1])
        return fit(*parts)

    monkeypatch.setattr(clean, "fit", counted)
    first = clean.train(replace(attack_data("planted"), networks={}), ("tone",), recipe)
    other = replace(attack_data("noise"), networks={})  # the same photos behind another channel
    second = clean.train(other, ("tone",), recipe)
    assert len(trained) == 1
    assert np.array_equal(first[0].test, second[0].test)
    assert not np.array_equal(first[1].test, second[1].test), "uploads are those of the artifact"
    assert "linear" in other.networks
    clean.train(other, ("tone",), replace(recipe, lr=2e-2))
    assert len(trained) == 2
    swapped = {**other.train.labels, "tone": 1 - other.train.labels["tone"]}
    clean.train(replace(other, train=replace(other.train, labels=swapped)), ("tone",), recipe)
    assert len(trained) == 3
    for path in tmp_path.rglob("*.pt"):
        path.write_bytes(b"broken")
    clean.train(other, ("tone",), recipe)
    assert len(trained) == 4


def test_outputs_survive_the_disk(tmp_path: Path) -> None:
    figures = Reconstruction(method="decoder", pairs=3, psnr=1.0, ssim=0.5)
    outputs: list[AttackOutput] = [
        Prediction(
            attack="a", architecture="b", attribute="c", validation=np.eye(3), test=np.ones((2, 3)), lr=0.1
        ),
        ReconstructedImages(figures=figures, images=np.full((1, 4, 4, 3), 7, np.uint8)),
    ]
    back = from_plain(to_plain(outputs))
    assert isinstance(back[0], Prediction)
    assert np.array_equal(back[0].validation, np.eye(3))
    assert (back[0].attack, back[0].lr, back[0].note) == ("a", 0.1, None)
    assert isinstance(back[1], ReconstructedImages)
    assert back[1].figures == figures
    assert (back[1].images == 7).all()
    steps = StoredSteps(tmp_path, "digest")
    assert steps.load(0) is None
    steps.save(0, outputs)
    assert steps.load(0) is not None
    (steps.folder / "0.pt").write_bytes(b"broken")
    assert steps.load(0) is None


def test_the_digest_tells_artifacts_and_plans_apart(attack_data: GIVEN) -> None:
    groups = (("tone",),)
    digests = {fingerprint(attack_data(kind), QUICK, groups) for kind in ("noise", "planted")}
    digests |= {fingerprint(attack_data("noise"), DEFAULT, groups)}
    digests |= {fingerprint(replace(attack_data("noise"), seed=5), QUICK, groups)}
    assert len(digests) == 4
    assert fingerprint(attack_data("noise"), QUICK, groups) in digests


def test_an_interrupted_audit_goes_on_and_gives_the_same_result(make: Any) -> None:
    plan = QUICK.model_copy(
        update={
            "probes": ("linear",),
            "clean_probes": ("linear",),
            "provider_rates": (),
            "epochs": 2,
            "steps": 1,
            "clean_steps": 1,
            "prior_steps": 10,
            "compose": True,
            "frames": (1,),
        }
    )
    artifact = make("planted")
    titles: list[str] = []

    def stop(done: int, total: int, title: str, best: str) -> None:
        titles.append(title)
        if title.startswith("probe"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(artifact, attacks=plan, watch=stop)
    stored = len(list((artifact.folder / FOLDER).rglob("*.pt")))
    assert stored == len([title for title in titles if title != "uploads"]) - 1

    def seconds(result: Audit) -> Audit:
        return result.model_copy(update={"seconds": 0.0, "date": "", "provenance": {}})

    resumed = audit(artifact, attacks=plan, resume=True)
    assert [one.attribute for one in resumed.positive_controls] == [COIN]
    assert {one.uploads for one in resumed.compositions} == {1, 2, 4, 16, 64}
    assert [path.name for path in artifact.folder.iterdir() if path.name.startswith(".")] == []
    again = audit(artifact, attacks=plan)
    different = [name for name, value in seconds(again) if value != getattr(seconds(resumed), name)]
    assert different == []


def test_the_time_left_follows_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.5, 0.5, 10.5, 10.5, 40.5])
    monkeypatch.setattr("sfumato.audit.runner.time.monotonic", lambda: next(now))
    left = TimeLeft([50, 1, 3, 20])
    assert left.text(0) == ""
    left.start(0)
    left.stop(0)
    assert left.text(1) == "", "it came from a store"
    left.start(1)
    left.stop(1)
    assert left.text(2) == "~4 min left"  # 23 times 10 s
    left.start(2)
    left.stop(2)
    assert left.text(3) == "~3 min left"  # 20 times 10 s


def test_clean_networks_compete_and_the_best_is_kept(
    attack_data: GIVEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    plan = DEFAULT.model_copy(
        update={
            "clean_probes": ("linear", "cnn"),
            "clean_epochs": 3,
            "clean_rounds": 2,
            "steps": 1,
            "clean_steps": 1,
            "rates": (3e-3,),
        }
    )

    def run(kind: str) -> tuple[AttackData, list[Prediction]]:
        data = replace(attack_data(kind), networks={})
        (step,) = clean.steps(data, plan, (("tone",),))
        return data, [one for one in step.run() if isinstance(one, Prediction)]

    data, found = run("planted")
    assert [one.input for one in found] == ["clean images", "clean images", "uploads"]
    first, last, applied = found
    assert (first.epochs, last.epochs) == (1, 3)
    assert set(data.networks) == {last.architecture} == {applied.architecture}
    best = min(found[:2], key=lambda one: score(one, data).validation_loss)
    assert score(best, data).result.accuracy > 0.9
    # Behind another channel both come from the cache.
    monkeypatch.setattr(Tournament, "play", trained_again)
    again = run("noise")[1]
    assert np.array_equal(again[1].test, last.test)
    assert not np.array_equal(again[2].test, applied.test)


def test_an_audit_is_timed_piece_by_piece(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    artifact = make("planted")
    plan = QUICK.model_copy(
        update={
            "attacks": ("floor", "clean", "posterior"),
            "clean_probes": ("linear",),
            "clean_epochs": 2,
            "steps": 1,
            "clean_steps": 1,
            "prior_steps": 10,
        }
    )
    cost = measure(artifact, plan)
    pieces = dict(cost.pieces)
    assert {"load", "uploads", "clean linear", "posterior", "positive control", "bounds", "report"} <= set(
        pieces
    )
    assert cost.seconds == pytest.approx(sum(pieces.values()))
    assert pieces["clean linear"] > 0
    assert [(one.name, one.auc > 0.9) for one in cost.found] == [("tone", True)]
    assert "s  clean linear" in capsys.readouterr().err
    assert os.environ["SFUMATO_CACHE"] == str(tmp_path)
    assert not list(tmp_path.iterdir()), "no cache is used"
    assert not list(artifact.folder.iterdir()), "the artifact stays as it is"


def test_a_faded_artifact_tells_a_share_of_what_it_told(make: Any) -> None:
    artifact = make("planted")
    images = artifact.dataset.images[:4]
    whole, half, none = (Faded(artifact, share).parameters(images)["p"] for share in (1, 0.5, 0))
    exact = artifact.parameters(images)["p"]
    assert (whole - exact).abs().max() <= 1 / 512
    assert (half - (0.5 + (exact - 0.5) / 2)).abs().max() <= 1 / 512
    assert (none == 0.5).all()
    for table in (whole, half):
        assert torch.equal(table, (table * 256).round() / 256), "probabilities are bytes, as a phone's are"
    for artifact, share in ((make("planted"), 1.1), (make("planted"), -0.1), (make("identity"), 0.5)):
        with pytest.raises(UsageError, match="faded"):
            Faded(artifact, share)
