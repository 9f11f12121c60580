"""Co-training end to end on the embedded faces: determinism, resuming after kill -9, several processes, bad use."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from tests.fixtures.forks import fork, sfumato
from tests.fixtures.team import train_together
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import sha256
from sfumato.core.rates import PICTURE_BITS
from sfumato.models.tensors import to_tensor
from sfumato.training.checkpoint import load_module, save_module
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.regularisers import task
from sfumato.training.run import load_run
from sfumato.training.runner import train
from sfumato.training.trainer import CoTrainer

TINY: dict[str, Any] = {
    "data": "synthetic,size=16,count=600",
    "keep": ("skin",),
    "cloud": "resnet,width=8",
    "epochs": 3,
    "clean_epochs": 1,
    "pretrain_epochs": 1,
    "batch_size": 64,
}


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


OPTIONS = [
    "--keep",
    "skin",
    "--hide",
    "background",
    "--objective",
    "suppress",
    "--bits",
    "8",
    "--beyond",
    "2",
]


def arguments(out: Path) -> list[str]:
    """Of `sfumato train`, for a run with every part that learns."""
    file = out.with_suffix(".toml")
    file.write_text(
        'epochs = 4\nclean_epochs = 1\npretrain_epochs = 1\nbatch_size = 64\nprior = "autoregressive"\n'
        'leak = "background:0.1"\nadversaries.photo_epochs = 1\n'
    )
    return ["train", "--data", str(TINY["data"]), *OPTIONS, "--config", str(file), "--out", str(out)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rate"
    train(TrainConfig(**TINY, bits=8), folder)
    return folder


def test_a_run_holds_what_it_promises(finished: Path) -> None:
    run = load_run(finished)
    assert run.card["config"]["bits"] == 8
    assert set(run.card["desired_accuracy"]) == set(run.card["clean_accuracy"]) == {"skin"}
    assert sum(run.card["dataset"]["labels"]["skin"].values()) == run.card["dataset"]["images"]
    assert run.card["rate_bits"] > 0
    files = [path for path in finished.rglob("*") if path.is_file() and "tfevents" not in path.name]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors", ""}
    parameters = run.parameters(run.dataset.images[:3])
    assert parameters["p"].shape == (3, 3, 16, 16)


def test_the_same_seed_gives_the_same_run(finished: Path, tmp_path: Path) -> None:
    train(TrainConfig(**TINY, bits=8), tmp_path / "again")
    assert records(tmp_path / "again") == records(finished)
    for name in ("local.safetensors", "cloud.safetensors"):
        assert sha256(tmp_path / "again" / name) == sha256(finished / name)


def test_a_teacher_in_bfloat16_says_nearly_the_same(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What processors with bfloat16 compute; the others can too, slowly."""
    run = load_run(finished)
    fabric = Fabric(accelerator="cpu", devices=1)
    made = CoTrainer(run.config, run.dataset, run.cloud, finished, fabric)
    images = to_tensor(run.dataset.images[:32])
    told = []
    for able in (False, True):
        monkeypatch.setattr(task, "has_bfloat16", lambda device, able=able: able)
        answers, _ = made.task.teacher_outputs(images)
        assert answers["skin"].dtype == torch.float32
        told.append(answers["skin"].softmax(1))
    assert not torch.equal(told[0], told[1])
    assert torch.allclose(told[0], told[1], atol=0.02)


def test_another_seed_gives_another_run(finished: Path, tmp_path: Path) -> None:
    train(TrainConfig(**TINY, bits=8, seed=1), tmp_path / "other")
    assert records(tmp_path / "other")[-1]["loss"] != records(finished)[-1]["loss"]


