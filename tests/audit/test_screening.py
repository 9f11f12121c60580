"""Screening: who goes on from the first fold, on what that is decided, and an audit that is screened."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sfumato.audit import audit, runner
from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import clean, create, probe, provider
from sfumato.audit.plan import DEFAULT, FULL, QUICK, to_the_end
from sfumato.audit.predictions import Prediction
from sfumato.audit.schema import Audit
from sfumato.audit.scoring import score
from sfumato.audit.screening import ALWAYS, going_on, narrowed
from sfumato.audit.stored import FOLDER

Make = Callable[..., Any]
GIVEN = Callable[[str], AttackData]
TINY = QUICK.model_copy(
    update={
        "probes": ("linear", "cnn"),
        "clean_probes": ("linear", "cnn"),
        "epochs": 4,
        "provider_epochs": 2,
        "clean_epochs": 4,
        "steps": 1,
        "clean_steps": 1,
        "prior_steps": 10,
        "survivors": 1,
        "control": False,
    }
)


def prediction(data: AttackData, attack: str, seen: float, **options: Any) -> Prediction:
    """Scores that tell the tone with so much strength, on validation; on test they are the opposite."""
    sign = 2 * data.validation_labels("tone", clean=options.get("clean", False)) - 1
    validation = np.stack([-sign, sign], axis=1) * seen
    validation = validation + np.random.default_rng(len(attack)).normal(size=validation.shape)
    wrong = 1 - 2 * data.test.labels["tone"]
    test = np.stack([-wrong, wrong], axis=1) * 9.0
    options = {"architecture": attack, **options}
    return Prediction(attack=attack, attribute="tone", validation=validation, test=test, **options)


def chosen(data: AttackData, predictions: list[Prediction], count: int) -> list[str]:
    scored = [score(one, data) for one in predictions]
    return [one.architecture for one in going_on(predictions, scored, count)]


def test_the_best_on_validation_go_on_and_test_images_have_no_say(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    kinds = {"probe": 0.1, "pairs": 0.9, "generate": 0.5, "average": 0.3}
    predictions = [prediction(data, name, seen) for name, seen in kinds.items()]
    assert chosen(data, predictions, 2) == ["pairs", "generate"]
    told = [replace(one, test=-one.test if index % 2 else one.test) for index, one in enumerate(predictions)]
    assert chosen(data, told, 2) == ["pairs", "generate"]
    assert chosen(data, predictions, 9) == list(kinds)


def test_what_is_no_whole_attack_on_single_uploads_does_not_go_on(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    predictions = [
        prediction(data, "probe", 0.1),
        prediction(data, "probe", 0.9, architecture="vit", early=True),
        prediction(data, "ensemble", 0.9),
        prediction(data, "clean", 0.9, calibrate=False),
        prediction(data, "clean", 0.9, clean=True),
        prediction(data, "average", 0.9, averaged="fresh"),
    ]
    assert chosen(data, predictions, 4) == ["probe"]


def test_a_narrowed_plan_runs_what_goes_on_and_nothing_else(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    predictions = [
        prediction(data, "clean", 0.9, architecture="resnet", clean=True),
        prediction(data, "clean", 0.5, architecture="cnn", clean=True),
        prediction(data, "output", 0.1, architecture="boosting"),
        prediction(data, "provider", 0.5, architecture="stage 2, 4x4"),
        prediction(data, "provider", 0.2, architecture="upload, 1x1"),
        prediction(data, "provider", 0.7, architecture="finetune", lr=1e-3),
        prediction(data, "probe", 0.6, architecture="from clean", lr=2e-3),
        prediction(data, "generate", 0.05, architecture="clean resnet on 2 drawn photos"),
    ]
    scored = [score(one, data) for one in predictions]
    plan = narrowed(DEFAULT.model_copy(update={"survivors": 3}), predictions, scored)
    assert plan.attacks == (*ALWAYS, "probe", "provider")
    assert (plan.probes, plan.from_clean, plan.finetune, plan.stages) == ((), True, True, ("stage 2, 4x4",))
    assert plan.clean_probes == ("resnet",)
    assert not plan.clean_finetune
    playing = [one.recipe.architecture for one in probe.contestants(data, plan, ("tone",))]
    assert playing == ["from clean", "finetune"]
    assert [step.title for step in provider.steps(data, plan, (("tone",),))] == ["provider stages"]
    alone = narrowed(DEFAULT.model_copy(update={"survivors": 1}), predictions, scored)
    assert [one.recipe.architecture for one in probe.contestants(data, alone, ("tone",))] == ["finetune"]
    assert (alone.probes, alone.stages, provider.steps(data, alone, (("tone",),))) == ((), (), [])
    none = narrowed(DEFAULT.model_copy(update={"survivors": 1}), predictions[:3], scored[:3])
    assert none.attacks == ALWAYS
    assert [step for name in none.attacks for step in create(name)(data, none, (("tone",),))]
    large = replace(predictions[0], architecture="finetune")
    with_large = [large, *predictions[1:]]
    again = narrowed(DEFAULT, with_large, [score(one, data) for one in with_large])
    assert (again.clean_probes, again.clean_finetune) == (("cnn",), True), "one reads restored photos"
    for unscreened in (FULL, to_the_end(QUICK)):
        assert narrowed(unscreened, predictions, scored) is unscreened


def test_one_clean_network_is_trained_as_the_last_of_several(attack_data: GIVEN) -> None:
    """The same rounds, so that further folds have the same reference."""
    plan = DEFAULT.model_copy(update={"clean_probes": ("cnn",)})
    (step,) = clean.steps(attack_data("noise"), plan, (("tone",),))
    assert step.title == "1 clean network(s)"


def only_figures(result: Audit) -> dict[str, Any]:
    plain = result.model_dump(mode="json", exclude={"seconds", "date", "provenance", "command"})
    return dict(json.loads(json.dumps(plain)))


def test_a_screened_audit_finds_the_leak_and_goes_on_after_an_interruption(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make("planted")
    plans: list[tuple[str, ...]] = []
    shipped = runner.run_attacks

    def listed(data: Any, plan: Any, *rest: Any) -> Any:
        plans.append((*plan.attacks, *plan.probes))
        return shipped(data, plan, *rest)

    monkeypatch.setattr(runner, "run_attacks", listed)
    whole = audit(artifact, attacks=TINY, folds=3)
    assert len(plans) == 3
    assert plans[1] == plans[2]
    assert len(plans[1]) < len(plans[0])
    (tone,) = whole.attributes
    assert tone.best.accuracy > 0.9
    left = [one for one in whole.attacks if one.images == whole.n_test]
    stayed = [one for one in whole.attacks if one.images == whole.n_attack_test]
    assert left
    assert len(left) + len(stayed) == len(whole.attacks)
    assert {one.attack for one in stayed} >= {"clean", "output", "posterior", "discriminant", "ensemble"}
    assert any("no test image had a say" in statement for statement in whole.statements)
    assert "first fold only" in (artifact.folder / "report.html").read_text(encoding="utf-8")

    def stop(done: int, total: int, title: str, best: str) -> None:
        if title.startswith("fold 2: ") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(artifact, attacks=TINY, folds=3, watch=stop)
    stored = list((artifact.folder / FOLDER).iterdir())
    assert len(stored) == 2, "the first fold's steps, and those of the second under its narrower plan"
    resumed = audit(artifact, attacks=TINY, folds=3, resume=True)
    assert only_figures(resumed) == only_figures(whole)


def test_an_exhaustive_audit_runs_all_in_every_fold(make: Make) -> None:
    plan = TINY.model_copy(update={"rounds": 2, "attacks": (*ALWAYS, "probe")})
    assert to_the_end(plan).rounds == 1
    found = audit(make("noise"), attacks=plan, folds=2, exhaustive=True)
    assert {one.images for one in found.attacks} == {found.n_attack_test}
    assert found.plan == "quick, exhaustive"
    assert {one.architecture for one in found.attacks if one.attack == "probe"} == {"linear", "cnn"}
