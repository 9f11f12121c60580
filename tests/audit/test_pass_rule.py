"""The pass rule on results made by hand, and on simulated audits whose truth is known."""

import math
from typing import Any

import pytest
from tests.audit.simulation import audit, nag_of

from sfumato.audit.pass_rule import Judgement, family_limit, judge, missing_images, shortfalls
from sfumato.audit.runner import over_seeds
from sfumato.audit.schema import (
    AttributeResult,
    BestAttack,
    DesiredResult,
    ExactLeak,
    Gain,
    Goal,
    PositiveControl,
    Rule,
    StrongestOnTest,
    make_rule,
)
from sfumato.audit.scoring import PARTS, cross_selected
from sfumato.core.errors import UsageError

KEPT = DesiredResult(name="shape", classes=2, accuracy=0.980, clean_accuracy=0.994, ci95=(0.97, 0.99))
EVEN = (0.5, 0.5)


def gain(nag: float, error: float, measure: Any = "accuracy") -> Gain:
    return Gain(
        measure=measure,
        value=0.5 + 0.4 * nag,
        floor=0.5,
        clean=0.9,
        nag=nag,
        error=error,
        lower=nag - 1.645 * error,
        upper=nag + 1.645 * error,
    )


def hidden(*gains: Gain, name: str = "tone", declared: bool = True, asked: bool = False) -> AttributeResult:
    best: dict[str, Any] = {"attack": "probe", "architecture": "cnn", "accuracy": 0.5}
    return AttributeResult(
        name=name,
        declared=declared,
        asked=asked,
        classes=2,
        majority=0.5,
        label_only=0.5,
        clean=0.9,
        best=BestAttack(**best, balanced_accuracy=0.5, auc=0.5, ci95=(0.4, 0.6)),
        gains=gains,
        nag_majority=0,
        nag_label_only=0,
        leak_bits_lower=0,
        nag_majority_ci95=(0, 0),
        nag_label_only_ci95=(0, 0),
        entropy_bits=1,
        strongest_on_test=StrongestOnTest(**best, nag_label_only=0),
    )


def control(*, passed: bool) -> PositiveControl:
    return PositiveControl(
        attribute="tone",
        planted_nag=0.08,
        found_nag=0.07 if passed else 0.01,
        found_upper=0.1,
        passed=passed,
        attack="probe, cnn",
        images=900,
    )


def leak(*gains: Gain, declared: bool = True, asked: bool = False) -> ExactLeak:
    return ExactLeak(
        attribute="tone",
        declared=declared,
        asked=asked,
        gains=gains,
        words=2,
        images=900,
        accuracy=0.5,
        balanced_accuracy=0.5,
        auc=0.5,
        floor=0.5,
        nag=0.0,
        nag_upper=0.0,
        bits=0.0,
        bits_upper=0.01,
        entropy_bits=1.0,
    )


# --- by hand


def test_small_gains_with_small_limits_pass() -> None:
    judged = judge([KEPT], [hidden(gain(0.05, 0.01), gain(0.02, 0.03, "auc"))])
    assert (judged.verdict, judged.reasons, judged.more_images) == ("passed", (), None)
    assert shortfalls([KEPT], [hidden(gain(0.05, 0.01))]) == ()


@pytest.mark.parametrize("measure", ["accuracy", "balanced_accuracy", "auc", "information"])
def test_a_leak_by_any_measure_does_not_pass(measure: str) -> None:
    small = [
        gain(0.0, 0.01, one)
        for one in ("accuracy", "balanced_accuracy", "auc", "information")
        if one != measure
    ]
    judged = judge([KEPT], [hidden(*small, gain(0.4, 0.05, measure))])
    assert judged.verdict == "not_passed"
    assert "tone: probe (cnn)" in judged.reasons[0]
    assert "NAG 40.0%; at most 5% is allowed" in judged.reasons[0]


def test_a_wide_interval_is_no_verdict_and_says_how_many_images_are_missing() -> None:
    wide = gain(0.02, 0.06)
    judged = judge([KEPT], [hidden(gain(0.0, 0.01), wide)], images=1000)
    assert judged.verdict == "no_verdict"
    assert judged.more_images == missing_images(wide, Rule(), 1000)
    assert "more test images are needed" in judged.reasons[0]
    # With that many images the same gain has the limit that is allowed.
    error = 0.06 / math.sqrt((1000 + judged.more_images) / 1000)
    assert 0.02 + 1.645 * error == pytest.approx(0.08, abs=1e-4)


