"""Seeds and folds of an audit as tasks: without Ray piece by piece, and on a cluster of this machine (`make test-ray`)."""

import json
import os
import secrets
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.audit.conftest import FUNCTIONS, SmallArtifact, dataset
from tests.audit.test_screening import TINY

from sfumato.audit import audit, runner
from sfumato.audit.cluster import FoldJob, FoldOutcome, FoldPart, attack_on_ray
from sfumato.audit.stored import FOLDER
from sfumato.core.cluster import LOCAL
from sfumato.core.errors import SfumatoError, UsageError

RAY = find_spec("ray") is not None
PLAN = TINY.model_copy(update={"probes": ("linear",), "clean_probes": ("linear",), "finetune": False})


def small(folder: Path) -> SmallArtifact:
    return SmallArtifact(folder, dataset(), FUNCTIONS["planted"])


class SmallJob(FoldJob):
    """With the artifact of these tests; the process of the first fold dies once, when it is done."""

    def artifact(self) -> Any:
        return small(self.folder)

    def run(self, part: FoldPart) -> FoldOutcome:
        found = super().run(part)
        fallen = self.folder / "fallen"
        if os.environ.get("OMP_NUM_THREADS") == "1" and not fallen.exists():
            fallen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def figures(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    changing = {"seconds", "date", "provenance", "command"}
    return {key: value for key, value in result.items() if key not in changing}


@pytest.fixture(autouse=True)
def small_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "load", lambda folder, **_: small(folder))
    monkeypatch.setattr(runner, "FoldJob", SmallJob)


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


@pytest.mark.skipif(RAY, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pip install ray=="):
        audit(tmp_path, PLAN, ray=LOCAL)
    assert list(tmp_path.iterdir()) == []


def test_folds_that_others_attacked_are_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tasks do, in this process: each fold by itself, in the order in which a cluster can begin them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "none falls")
    here, there = folder(tmp_path, "here"), folder(tmp_path, "there")
    audit(here, PLAN, folds=2)
    begun: list[str] = []

    def one_by_one(address: str, work: Any, parts: Any, *, what: str, further: Any) -> Any:
        waiting = list(parts)
        while waiting:
            part = waiting.pop(0)
            begun.append(str(part))
            outcome = work(part)
            waiting += further(part, outcome)
            yield part, outcome

    monkeypatch.setattr("sfumato.audit.cluster.on_ray", one_by_one)
    monkeypatch.setattr(runner, "check_ray", lambda: None)
    found = audit(there, PLAN, folds=2, ray=LOCAL)
    assert begun == ["seed 0, fold 1", "seed 0, fold 2"]
    assert figures(there) == figures(here)
    assert found.folds == 2
    with pytest.raises(UsageError, match="give its folder"):
        audit(small(there), PLAN, ray=LOCAL)


def test_files_that_are_not_here_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(address: str, work: Any, parts: Any, **_: Any) -> Any:
        yield parts[0], FoldOutcome(PLAN, "0" * 32)

    monkeypatch.setattr("sfumato.audit.cluster.on_ray", elsewhere)
    job = FoldJob(tmp_path, None, None, None, 2, tmp_path, True)  # type: ignore[arg-type]
    with pytest.raises(SfumatoError, match="every node has to see this folder"):
        attack_on_ray("auto", job, PLAN, (3,), lambda *_: None)


@pytest.mark.slow
@pytest.mark.skipif(not RAY, reason="Ray is not installed beside the trainer: make test-ray")
def test_folds_and_seeds_on_ray_give_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # else Ray writes one of its own into the home folder
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here, there = folder(tmp_path, "here"), folder(tmp_path, "there")
    audit(here, PLAN, folds=2, seeds=2)
    stopped: list[str] = []

    def stop(done: int, total: int, title: str, best: str) -> None:
        stopped.append(title)
        if done == total == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(there, PLAN, folds=2, seeds=2, ray=LOCAL, watch=stop)
    assert (there / "fallen").exists()  # and another process went on with that fold
    assert {title for title in stopped if title.startswith("seed")} == {
        f"seed {seed}, fold {number}" for seed in (0, 1) for number in (1, 2)
    }
    kept = {path: path.stat().st_mtime_ns for path in (there / FOLDER).rglob("*.pt")}
    assert kept

    def unchanged(done: int, total: int, title: str, best: str) -> None:
        if title == "positive control" or done == total == 4:
            assert {path: path.stat().st_mtime_ns for path in (there / FOLDER).rglob("*.pt")} == kept

    audit(there, PLAN, folds=2, seeds=2, ray=LOCAL, resume=True, watch=unchanged)
    assert figures(there) == figures(here)
    assert not (there / FOLDER).exists()
    assert "2 seeds on 1 node(s)" in capsys.readouterr().err
