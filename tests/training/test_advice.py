"""The rule that chooses a mode: figures of the cases that it was made for, and its edges."""

from dataclasses import replace

import pytest

from sfumato.training.advice import Figures, Hidden, Limits, OnPhone, reaches, recommend

SMALL = OnPhone(macs=13_300_000, instructions={"cortex-a53": 5e6, "cortex-a76": 1.3e6}, bytes=100_000)
LARGE = OnPhone(macs=4_000_000_000, instructions={"cortex-a53": 1.5e9, "cortex-a76": 0.4e9}, bytes=25_000_000)


def one(phone: float, cloud: float, **more: object) -> Figures:
    return replace(Figures(classes={"a": 2}, phone={"a": phone}, cloud={"a": cloud}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("classes", "phone", "cloud", "mode"),
    [
        (2, 0.872, 0.880, "answer"),  # gender
        (5, 0.616, 0.625, "answer"),  # age bands
        (10, 0.651, 0.80, "picture"),  # CIFAR-10
        (2, 0.90, 0.85, "answer"),  # the phone is better
    ],
)
def test_the_cases_it_was_made_for(classes: int, phone: float, cloud: float, mode: str) -> None:
    figures = Figures(classes={"a": classes}, phone={"a": phone}, cloud={"a": cloud})
    assert recommend(figures).mode == mode


def test_the_limit_is_points_of_the_worst_attribute() -> None:
    assert recommend(one(0.885, 0.9)).mode == "answer"  # 1.5 points, and floats do not decide
    assert recommend(one(0.8849, 0.9)).mode == "picture"
    assert recommend(one(0.8849, 0.9), Limits(drop=2)).mode == "answer"
    two = Figures(classes={"a": 2, "b": 3}, phone={"a": 0.95, "b": 0.7}, cloud={"a": 0.9, "b": 0.75})
    assert not reaches(two.phone, two.cloud)  # the mean is within the limit, b is not
    advice = recommend(two)
    assert advice.mode == "picture"
    assert "70.0 % against 75.0 % of the clean cloud network for b" in advice.reasons[0]


def test_an_alphabet_of_two_bytes_is_the_largest() -> None:
    figures = Figures(classes={"a": 256, "b": 256}, phone={"a": 1, "b": 1}, cloud={"a": 1, "b": 1})
    assert recommend(figures).mode == "answer"
    advice = recommend(replace(figures, classes={"a": 256, "b": 257}))
    assert advice.mode == "picture"
    assert "65,792 possible answers" in advice.reasons[0]


def test_a_network_that_fits_the_phone_needs_no_cloud() -> None:
    advice = recommend(one(0.6, 0.8, on_phone=SMALL))
    assert (advice.mode, advice.network, advice.train_mode) == ("phone", "clean", "picture")
    assert (
        "13.3 million multiply-accumulates, 5.0 million instructions on cortex-a53 (estimated)"
        in advice.reasons[1]
    )
    assert "(counted)" in recommend(one(0.6, 0.8, on_phone=replace(SMALL, counted=True))).reasons[1]


@pytest.mark.parametrize(("field", "limit"), [("instructions", 4.9e6), ("bytes", 99_999)])
def test_either_limit_keeps_it_in_the_cloud(field: str, limit: float) -> None:
    assert recommend(one(0.6, 0.8, on_phone=SMALL), replace(Limits(), **{field: limit})).mode == "picture"


def test_a_larger_network_of_the_phone_comes_before_uploads() -> None:
    advice = recommend(one(0.6, 0.8, on_phone=LARGE, larger={"a": 0.79}))
    assert (advice.mode, advice.network) == ("phone", "larger")
    advice = recommend(one(0.6, 0.8, on_phone=LARGE, larger={"a": 0.7}))
    assert (advice.mode, advice.network) == ("picture", None)
    assert "ten times its cost does not suffice either" in advice.reasons[1]
    assert "too large for the phone" in advice.reasons[2]


def test_a_phone_that_suffices_comes_before_all() -> None:
    advice = recommend(one(0.79, 0.8, on_phone=SMALL, larger={"a": 0.8}))
    assert (advice.mode, advice.network, advice.train_mode) == ("answer", None, "answer")
    assert "2 possible answers" in advice.reasons[1]
    assert "at most 1 bit says" in advice.reasons[1]


def test_what_the_answer_tells_is_said() -> None:
    skin = Hidden(name="skin", majority=0.4, label_only=0.405, clean=0.9)
    beard = Hidden(name="beard", majority=0.6, label_only=0.8, clean=0.95)
    assert "less than a point" in recommend(one(0.9, 0.9, hidden=(skin,))).reasons[2]
    assert "beard 80.0 % instead of 60.0 %" in recommend(one(0.9, 0.9, hidden=(skin, beard))).reasons[2]
    assert len(recommend(one(0.9, 0.9)).reasons) == 2


def test_cautions() -> None:
    blank = Hidden(name="mood", majority=0.5, label_only=0.55, clean=0.555)
    (caution,) = recommend(one(0.9, 0.9, hidden=(blank,))).cautions
    assert "mood" in caution
    assert "floor 55.0 %" in caution
    (caution,) = recommend(one(0.51, 0.505, majority={"a": 0.5})).cautions
    assert "no better than the most frequent class" in caution
    assert recommend(one(0.9, 0.9, majority={"a": 0.5})).cautions == ()
