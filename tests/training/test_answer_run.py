"""Answer mode end to end on the embedded faces: the run, resuming, choosing the mode, bad use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import read_json, write_json
from sfumato.data import Split, open_dataset
from sfumato.models.tensors import to_tensor
from sfumato.runtime import answer
from sfumato.training import runner
from sfumato.training.advice import Figures, recommend
from sfumato.training.answer import AnswerTrainer, check_answer
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.presets import settings
from sfumato.training.run import AnswerRun, load_run
from sfumato.training.runner import train

TINY: dict[str, Any] = {
    "data": "synthetic,size=16,count=600",
    "keep": ("glasses",),
    "hide": ("smiling",),
    "cloud": "resnet,width=8",
    "epochs": 2,
    "clean_epochs": 1,
    "pretrain_epochs": 1,
    "batch_size": 64,
    "answer": {"least": 5},
}


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "answer"
    train(TrainConfig(**TINY, mode="answer", equal_odds=0.1), folder)
    return folder


def test_a_run_of_answer_mode_holds_what_it_promises(finished: Path) -> None:
    run = load_run(finished)
    assert isinstance(run, AnswerRun)
    assert run.mode == run.card["mode"] == "answer"
    assert run.card["words"] == 2
    assert run.card["told"]["most_bits"] == 1
    assert 0 <= run.card["told"]["entropy_bits"] <= 1
    assert run.card["beyond_bits"] == 0
    assert set(run.card["leak"]) == set(run.dataset.attributes) - {"glasses"}
    assert run.card["leak"]["smiling"]["declared"] is True
    assert [line["epoch"] for line in records(finished) if line["stage"] == "answer"] == [0, 1, 2]
    files = [path for path in finished.rglob("*") if path.is_file() and "tfevents" not in path.name]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors", ".bin", ""}


def test_the_card_is_what_drawing_words_comes_to(finished: Path) -> None:
    run = load_run(finished)
    assert isinstance(run, AnswerRun)
    rows = run.dataset.splits[Split.TEST]
    images, truth = np.array(run.dataset.images[rows]), run.dataset.labels["glasses"][rows]
    right = []
    for seed in range(30):
        words = run.words(images, seed=seed)
        shown = np.stack([answer.word_image(int(word), 2, 16, 16) for word in words])
        with torch.no_grad():
            logits = run.cloud(torch.from_numpy(shown).permute(0, 3, 1, 2).float())["glasses"]
        right.append(float((logits.argmax(1).numpy() == truth).mean()))
    assert np.mean(right) == pytest.approx(run.card["desired_accuracy"]["glasses"], abs=0.02)


def test_without_a_table_the_word_is_the_networks_argmax(tmp_path: Path) -> None:
    run = train(TrainConfig(**{**TINY, "epochs": 1, "hide": ()}, mode="answer"), tmp_path / "plain")
    assert isinstance(run, AnswerRun)
    assert not (tmp_path / "plain" / answer.TABLE).exists()
    images = np.array(run.dataset.images[:200])
    with torch.no_grad():
        logits = run.local(to_tensor(images))["glasses"]
    clear = (logits[:, 0] - logits[:, 1]).abs() > 2 * run.scale[0]  # rounding may tie the rest
    assert clear.sum() > 100
    assert (run.words(images)[clear.numpy()] == logits.argmax(1).numpy()[clear.numpy()]).all()
    parameters = run.parameters(images[:5])["p"]
    assert parameters.shape == (5, 3, 16, 16)
    assert set(parameters.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(run.channel.sample({"p": parameters}, torch.rand_like(parameters)), parameters)


def test_an_interrupted_run_resumes_to_the_same_result(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, broken = TrainConfig(**TINY, mode="answer", equal_odds=0.1), tmp_path / "broken"

    class StoppedError(Exception):
        pass

    save = AnswerTrainer.save

    def stop(trainer: AnswerTrainer) -> None:
        if trainer.epoch == 2:
            raise StoppedError  # after the record, before the checkpoint: the epoch has to be done again
        save(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(AnswerTrainer, "save", stop)
        with pytest.raises(StoppedError):
            train(config, broken)
    with pytest.raises(SfumatoError, match="resume"):
        load_run(broken)
    train(config, broken, resume=True)
    assert records(broken) == records(finished)
    for name in ("local.safetensors", "cloud.safetensors", answer.TABLE, "answer.json"):
        assert (broken / name).read_bytes() == (finished / name).read_bytes()
    with pytest.raises(SfumatoError, match=r"equal_odds 0\.1 \(now 0\.2\)"):
        train(config.model_copy(update={"equal_odds": 0.2}), broken, resume=True)


def test_auto_follows_the_rule_and_remembers_its_choice(tmp_path: Path) -> None:
    options = {**TINY, "hide": (), "epochs": 1}
    run = train(TrainConfig(**options), tmp_path / "auto", auto=True)
    lines = records(tmp_path / "auto")
    best = max(line["val_accuracy"] for line in lines if line["stage"] == "answer")
    clean = max(line["val_accuracy"] for line in lines if line["stage"] == "clean")
    figures = Figures(classes={"glasses": 2}, phone={"glasses": best}, cloud={"glasses": clean})
    assert run.mode == run.config.mode == recommend(figures).train_mode
    again = train(TrainConfig(**options), tmp_path / "auto", auto=True, resume=True)
    assert again.mode == run.mode


@pytest.mark.parametrize(
    "more",
    [{"bits": 200.0, "levels": 4}, settings("medical", {"subsample": 1})],
    ids=["bits", "medical"],
)
def test_auto_in_answer_mode_keeps_what_it_was_told_of_picture_mode(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_answer_suits", lambda *_: True)
    options = {**TINY, "hide": (), "epochs": 1, **more}
    run = train(TrainConfig(**options), tmp_path / "auto", auto=True)
    assert (run.mode, run.config.bits) == ("answer", 200)
    assert load_run(tmp_path / "auto").config == run.config
    (tmp_path / "auto" / "card.json").unlink()  # as if it had been interrupted
    assert train(TrainConfig(**options), tmp_path / "auto", auto=True, resume=True).mode == "answer"
    with pytest.raises(SfumatoError, match=r"bits 200\.0 \(now 9\.0\)"):
        train(TrainConfig(**{**options, "bits": 9}), tmp_path / "auto", auto=True, resume=True)


def test_auto_goes_on_in_picture_mode_with_what_the_phone_has_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_answer_suits", lambda *_: False)
    run = train(TrainConfig(**{**TINY, "hide": (), "epochs": 1}), tmp_path / "auto", auto=True)
    assert run.mode == "picture"
    assert read_json(tmp_path / "auto" / "config.json")["mode"] == "picture"
    stages = [line["stage"] for line in records(tmp_path / "auto")]
    assert stages == ["clean", "answer", "answer", "cotrain"]
    assert run.card["rate_bits"] > 0
    resumed = train(
        TrainConfig(**{**TINY, "hide": (), "epochs": 1}), tmp_path / "auto", auto=True, resume=True
    )
    assert resumed.mode == "picture"


def test_options_of_the_other_mode_are_refused() -> None:
    for option, value in (("bits", 8), ("objective", "suppress"), ("levels", 4), ("max_drop", 1.0)):
        with pytest.raises(UsageError, match=f"{option} has no meaning"):
            make_config({**TINY, "mode": "answer", option: value})
    with pytest.raises(UsageError, match="belongs to answer mode"):
        make_config({**TINY, "equal_odds": 0.1})
    with pytest.raises(UsageError, match="needs attributes to hide"):
        make_config({**TINY, "hide": (), "mode": "answer", "equal_odds": 0.1})
    with pytest.raises(UsageError, match="equal_odds"):
        make_config({**TINY, "mode": "answer", "equal_odds": 1.5})


def test_the_table_of_the_first_versions_keeps_its_meaning() -> None:
    config = make_config({"data": "synthetic", "keep": "skin", "equal_odds": {"pace": 0.5}})
    assert config.odds_control.pace == 0.5
    assert config.equal_odds is None
    assert make_config(config.model_dump(mode="json")) == config


def test_what_cannot_be_held_is_refused_before_training(tmp_path: Path) -> None:
    config = make_config({**TINY, "hide": ("identity",), "mode": "answer", "equal_odds": 0.1})
    with pytest.raises(UsageError, match="identity cannot be held to equal odds"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    dataset = open_dataset(config.data)
    everything = ("identity", "background", "hair", "skin", "smiling", "glasses")
    wide = config.model_copy(update={"keep": everything, "hide": ()})
    with pytest.raises(UsageError, match="needs a table of"):
        check_answer(wide, dataset)
    check_answer(wide.model_copy(update={"equal_odds": None}), dataset)  # 12,800 words


def test_a_damaged_run_is_refused(finished: Path, tmp_path: Path) -> None:
    for name in ("config.json", "card.json", "local.safetensors", "cloud.safetensors", "answer.json"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    with pytest.raises(SfumatoError, match=answer.TABLE):
        load_run(tmp_path)
    (tmp_path / answer.TABLE).write_bytes(b"1234")
    with pytest.raises(SfumatoError, match="4 bytes"):
        load_run(tmp_path)
    values = read_json(tmp_path / "answer.json")
    write_json(tmp_path / "answer.json", {**values, "schema": "sfumato-answer/9"})
    with pytest.raises(SfumatoError, match="sfumato-answer/9"):
        load_run(tmp_path)
