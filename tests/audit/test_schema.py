"""audit.json of this release and of the one before. `data/audit-1.json` was written by sfumato 0.1."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sfumato.audit.attacks import ATTACKS, create
from sfumato.audit.schema import (
    OLD_ATTACKS,
    OLD_WORDS,
    SCHEMA,
    Audit,
    InformationBounds,
    Reidentification,
    read_audit,
)
from sfumato.core.errors import SfumatoError
from sfumato.core.files import write_json

OLD = Path(__file__).with_name("data") / "audit-1.json"


def numbers(value: Any) -> list[Any]:
    """All numbers of a JSON value, in order."""
    if isinstance(value, dict):
        return [n for key in value if key != "schema" for n in numbers(value[key])]
    if isinstance(value, list):
        return [n for inner in value for n in numbers(inner)]
    return [value] if isinstance(value, int | float) else []


def test_a_file_of_schema_1_is_read_with_all_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    raw = json.loads(OLD.read_text(encoding="utf-8"))
    audit = read_audit(OLD)
    assert "sfumato-audit/1" in capsys.readouterr().err
    assert audit.schema_ == SCHEMA
    written = numbers(audit.to_json())
    for figure in numbers(raw):
        written.remove(figure)
    assert not any(written), "besides the figures of the file only flags that are off"
    assert audit.information_bounds is not None
    assert audit.information_bounds.residual == raw["information_bits"]["beyond"]
    assert audit.n_attack_test == raw["n_attacked"]
    assert [one.input for one in audit.attacks] == [row["on"] for row in raw["attacks"]]
    (skin,) = audit.attributes
    assert skin.decision_only is not None
    assert skin.decision_only.accuracy == raw["attributes"][0]["answer_only"]["accuracy"]
    assert (skin.best.attack, skin.best.architecture) == ("posterior", "posterior, augmented")
    assert [one.method for one in audit.reconstructions] == [one["restorer"] for one in raw["restored"]]
    assert audit.seed_spread[0].accuracy.values == tuple(raw["over_seeds"][0]["accuracy"]["values"])
    assert {one.attack for one in audit.attacks} <= {*ATTACKS, "ensemble"}
    assert ("output", "decision") in {(one.attack, one.architecture) for one in audit.attacks}


def test_what_is_written_holds_todays_words_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit = read_audit(OLD)
    write_json(tmp_path / "audit.json", audit.to_json())
    capsys.readouterr()
    assert read_audit(tmp_path / "audit.json") == audit
    assert capsys.readouterr().err == ""
    written = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    assert not keys(written) & {old for words in OLD_WORDS.values() for old in words}
    assert not {row["attack"] for row in written["attacks"]} & OLD_ATTACKS.keys()


def test_old_words_that_the_old_file_happens_to_lack() -> None:
    bounds = InformationBounds.model_validate({"total": 9.0, "answer": 1.0, "beyond": 8.0, "context": 5.0})
    assert (bounds.residual, bounds.autoregressive, bounds.tightest) == (8.0, 5.0, 5.0)
    old = {"persons": 2, "queries": 3, "clean": 1.0, "restored": 0.5, "likelihood": 0.25}
    assert Reidentification.model_validate(old).reconstructed == 0.5
    raw = json.loads(OLD.read_text(encoding="utf-8"))
    raw["attacks"][0] |= {"attack": "bayes", "architecture": "posterior or posterior, with versions"}
    assert Audit.model_validate(raw).attacks[0].architecture == "posterior or posterior, augmented"


def test_what_is_no_audit_is_refused(tmp_path: Path) -> None:
    raw = json.loads(OLD.read_text(encoding="utf-8"))
    for change, word in (({"schema": "sfumato-audit/4"}, "schema"), ({"surprise": 1}, "surprise")):
        broken = copy.deepcopy(raw) | change
        write_json(tmp_path / "audit.json", broken)
        with pytest.raises(SfumatoError, match=f"is no audit: {word}"):
            read_audit(tmp_path / "audit.json")


def test_an_attack_under_its_old_name_runs_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert create("bayes") is ATTACKS["posterior"]
    assert "'posterior'" in capsys.readouterr().err