def test_a_gain_above_the_limit_that_may_be_chance_is_no_verdict() -> None:
    assert judge([KEPT], [hidden(gain(0.06, 0.05))], images=500).verdict == "no_verdict"
    assert judge([KEPT], [hidden(gain(0.06, 0.01))], images=500).verdict == "not_passed"


def test_a_lucky_gain_below_0_does_not_make_up_for_missing_images() -> None:
    judged = judge([KEPT], [hidden(gain(-0.2, 0.1))], images=500)
    assert judged.verdict == "no_verdict"
    assert "NAG -20.0% with an upper 95 % limit of 16.4%" in judged.reasons[0]
    assert judge([KEPT], [hidden(gain(-0.2, 0.04))]).verdict == "passed"


def test_many_attributes_need_stronger_evidence_each() -> None:
    one, many = hidden(gain(0.10, 0.05)), [hidden(gain(0.0, 0.01), name=str(n)) for n in range(40)]
    assert judge([KEPT], [one]).verdict == "not_passed"
    assert judge([KEPT], [one, *many]).verdict == "no_verdict"
    assert family_limit(0) == family_limit(1) < family_limit(41)


def test_undeclared_attributes() -> None:
    found, wide = gain(0.9, 0.02), gain(0.0, 0.2)
    safe = hidden(gain(0.0, 0.01))
    # A leak that is found counts, whoever asked for it or did not.
    for one in (hidden(found, name="x", declared=False), hidden(found, name="x", declared=False, asked=True)):
        judged = judge([KEPT], [safe, one])
        assert judged.verdict == "not_passed"
        assert judged.reasons[0].startswith("x (undeclared): ")
    # What was asked for has to be shown; what nobody named does not, beside what somebody did.
    assert judge([KEPT], [safe, hidden(wide, declared=False, asked=True)]).verdict == "no_verdict"
    assert judge([KEPT], [safe, hidden(wide, declared=False)]).verdict == "passed"
    assert judge([KEPT], [hidden(wide, declared=False)]).verdict == "no_verdict"


def test_an_attribute_that_clean_images_do_not_give_either_is_no_verdict() -> None:
    mute = Gain(measure="auc", value=0.5, floor=0.5, clean=0.5)
    judged = judge([KEPT], [hidden(mute)])
    assert judged.verdict == "no_verdict"
    assert "clean images either" in judged.reasons[0]
    # One measure without a scale does not matter where another has one.
    assert judge([KEPT], [hidden(mute, gain(0.0, 0.01))]).verdict == "passed"


def test_lost_accuracy_and_missed_goals_do_not_pass() -> None:
    safe = hidden(gain(0.0, 0.01))
    low = KEPT.model_copy(update={"accuracy": 0.978})
    assert "1.6 points" in judge([low], [safe]).reasons[0]
    assert judge([low], [safe], Rule(max_drop=0.02)).verdict == "passed"
    goal = Goal(beyond_target_bits=0.03, beyond_reached_bits=6.0, met=False)
    judged = judge([KEPT], [safe], goal=goal)
    assert judged.verdict == "not_passed"
    assert "at most 0.03 bits beyond the answer, 6.000 reached" in judged.reasons[0]
    assert judge([KEPT], [safe], goal=goal.model_copy(update={"met": True})).verdict == "passed"


def test_a_missed_control_voids_the_audit_but_not_a_leak_that_was_found() -> None:
    safe, read = hidden(gain(0.0, 0.01)), hidden(gain(0.9, 0.02))
    assert judge([KEPT], [safe], controls=[control(passed=True)]).verdict == "passed"
    judged = judge([KEPT], [safe], controls=[control(passed=True), control(passed=False)])
    assert judged.verdict == "no_verdict"
    assert "the audit is void" in judged.reasons[0]
    assert judged.more_images is None
    assert judge([KEPT], [read], controls=[control(passed=False)]).verdict == "not_passed"


