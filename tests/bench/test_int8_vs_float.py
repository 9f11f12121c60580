"""int8 against float, attribute by attribute: the same attacks, not the luckiest ones."""

from pathlib import Path
from typing import Any

import pytest

from sfumato.audit.schema import Audit
from sfumato.bench.int8_vs_float import hidden_changes, kept_change, read_audit
from sfumato.bench.model_variants import best_attacks
from sfumato.core.errors import SfumatoError
from sfumato.core.files import write_json

FIGURES = {"balanced_accuracy": 0.5, "auc": 0.5}


def attribute(name: str, best: float) -> dict[str, Any]:
    winner = {"attack": "probe", "architecture": "cnn", "accuracy": best}
    return {
        **{"name": name, "declared": True, "classes": 2, "majority": 0.4, "label_only": 0.45, "clean": 0.9},
        **{"best": {**winner, **FIGURES, "ci95": [0.4, 0.6]}, "nag_majority": 0.2, "nag_label_only": 0.1},
        **{"leak_bits_lower": 0.0, "nag_majority_ci95": [0, 1], "nag_label_only_ci95": [0, 1]},
        **{"entropy_bits": 1.0, "strongest_on_test": {**winner, "nag_label_only": 0.1}},
    }


def row(name: str, architecture: str, accuracy: float, on: str = "uploads") -> dict[str, Any]:
    return {
        **{"attack": "probe", "architecture": architecture, "lr": 0.003, "attribute": name, "epochs": 3},
        **{"val_accuracy": 0.5, "accuracy": accuracy, **FIGURES, "on": on},
    }


def audit(artifact: str, best: float, rows: list[dict[str, Any]], **given: Any) -> Audit:
    values = {
        **{"schema": "sfumato-audit/1", "artifact": artifact, "n_test": 9, "desired": [], "attacks": rows},
        **{"rate_bits": {"mean": 1, "p95": 1, "max": 1}, "upload_bytes": {"mean": 1, "raw_jpeg90_mean": 1}},
        **{"attributes": [attribute("smiling", best)], "passed": True, "reasons": []},
        **{"plan": "quick", "seed": 0, "dataset": "d"},
    }
    return Audit.model_validate({**values, **given})


INT8 = [row("smiling", "cnn", 0.51), row("smiling", "linear", 0.50), row("smiling", "vit", 0.9)]
FLOAT = [
    row("smiling", "cnn", 0.50),
    row("smiling", "linear", 0.519),
    row("smiling", "cnn", 0.1, "clean images"),
]


def test_the_same_attacks_are_compared() -> None:
    """Mean of cnn (+1 point) and linear (-1.9 points); what only one audit tried, or tried on something else, is left out."""
    (change,) = hidden_changes(audit("int8", 0.6, INT8), audit("float", 0.5, FLOAT))
    assert change.difference == pytest.approx(-0.0045)
    assert change.within
    assert change.sentence == (
        "smiling: int8 -0.45 points, within 0.5 (mean of 2 attacks; best attack 60.0% against 50.0%)"
    )


def test_more_than_half_a_point_is_said() -> None:
    assert not kept_change("a", 0.9, 0.906, 100).within
    assert "more than 0.5" in kept_change("a", 0.9, 0.894, 100).sentence
    assert kept_change("a", 0.9, 0.896, 100).within


@pytest.mark.parametrize("given", [{"seed": 1}, {"plan": "full"}, {"dataset": "e"}])
def test_audits_that_differ_do_not_compare(given: dict[str, Any]) -> None:
    with pytest.raises(SfumatoError, match="the audits do not compare"):
        hidden_changes(audit("int8", 0.6, INT8), audit("float", 0.5, FLOAT, **given))


def test_an_audit_is_taken_only_for_the_model_it_attacked(tmp_path: Path) -> None:
    assert read_audit(tmp_path, "int8") is None
    write_json(tmp_path / "audit.json", audit("int8", 0.6, INT8).to_json())
    found = read_audit(tmp_path, "int8")
    assert best_attacks(found) == {"smiling": 0.6}
    assert read_audit(tmp_path, "float") is None
    assert best_attacks(None) is None
