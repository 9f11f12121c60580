"""The contract of an answer, and what its parts promise one another."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.contract import Contract, parse_contract

STATES = (3 * 2 * 3) * (2 * 1 * 3)
"""Two attributes of three and two classes: first choice, second choice, one of three bins each."""


def file(name: str, size: int, role: str = "phone") -> dict[str, Any]:
    return {"name": name, "sha256": "0" * 64, "bytes": size, "role": role}


def answer() -> dict[str, Any]:
    """contract.json of a randomised answer to two questions, 40 x 32 pixels."""
    image = {"name": "image", "shape": [1, 40, 32, 3], "range": [0, 1], "int8_scale": 1 / 255}
    scores = {"name": "scores", "shape": [1, 1, 1, 5], "range": [-9, 8], "int8_scale": 0.07}
    return {
        "schema": "sfumato-contract/2",
        "mode": "answer",
        "files": [
            file("local_int8.tflite", 9),
            file("answer_table.bin", 4 * STATES * 6),
            file("cloud.onnx", 9),
        ],
        "input": image | {"int8_zero_point": -128},
        "outputs": [scores | {"int8_zero_point": 3}],
        "models": [{"variant": "int8", "file": "local_int8.tflite", "input": "int8", "output": "int8"}],
        "channel": {"name": "answer", "levels": 2},
        "sampler": 1,
        "noise": 2,
        "upload": {
            "encoding": "word",
            "bit_depth": 1,
            "colour": "grey, planes red, green, blue one below the other",
            "width": 32,
            "height": 120,
        },
        "keep": [{"name": "age", "classes": ["a", "b", "c"]}, {"name": "glasses", "classes": ["no", "yes"]}],
        "hide": ["smiling"],
        "answer": {
            "words": 6,
            "image_code": 1,
            "margins": [4, 20],
            "table": "answer_table.bin",
            "entropy_bits": 2.5,
        },
        "goal": {"target_bits": 3, "reached_bits": 2.5, "beyond_reached_bits": -0.01, "met": True},
        "cost": {},
        "gates": [],
        "figures": {},
        "conversion": {},
        "provenance": {},
    }


def point(strength: int) -> dict[str, Any]:
    """What a contract says of a strength."""
    return {
        "strength": strength,
        "accuracy": {"age": 0.9, "glasses": 0.8},
        "rate_bits": {"mean": 40.5, "p95": 60, "max": 70},
        "upload_bytes": {"png": 500.5, "packed": 480},
    }


def picture() -> dict[str, Any]:
    """contract.json of picture mode with three points, 40 x 32 pixels."""
    values = answer()
    p = {
        "name": "p",
        "shape": [1, 40, 32, 3],
        "range": [0, 1],
        "int8_scale": 1 / 256,
        "int8_zero_point": -128,
    }
    values |= {"mode": "picture", "outputs": [p], "points": [point(128), point(64), point(1)]}
    values["channel"].update(name="dither", gates=True)
    values["upload"].update(encoding="png")
    values.pop("answer")
    return values


def read(values: dict[str, Any]) -> Contract:
    return parse_contract(json.dumps(values).encode())


def test_an_answer_reads_and_writes_itself() -> None:
    contract = read(answer())
    assert contract.classes == (3, 2)
    assert contract.answer is not None
    assert contract.answer.states(contract.classes) == STATES
    assert contract.channel.bits == 1
    assert contract.goal is not None
    assert (contract.goal.target_bits, contract.goal.beyond_target_bits) == (3, None)
    assert parse_contract(contract.to_json().encode()) == contract


def test_what_is_left_out_may_also_be_null() -> None:
    values = answer() | {"goal": None}
    values["answer"].update(margins=[], table=None)
    values["files"].pop(1)
    assert read(values).answer == read({k: v for k, v in values.items() if k != "goal"}).answer


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "mode": (lambda v: v.update(mode="picture"), "do not belong to the mode picture"),
    "no mode": (lambda v: v.pop("mode"), "mode"),
    "unknown mode": (lambda v: v.update(mode="both"), "mode"),
    "no answer": (lambda v: v.pop("answer"), "do not belong to the mode answer"),
    "channel": (lambda v: v["channel"].update(name="dither"), "do not belong to the mode answer"),
    "levels": (lambda v: v["channel"].update(levels=4), "two levels"),
    "encoding": (lambda v: v["upload"].update(encoding="png"), "do not belong to the mode answer"),
    "scores": (lambda v: v["outputs"][0].update(shape=[1, 1, 1, 6]), "do not belong to the channel"),
    "tall scores": (lambda v: v["outputs"][0].update(shape=[1, 16, 1, 5]), "one value a class"),
    "many scores": (lambda v: v["outputs"][0].update(shape=[1, 1, 1, 4097]), "less than or equal to 4096"),
    "scale": (lambda v: v["outputs"][0].update(int8_scale=0), "positive scale"),
    "small picture": (lambda v: v["input"].update(shape=[1, 15, 32, 3]), "at least 16 pixels"),
    "planes": (lambda v: v["input"].update(shape=[1, 40, 32, 13]), "12 planes at most"),
    "words": (lambda v: v["answer"].update(words=7), "7 words do not belong to"),
    "one word": (lambda v: v["answer"].update(words=1), "greater than or equal to 2"),
    "too many words": (lambda v: v["answer"].update(words=65537), "less than or equal to 65536"),
    "image code": (lambda v: v["answer"].update(image_code=2), "image_code"),
    "margins": (lambda v: v["answer"].update(margins=[20, 4]), "do not increase"),
    "equal margins": (lambda v: v["answer"].update(margins=[4, 4]), "do not increase"),
    "no margin": (lambda v: v["answer"].update(margins=[0, 4]), "greater than or equal to 1"),
    "margins alone": (lambda v: v["answer"].update(table=None), "belong to a table"),
    "more margins": (lambda v: v["answer"].update(margins=[4, 5, 6]), "must have"),
    "unlisted table": (lambda v: v["answer"].update(table="other.bin"), "does not list other.bin"),
    "table of another size": (lambda v: v["files"][1].update(bytes=4 * STATES * 6 - 4), "must have"),
    "entropy": (lambda v: v["answer"].update(entropy_bits=math.log2(6) + 0.01), "bits of entropy"),
    "repeated class": (lambda v: v["keep"][0].update(classes=["a", "b", "a"]), "'a' of age is listed twice"),
    "repeated attribute": (lambda v: v["hide"].append("age"), "age"),
    "negative entropy": (lambda v: v["answer"].update(entropy_bits=-1), "greater than or equal to 0"),
    "goal": (lambda v: v["goal"].pop("met"), "met"),
    "drop": (lambda v: v["goal"].update(max_drop=2), "less than or equal to 1"),
    "unknown goal": (lambda v: v["goal"].update(wish=1), "Extra inputs"),
}


@pytest.mark.parametrize("name", EDITS)
def test_contradictions_are_refused(name: str) -> None:
    change, expected = EDITS[name]
    values = answer()
    change(values)
    with pytest.raises(SfumatoError, match=expected):
        read(values)


def test_version_1_is_refused_with_the_reason_and_a_way_out() -> None:
    with pytest.raises(SfumatoError, match="repeats between releases") as caught:
        read(answer() | {"schema": "sfumato-contract/1"})
    assert "export the run again with this version" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_points_read_and_write_themselves() -> None:
    contract = read(picture())
    assert contract.strengths == (128, 64, 1)
    assert contract.points is not None
    assert contract.points[1].rate_bits.mean == 40.5
    assert parse_contract(contract.to_json().encode()) == contract
    contract.check_strength(64)
    with pytest.raises(UsageError, match=r"no point of strength 65: it has 128, 64, 1$"):
        contract.check_strength(65)


def test_a_contract_without_points_has_one_strength() -> None:
    values = picture()
    values.pop("points")
    contract = read(values)
    assert (contract.points, contract.strengths) == (None, ())
    assert contract == read(values | {"points": None})
    assert "points" not in contract.to_json()
    with pytest.raises(UsageError, match="one strength alone: leave 128 out"):
        contract.check_strength(128)


POINTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no point": (lambda v: v.update(points=[]), "not none"),
    "weaker first": (lambda v: v["points"].pop(0), "not 64, 1"),
    "equal points": (lambda v: v["points"][2].update(strength=64), "not 128, 64, 64"),
    "rising points": (lambda v: v["points"].reverse(), "not 1, 64, 128"),
    "strength 0": (lambda v: v["points"][2].update(strength=0), "greater than or equal to 1"),
    "strength 129": (lambda v: v["points"][0].update(strength=129), "less than or equal to 128"),
    "half a strength": (lambda v: v["points"][1].update(strength=64.5), "strength"),
    "another attribute": (lambda v: v["points"][1].update(accuracy={"age": 1}), "of the kept attributes"),
    "accuracy": (lambda v: v["points"][1]["accuracy"].update(age=90), "less than or equal to 1"),
    "no rate": (lambda v: v["points"][1]["rate_bits"].pop("mean"), "mean"),
    "unknown size": (lambda v: v["points"][1]["upload_bytes"].update(jpeg=1), "Extra inputs"),
    "unknown key": (lambda v: v["points"][1].update(colour=1), "Extra inputs"),
    "gaussian": (
        lambda v: v.update(
            channel={"name": "gaussian", "additive": False, "largest_scale": 0.5, "reference_scale": 0.3},
            outputs=[v["outputs"][0] | {"name": name} for name in ("mean", "scale")],
            upload={"encoding": "png", "bit_depth": 8, "colour": "rgb", "width": 32, "height": 40},
        ),
        "points belong to the channel dither, not gaussian",
    ),
}


@pytest.mark.parametrize("name", POINTS)
def test_points_that_cannot_be_are_refused(name: str) -> None:
    change, expected = POINTS[name]
    values = picture()
    change(values)
    with pytest.raises(SfumatoError, match=expected):
        read(values)


def test_an_answer_has_no_points() -> None:
    with pytest.raises(SfumatoError, match="points belong to the channel dither, not answer"):
        read(answer() | {"points": [point(128)]})


def subsampled() -> dict[str, Any]:
    """contract.json of picture mode in which a sample stands for 2 x 2 pixels: 40 x 32 samples of 80 x 64 pixels."""
    values = picture()
    values["channel"] = {"name": "dither", "levels": 2, "subsample": 2}
    values["input"]["shape"] = [1, 80, 64, 3]
    return values


SUBSAMPLED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "side of 3": (lambda v: v["channel"].update(subsample=3), "subsample"),
    "side of 1": (lambda v: v["channel"].update(subsample=1), "subsample"),
    "half a side": (lambda v: v["channel"].update(subsample=2.5), "subsample"),
    "other side": (lambda v: v["channel"].update(subsample=4), "do not belong to the channel"),
    "no side": (lambda v: v["channel"].pop("subsample"), "do not belong to the channel"),
    "with gates": (lambda v: v["channel"].update(gates=True), "gates close blocks of pixels"),
    "half a square": (lambda v: v["input"].update(shape=[1, 80, 65, 3]), "no whole number"),
    "large output": (lambda v: v["outputs"][0].update(shape=[1, 80, 64, 3]), "do not belong to the channel"),
    "large upload": (lambda v: v["upload"].update(width=64), "size or bit depth"),
}


def test_a_smaller_upload_reads_and_writes_itself() -> None:
    contract = read(subsampled())
    assert (contract.size, contract.upload_size) == ((80, 64), (40, 32))
    assert parse_contract(contract.to_json().encode()) == contract
    assert contract.channel.settings == {"levels": 2, "subsample": 2}
    assert read(picture()).upload_size == (40, 32)


@pytest.mark.parametrize("name", SUBSAMPLED)
def test_smaller_uploads_that_cannot_be_are_refused(name: str) -> None:
    values = subsampled()
    change, problem = SUBSAMPLED[name]
    change(values)
    with pytest.raises(SfumatoError, match=problem):
        read(values)


def test_only_dither_has_smaller_uploads() -> None:
    values = answer()
    values["channel"]["subsample"] = 2
    with pytest.raises(SfumatoError, match="belong to dither"):
        read(values)


@pytest.mark.parametrize(("scale", "zero"), [(1 / 255, 0), (8 / 255, -128), (1 / 256, -128), (4 / 255, 0)])
def test_an_image_that_pixels_cannot_be_is_refused(scale: float, zero: int) -> None:
    values = picture()
    for known, middle in ((1 / 255, -128), (8 / 255, 0)):
        values["input"].update(int8_scale=known, int8_zero_point=middle)
        assert read(values).input.int8_scale == known
    values["input"].update(int8_scale=scale, int8_zero_point=zero)
    with pytest.raises(SfumatoError, match="none that pixels can have"):
        read(values)
