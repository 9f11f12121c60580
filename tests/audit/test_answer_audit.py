"""`sfumato audit` of answer mode: counted, judged and written."""

from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.audit import audit
from sfumato.audit.plan import QUICK
from sfumato.audit.schema import read_audit
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.training.run import AnswerRun

PLAN = QUICK.model_copy(update={"clean_probes": ("cnn",), "clean_epochs": 1, "steps": 1, "clean_steps": 1})


def test_an_answer_is_counted_and_not_attacked(answer_run: AnswerRun, tmp_path: Path) -> None:
    result = audit(answer_run, PLAN, attributes=["smiling", "skin"], out=tmp_path)
    assert {one.input for one in result.attacks} == {"clean images"}
    assert result.attributes == ()
    assert [one.attribute for one in result.exact] == ["smiling", "skin"]
    assert [one.declared for one in result.exact] == [True, False]
    assert [one.asked for one in result.exact] == [True, True]
    assert result.rate_bits.max == result.rate_bits.mean == 3
    assert result.upload_bytes.mean == 1
    assert {one.name: one.accuracy for one in result.desired} == pytest.approx(
        answer_run.card["desired_accuracy"]
    )
    for one in result.exact:
        card = answer_run.card["leak"][one.attribute]
        assert one.accuracy == pytest.approx(card["accuracy"])
        assert one.floor == pytest.approx(card["label_only"])
        assert [gain.measure for gain in one.gains] == ["accuracy", "balanced_accuracy", "auc", "information"]
        assert one.bits == pytest.approx(card["information_bits"])
        assert one.nag_upper > one.nag
    assert result.verdict == "not_passed"  # an untrained network answers badly
    assert read_audit(tmp_path / "audit.json") == result
    assert "one of 8 words" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_kept_cannot_be_asked_for(answer_run: AnswerRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="glasses"):
        audit(answer_run, PLAN, attributes=["glasses"], out=tmp_path)


@pytest.mark.parametrize("content", ["{}", "my notes", '{"schema": "sfumato-bench/1"}'])
def test_only_an_audit_is_replaced_by_an_audit(answer_run: AnswerRun, tmp_path: Path, content: str) -> None:
    (tmp_path / "audit.json").write_text(content, encoding="utf-8")
    with pytest.raises(SfumatoError, match="is no result of this command: move it"):
        audit(answer_run, PLAN, attributes=["smiling"], out=tmp_path)
    assert (tmp_path / "audit.json").read_text(encoding="utf-8") == content


def test_a_randomised_answer_is_judged_by_expected_counts(
    drawn_run: AnswerRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = '{"schema": "sfumato-audit/2", "date": "2026-01-02"}'
    (tmp_path / "audit.json").write_text(old, encoding="utf-8")
    result = audit(replace(drawn_run), PLAN, attributes=["smiling"], out=tmp_path, folds=3)
    said = " ".join(capsys.readouterr().err.split())  # a console wraps
    assert "folds and artifacts change nothing in answer mode" in said
    assert "replaces the audit of 2026-01-02 in" in said
    assert result.exact[0].accuracy == pytest.approx(drawn_run.card["leak"]["smiling"]["accuracy"])
    assert result.exact[0].bits < 0.2