def test_killed_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    """kill -9 after the first co-training epoch, then --resume: byte for byte the uninterrupted run."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    victim = fork(sfumato, arguments(broken), said=tmp_path / "said.txt")
    log = broken / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text(encoding="utf-8").count('"cotrain"') >= 2):
        assert victim.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim.kill()
    victim.join()
    assert not (broken / "card.json").exists()
    with pytest.raises(SfumatoError, match="resume"):
        load_run(broken)
    refused = CliRunner().invoke(app, arguments(broken))
    assert isinstance(refused.exception, SfumatoError), "a second start without --resume must be refused"
    for line in ([*arguments(broken), "--resume"], arguments(whole)):
        CliRunner().invoke(app, line, catch_exceptions=False)
    assert records(broken) == records(whole)
    assert sha256(broken / "local.safetensors") == sha256(whole / "local.safetensors")


@pytest.mark.slow
def test_two_processes_share_a_run(tmp_path: Path) -> None:
    """With every part that learns: the autoregressive prior and the adversaries. Gates and windows: tests of their own."""
    config = TrainConfig(
        **{**TINY, "epochs": 2},
        bits=8,
        prior="autoregressive",
        objective="suppress",
        hide=("background",),
        beyond=0.5,
    )
    run = train_together(config, tmp_path / "two")
    assert run.card["rate_bits"] > 0
    lines = [line for line in records(tmp_path / "two") if line["stage"] == "cotrain"]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert all("odds_gap" in line for line in lines)


@pytest.mark.parametrize(
    ("channel", "objective", "extra"),
    [
        ("gaussian", "literal", {}),
        ("gaussian", "rate", {"bits": 50}),
        ("dither", "rate", {"bits": 50, "prior": "autoregressive", "augmentation": {"mirror_only": 0.5}}),
        ("dither", "suppress", {"hide": ("background",), "levels": 4, "max_drop": 5.0, "epochs": 4}),
    ],
)
def test_every_objective_trains_and_lowers_its_loss(
    channel: str, objective: str, extra: dict[str, Any], tmp_path: Path
) -> None:
    values = {**TINY, "epochs": 2, "channel": channel, "objective": objective, **extra}
    train(TrainConfig(**values), tmp_path / "run")
    lines = [line for line in records(tmp_path / "run") if line["stage"] == "cotrain"]
    assert lines[-1]["loss"] < lines[0]["loss"] + 0.5
    rates = [line["val_rate_bits"] for line in lines]
    assert rates[-1] < rates[0], "noise must grow"
    assert ("odds_gap" in lines[0]) == (objective == "suppress")
    assert not {"adversary_accuracy", "suppression"} & set(lines[0]), "adversaries wait until the rate is low"
    assert {"adversary_accuracy", "suppression"} <= set(lines[-1]) or objective != "suppress"


@pytest.mark.parametrize("bits", [PICTURE_BITS, PICTURE_BITS / 2])
def test_features_are_followed_from_a_pictures_rate_on(bits: float, tmp_path: Path) -> None:
    train(TrainConfig(**{**TINY, "epochs": 1}, bits=bits), tmp_path / "run")
    (line,) = [line for line in records(tmp_path / "run") if line["stage"] == "cotrain"]
    assert ("feature_loss" in line) == (bits >= PICTURE_BITS)


def test_rate_target_is_followed(finished: Path) -> None:
    """The rate falls by two orders of magnitude even in a tiny run: the controller acts."""
    rates = [line["val_rate_bits"] for line in records(finished) if line["stage"] == "cotrain"]
    assert rates[-1] < rates[0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"bits": 8, "max_drop": 1}, "not both"),
        ({"prior": "autoregressive", "channel": "gaussian"}, "dither"),
        ({"prior": "autoregressive", "objective": "literal"}, "prior"),
        ({"augmentation": {"mirror_only": 1.5}}, "mirror_only"),
        ({"objective": "suppress"}, "--hide"),
        ({"objective": "literal", "bits": 3}, "noise_weight"),
        ({"objective": "literal", "beyond": 1}, "noise_weight"),
        ({"hide": ("skin",)}, "kept and hidden"),
        ({"levels": 3}, "levels"),
        ({"epochz": 3}, "epochz"),
        ({"bits": -1}, "bits"),
    ],
)
def test_contradictory_configurations_are_refused(values: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        make_config({**TINY, **values})


def test_damaged_weights_are_named(finished: Path, tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    save_module(network, tmp_path / "w.safetensors")
    with pytest.raises(SfumatoError, match=r"does not fit .*weight.*another version of sfumato"):
        load_module(torch.nn.Linear(4, 2), tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(SfumatoError, match="cannot be read"):
        load_module(network, tmp_path / "w.safetensors")


def test_resume_with_other_options_is_refused(finished: Path) -> None:
    with pytest.raises(SfumatoError, match=r"bits 8\.0 \(now 9\.0\)"):
        train(TrainConfig(**TINY, bits=9), finished, resume=True)


def test_a_failed_write_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        save_module(Broken(), tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []
