"""Training in processes that torchrun started, as two machines would: the figures of one machine, and errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.team import LIMIT, free_port, two_processes, words_of
from tests.training.test_training import TINY, records

from sfumato.core.errors import UsageError
from sfumato.training.config import TrainConfig
from sfumato.training.runner import train
from sfumato.training.start import by_torchrun, check_devices
from sfumato.training.team import Team, unlike


def test_a_process_by_itself_is_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    team = Team.join()
    assert team.leads
    assert team.each(lambda: 3) == team.first(lambda: 3) == 3
    team.agree({"bits": 8})
    team.leave()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not by_torchrun()


def test_settings_that_differ_are_named() -> None:
    same = {"bits": 8, "seed": 0}
    assert unlike([same, dict(same), dict(same)]) == ""
    assert unlike([same, same, {"bits": 8, "seed": 1, "dial": 4}]).endswith(
        "process 0: seed (1, not 0), dial (4, not None)"
    )


def test_what_torchrun_and_options_say_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="leave out --processes"):
        check_devices("auto", 2)
    with pytest.raises(UsageError, match="leave out --accelerator cuda"):
        check_devices("cuda", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="3 processes on 2 machines, 2 of them here"):
        Team.join()


def two_machines(config: list[TrainConfig], out: Path) -> list[tuple[int, str]]:
    """Exit code and output of two torchruns on the loopback, each with a configuration of its own.

    Args:
        config: of each machine.
        out: the folder of the run.
    """
    port, started = free_port(), []
    for rank, one in enumerate(config):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        command += ["--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", str(port)]
        started.append(
            subprocess.Popen(
                [*command, "-m", "sfumato.cli.main", *words_of(one, rank, out)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            )
        )
    texts = [one.communicate(timeout=LIMIT)[0] for one in started]
    return [(one.returncode, text) for one, text in zip(started, texts, strict=True)]


@pytest.mark.slow
def test_two_machines_give_the_figures_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = TrainConfig(**{**TINY, "epochs": 2}, bits=8)
    train(config, tmp_path / "one", processes=2)
    (tmp_path / "apart").mkdir()
    out = tmp_path / "apart" / "two"
    ended = two_machines([config, config], out)
    assert [code for code, _ in ended] == [0, 0], ended
    assert records(out) == records(tmp_path / "one")
    assert "kept attribute" in ended[0][1]
    assert "kept attribute" not in ended[1][1], "one process speaks for all"


@pytest.mark.slow
def test_machines_that_were_told_different_things_end_with_one_line(tmp_path: Path) -> None:
    config = TrainConfig(**TINY, bits=8)
    out = tmp_path / "run"
    for code, text in two_processes([config, config.model_copy(update={"bits": 6.0})], out):
        assert code != 0
        assert "bits (6.0, not 8.0)" in text
        assert "sfumato/training" not in text, "no traceback of ours"
    assert not out.exists()
    spoilt = config.model_copy(update={"data": f"folder:{tmp_path / 'nowhere'}"})
    ended = two_processes([config, spoilt], out)
    assert "process 1 cannot begin" in ended[0][1]
    assert "nowhere" in ended[1][1]
    assert not out.exists()
