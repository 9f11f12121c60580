"""The whole audit on artifacts whose answer is known: raw, silent, and with one planted bit."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato.audit
from sfumato.audit import audit
from sfumato.audit.plan import DEFAULT, QUICK
from sfumato.audit.schema import Audit, read_audit
from sfumato.audit.stored import FOLDER
from sfumato.cli.audit import show_audit
from sfumato.core.errors import DataError, UsageError
from sfumato.core.files import read_json
from sfumato.core.provenance import own_version
from sfumato.models.cloud import ResNet

SHORT = {"steps": 1, "clean_steps": 1, "prior_steps": 10}
"""Without them an attacker, a network on clean photos and the prior take some hundred steps."""
Audited = Callable[[str], tuple[Audit, Path]]
BLIND = {"label-only", "majority"}


def uploads(audit: Audit) -> list[Any]:
    return [row for row in audit.attacks if row.input == "uploads"]


def test_raw_uploads_give_the_probe_what_clean_images_give(audited: Audited) -> None:
    audit, _ = audited("clean")
    (tone,) = audit.attributes
    assert tone.clean > 0.95
    probes = [row.accuracy for row in uploads(audit) if row.attack == "probe"]
    assert max(probes) > tone.clean - 0.04
    assert tone.best.accuracy > tone.clean - 0.04
    assert tone.nag_label_only > 0.9
    assert tone.leak_bits_lower > 0.7
    assert not audit.passed
    assert any(reason.startswith("tone:") for reason in audit.reasons)


@pytest.mark.parametrize(
    ("attack", "architecture"),
    [
        ("probe", "linear"),
        ("probe", "cnn"),
        ("probe", "mobilenet"),
        ("provider", "finetune"),
        ("provider", "stage 0, 4x4"),
        ("posterior", None),
        ("ensemble", None),
    ],
)
def test_every_attack_finds_a_planted_bit(audited: Audited, attack: str, architecture: str | None) -> None:
    audit, _ = audited("planted")
    found = [
        row
        for row in uploads(audit)
        if row.attack == attack and (architecture is None or row.architecture == architecture)
    ]
    assert found
    assert max(row.accuracy for row in found) > 0.9


def test_pure_noise_leaves_every_attack_at_chance(audited: Audited) -> None:
    audit, _ = audited("noise")
    (tone,) = audit.attributes
    assert audit.rate_bits.max == 0
    chance = max(tone.majority, 0.5)
    # Three standard errors of 500 test images, and something for the best of two dozen attacks.
    assert max(row.accuracy for row in uploads(audit)) < chance + 0.09
    assert tone.leak_bits_lower < 0.02
    assert tone.nag_label_only < 0.12
    assert all(abs(row.auc - 0.5) < 0.09 for row in uploads(audit))


def test_leak_bounds_do_not_cross(audited: Audited) -> None:
    for kind in ("clean", "planted", "noise"):
        audit, _ = audited(kind)
        assert all(a.leak_bits_lower <= a.entropy_bits + 1e-9 for a in audit.attributes)
    audit, _ = audited("noise")
    assert audit.attributes[0].leak_bits_lower <= audit.rate_bits.mean + 0.02


def test_the_written_file_is_the_audit(audited: Audited) -> None:
    audit, folder = audited("planted")
    raw = read_json(folder / "audit.json")
    assert Audit.model_validate(raw) == audit
    assert raw["schema"] == "sfumato-audit/3"
    assert (raw["verdict"], raw["passed"]) == ("not_passed", False)
    assert raw["rule"] == {"max_drop": 0.015, "max_nag": 0.05, "max_nag_upper": 0.08}
    assert raw["artifact"] == "float"
    assert raw["n_test"] == 500
    for key in ("name", "declared", "classes", "majority", "label_only", "clean", "best", "nag_majority"):
        assert key in raw["attributes"][0]
    row = {"attack", "architecture", "lr", "attribute", "epochs", "val_accuracy", "accuracy", "auc"}
    assert row <= raw["attacks"][0].keys()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    json.dumps(raw, allow_nan=False)


def test_the_public_names_are_loaded_when_they_are_used() -> None:
    """The command line imports this package: by itself it must stay light."""
    code = (
        "import sys, sfumato.audit as a; assert 'torch' not in sys.modules; assert 'numpy' not in sys.modules; "
        "print(*(getattr(a, name).__module__ for name in a.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = ("artifact", "schema", "runner", "artifact")
    assert done.stdout.split() == [f"sfumato.audit.{name}" for name in modules]
    with pytest.raises(AttributeError, match="no attribute 'verdict'"):
        sfumato.audit.verdict  # noqa: B018


def test_desired_accuracy_is_what_the_cloud_does_with_the_uploads(make: Any, audited: Audited) -> None:
    audit, _ = audited("clean")
    (desired,) = audit.desired
    assert desired.clean_accuracy == 0.99
    assert desired.ci95[0] <= desired.accuracy <= desired.ci95[1]
    assert desired.accuracy < 0.9, "the cloud of these tests is untrained"
    assert any(reason.startswith("shape: accuracy") for reason in audit.reasons)


def test_the_same_seed_gives_the_same_audit(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    plan = QUICK.model_copy(
        update={
            "probes": ("linear",),
            "clean_probes": ("linear",),
            "provider_rates": (),
            "epochs": 2,
            **SHORT,
        }
    )
    one, two = (audit(make("planted"), attacks=plan, seed=3) for _ in range(2))
    # The second finds what the first has kept, and says so; nothing else differs.
    assert one.provenance.pop("clean_references_from_store") == []
    assert two.provenance.pop("clean_references_from_store") == ["clean linear on tone"]
    same = {"seconds": 0.0, "date": ""}
    assert one.model_copy(update=same) == two.model_copy(update=same)


def test_what_the_decision_alone_tells_is_set_apart(make: Any) -> None:
    plan = QUICK.model_copy(
        update={
            "attacks": ("floor", "clean", "output"),
            "clean_probes": ("linear",),
            "clean_epochs": 2,
            **SHORT,
        }
    )
    artifact = make("noise", coupled=0.8)
    tone = audit(artifact, attacks=plan).attributes[0]
    assert tone.decision_only is not None
    # This cloud knows nothing, so its decision tells less than the true label does: the floor is the better of both.
    assert tone.decision_only.accuracy < tone.label_only
    scale = max(tone.clean - tone.label_only, 0.01)
    assert tone.decision_only.nag == pytest.approx((tone.best.accuracy - tone.label_only) / scale)
    without = audit(artifact, attacks=plan.model_copy(update={"attacks": ("floor", "clean", "posterior")}))
    assert without.attributes[0].decision_only is None


def test_label_only_floor_counts_what_the_desired_label_tells(make: Any) -> None:
    plan = QUICK.model_copy(
        update={
            "attacks": ("floor", "clean", "posterior"),
            "clean_probes": ("linear",),
            "clean_epochs": 2,
            **SHORT,
        }
    )
    artifact = make("noise", coupled=0.8)
    tone = audit(artifact, attacks=plan).attributes[0]
    labels, splits = artifact.dataset.labels, artifact.dataset.splits
    people = np.concatenate([splits["defender"], splits["attacker"]])
    slow = float(np.mean(labels["shape"][people] == labels["tone"][people]))
    assert slow > 0.85
    assert tone.label_only == pytest.approx(slow)
    assert tone.majority < 0.6
    assert tone.nag_label_only <= 0


@pytest.mark.parametrize(
    ("attributes", "attacks", "error", "words"),
    [
        (["hat"], "quick", DataError, "tone"),
        (["shape"], "quick", UsageError, "shape is what the cloud is meant to recognise"),
        (None, "fast", UsageError, "quick, default, full"),
    ],
)
def test_wrong_use_is_said_before_any_work(
    make: Any, attributes: list[str] | None, attacks: str, error: type[Exception], words: str
) -> None:
    artifact = make("noise")
    with pytest.raises(error, match=words):
        audit(artifact, attacks=attacks, attributes=attributes)
    assert list(artifact.folder.iterdir()) == []


def test_where_everything_is_kept_bounds_are_measured_and_nothing_passes(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = replace(
        make("planted"),
        keep=("shape", "tone"),
        hide=(),
        cloud=ResNet({"shape": 2, "tone": 2}, widths=(8, 8, 16)).eval(),
        clean_accuracy={"shape": 0.0, "tone": 0.0},
    )
    result = audit(artifact, attacks=DEFAULT.model_copy(update=SHORT), seeds=2, folds=2)
    assert (result.attributes, result.attacks, result.seed_spread) == ((), (), ())
    assert [one.name for one in result.desired] == ["shape", "tone"]
    assert result.information_bounds is not None
    assert result.information_bounds.total > 0.9  # uploads of this artifact tell the tone
    assert not result.passed
    assert (result.verdict, result.reasons) == ("no_verdict", ("nothing was attacked",))
    page = (artifact.folder / "report.html").read_text(encoding="utf-8")
    assert "Nothing was attacked" in page
    assert "The best attack" not in page
    show_audit(result)
    shown = capsys.readouterr().out
    assert "an upload tells at most" in shown
    assert "no verdict: nothing was attacked" in shown
    assert "NAG" not in shown


def test_an_interrupted_audit_leaves_its_finished_steps_alone(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, plan = make("noise"), QUICK.model_copy(update={**SHORT, "clean_epochs": 1})

    def stop(done: int, total: int, title: str, best: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(artifact, attacks=plan, watch=stop)
    assert [path.name for path in artifact.folder.iterdir()] == [FOLDER]
    assert "--resume" not in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        audit(artifact, attacks=plan, watch=stop)
    assert "--resume would have kept them" in " ".join(capsys.readouterr().err.split())


def test_the_audit_names_the_version_that_made_it(audited: Audited) -> None:
    audit, folder = audited("noise")
    assert audit.provenance["sfumato"] == own_version()
    assert read_audit(folder / "audit.json").provenance == audit.provenance