def test_exact_leaks_are_judged_alike() -> None:
    """Whatever the gains, an attribute that was counted gets the verdict of one that was attacked."""
    mute = Gain(measure="auc", value=0.5, floor=0.5, clean=0.5)
    ways: tuple[dict[str, Any], ...] = (
        {"declared": True},
        {"declared": False, "asked": True},
        {"declared": False},
    )
    for gains in (
        (gain(0.01, 0.01),),
        (gain(0.06, 0.01),),
        (gain(0.06, 0.05),),
        (gain(0.0, 0.01), gain(0.4, 0.05, "auc")),
        (gain(-0.2, 0.1),),
        (mute,),
        (),
    ):
        for named in ways:
            safe = hidden(gain(0.0, 0.01), name="safe")
            attacked = judge([KEPT], [safe, hidden(*gains, **named)], images=900)
            counted = judge([KEPT], [safe], exact=[leak(*gains, **named)], images=900)
            assert (counted.verdict, counted.more_images) == (attacked.verdict, attacked.more_images)
    assert judge([KEPT], [], exact=[leak(gain(0.01, 0.01))]).verdict == "passed"
    assert judge([KEPT], []).reasons == ("nothing was attacked",)


def test_a_limit_wider_than_the_standard_error_is_read_as_it_stands() -> None:
    """In accuracy a word's limit may be the bootstrap's."""
    wide = gain(-0.01, 0.01).model_copy(update={"upper": 0.09})
    judged = judge([KEPT], [], exact=[leak(wide)], images=1000)
    assert judged.verdict == "no_verdict"
    assert "upper 95 % limit of 9.0%" in judged.reasons[0]
    assert judged.more_images == math.ceil(1000 * (0.09 / 0.08) ** 2) - 1000


def test_every_seed_has_to_pass() -> None:
    good, bad, open_ = Judgement((), ()), Judgement(("tone: leaks",), ()), Judgement((), ("tone: wide",), 70)
    assert over_seeds(good, [(1, good)]).verdict == "passed"
    both = over_seeds(good, [(1, open_), (2, bad)])
    assert both.verdict == "not_passed"
    assert both.reasons == ("seed 2: tone: leaks", "seed 1: tone: wide")
    assert over_seeds(good, [(1, open_)]).more_images == 70


def test_rules_that_make_no_sense_are_refused() -> None:
    assert make_rule(max_nag=0.1, max_nag_upper=0.2).max_nag == 0.1
    with pytest.raises(UsageError, match="below the gain itself"):
        make_rule(max_nag=0.1)
    with pytest.raises(UsageError, match="max_drop"):
        make_rule(max_drop=-1.0)
    stricter = Rule(max_nag=0.01, max_nag_upper=0.02)
    assert judge([KEPT], [hidden(gain(0.015, 0.0001))], stricter).verdict == "not_passed"


# --- simulated audits


def test_no_leak_passes_in_nearly_all_audits() -> None:
    """Twelve useless attackers, 3,500 images. At least 95 % should pass: of 60 audits 57, and 53 or fewer once in 100 times."""
    verdicts = [audit(EVEN, [0.0] * 12, seed=seed)[1].verdict for seed in range(60)]
    assert verdicts.count("passed") >= 54, verdicts
    assert verdicts.count("not_passed") <= 3, verdicts


def test_a_small_leak_that_one_attack_of_many_sees_does_not_pass_by_luck() -> None:
    """NAG 8 %. By validation accuracy another attack won in a fifth of the audits, and they passed."""
    assert nag_of(0.15, EVEN) == pytest.approx(0.08, abs=0.01)
    verdicts, won = [], 0
    for seed in range(40):
        result, judged = audit(EVEN, [0.0] * 20 + [0.15], seed=seed)
        verdicts.append(judged.verdict)
        won += result.best.architecture == "20"
    assert won >= 38
    assert verdicts.count("passed") <= 3, verdicts
    assert verdicts.count("not_passed") >= 35, verdicts


@pytest.mark.parametrize("share", [0.01, 0.03])
@pytest.mark.parametrize("declared", [True, False])
def test_a_rare_class_that_uploads_rank_does_not_pass(share: float, declared: bool) -> None:
    """An attribute that 1 or 3 % of people have, ranked with an AUC of .87; its accuracy gains nothing at all."""
    result, judged = audit(
        (1 - share, share),
        [0.0] * 3 + [1.15],
        declared=declared,
        asked=not declared,
        validation=4000,
        test=4000,
    )
    accuracy = next(one for one in result.gains if one.measure == "accuracy")
    ranked = next(one for one in result.gains if one.measure == "auc")
    assert accuracy.nag is None or accuracy.nag < 0.1
    assert ranked.value > 0.75
    assert judged.verdict == "not_passed"


def test_a_rare_class_without_a_leak_is_no_verdict_on_few_images() -> None:
    judged = audit((0.99, 0.01), [0.0] * 4, validation=4000, test=4000)[1]
    assert judged.verdict == "no_verdict"
    assert judged.more_images is not None
    assert judged.more_images > 1000


def test_a_handful_of_images_of_a_class_is_no_evidence() -> None:
    """Three people of 300 who happen to rank high: called a leak in one audit of seven, and passed in others, without the
    variance that so few images do not show."""
    verdicts = [
        audit((0.99, 0.01), [0.0] * 6, validation=200, test=300, people=3000, seed=seed)[1].verdict
        for seed in range(24)
    ]
    assert verdicts.count("passed") == 0
    assert verdicts.count("not_passed") <= 2


@pytest.mark.parametrize("declared", [True, False])
def test_one_class_of_fifty_that_is_told_does_not_pass(declared: bool) -> None:
    """A mean over the classes moves by a fiftieth of it: no measure of the whole attribute is above the limit."""
    result, judged = audit([0.02] * 50, [0.0, (0.0,) * 49 + (2.5,)], declared=declared, test=5000)
    assert all((one.nag or 0.0) < 0.05 for one in result.gains)
    assert judged.verdict == "not_passed"
    assert "for '49' against the rest" in judged.reasons[0]


def test_classes_without_a_leak_are_seldom_called() -> None:
    """Some are rare, down to a dozen images: one audit in twenty may call any of them."""
    shares = (0.2, 0.2, 0.2, 0.2, 0.1, 0.05, 0.03, 0.01, 0.006, 0.004)
    verdicts = [audit(shares, [0.0] * 2, test=3000, seed=seed)[1].verdict for seed in range(24)]
    assert verdicts.count("not_passed") <= 4, verdicts


def test_an_undeclared_attribute_that_was_read_does_not_pass() -> None:
    judged = audit(EVEN, [3.5], declared=False, asked=True, validation=300, test=300)[1]
    assert judged.verdict == "not_passed"


def test_the_choice_of_the_attack_does_not_flatter_it() -> None:
    """Choosing on test shifts useless attackers upwards; each half judged by the winner of the rest does not."""
    from tests.audit.simulation import Simulation

    own, luckiest = [], []
    for seed in range(30):
        one = Simulation(EVEN, validation=200, test=400, people=4000, seed=seed)
        scored = [one.attacker(0.0, str(number)) for number in range(10)]
        answers = cross_selected(scored, one.test, seed=seed)[1]
        own.append(float(answers.losses(one.test).mean()) - 1)
        luckiest.append(min(float(s.answers.losses(one.test).mean()) for s in scored) - 1)
    assert sum(own) / 30 >= -0.001
    assert sum(luckiest) < sum(own)


def test_every_image_is_answered_by_an_attack_that_was_chosen_without_it() -> None:
    from tests.audit.simulation import Simulation

    one = Simulation(EVEN, validation=50, test=90, people=1000, seed=1)
    scored = [one.attacker(0.4, str(number)) for number in range(5)]
    best, answers = cross_selected(scored, one.test, seed=3)
    losses = [s.answers.losses(one.test) for s in scored]
    import numpy as np

    rows = np.random.default_rng(3).permutation(90)
    for part in np.array_split(rows, PARTS):
        slow = [
            s.validation_loss * s.validation_uploads + sum(loss[i] for i in range(90) if i not in part)
            for s, loss in zip(scored, losses, strict=True)
        ]
        chosen = scored[int(np.argmin(slow))]
        assert np.array_equal(answers.ranking[part], chosen.answers.ranking[part])
    whole = [
        s.validation_loss * s.validation_uploads + loss.sum() for s, loss in zip(scored, losses, strict=True)
    ]
    assert best is scored[int(np.argmin(whole))]


def test_a_number_that_lost_too_much_is_told_in_its_unit() -> None:
    kept = DesiredResult(
        name="age", classes=16, accuracy=0.50, clean_accuracy=0.55, ci95=(0.4, 0.6), guess_error=12.0
    )
    (reason,) = judge([kept], []).failures
    assert reason == "age: error 6 is 0.6 over the clean network's error 5.4; at most 0.18 are allowed"
    assert kept.interval == "error 4.8 - 7.2"
    assert KEPT.interval == "97.0 % - 99.0 %"
