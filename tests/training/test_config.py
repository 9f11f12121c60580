"""The configuration: every knob in it, old forms of it, and the public door of training."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

import sfumato.training
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import open_dataset
from sfumato.models.layers import Same
from sfumato.training import TrainConfig, checkpoint, load_run, train
from sfumato.training.answer import make_answer_network
from sfumato.training.config import make_config, renamed, stored_config
from sfumato.training.run import make_local, read_card

SMALL: dict[str, Any] = {
    "data": "synthetic,size=16,count=600",
    "keep": ["skin"],
    "epochs": 1,
    "clean_epochs": 1,
    "pretrain_epochs": 0,
}
"""A run of seconds."""
VERSION_1: dict[str, Any] = {
    "data": "synthetic,count=1500,size=32",
    "keep": ["skin"],
    "hide": [],
    "seed": 0,
    "channel": "dither",
    "levels": 4,
    "block": 4,
    "objective": "rate",
    "bits": 1000.0,
    "reference": "context",
    "max_drop": None,
    "beyond": None,
    "noise_weight": 0.1,
    "suppress_weight": 1.0,
    "distill": 0.5,
    "feature_weight": None,
    "hint_weight": 0.5,
    "cloud": "resnet",
    "frozen_cloud": None,
    "warm_epochs": 2,
    "epochs": 8,
    "clean_epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.002,
    "weight_decay": 0.01,
    "plain": 0.25,
    "precision": "float32",
    "adversary_steps": 3,
}
"""What sfumato 0.1 wrote into `config.json`."""


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Names of all options, those of tables with the table's name before."""
    found = set()
    for name, field in model.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            found |= leaves(table, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def flat(values: dict[str, Any], prefix: str = "") -> set[str]:
    """The same of a JSON object."""
    found = set()
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def test_a_configuration_of_version_1_loads(capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(VERSION_1)
    assert config.prior == "autoregressive"
    assert (config.pretrain_epochs, config.aux_weight) == (2, 0.5)
    assert (config.augmentation.mirror_only, config.adversaries.steps) == (0.25, 3)
    assert (config.levels, config.bits, config.epochs) == (4, 1000, 8)
    told = " ".join(capsys.readouterr().err.split())  # the console breaks long lines
    assert "reference -> prior" in told
    assert "context -> autoregressive" in told
    assert "seed" not in told
    literal = make_config({"data": "synthetic", "keep": ["skin"], "objective": "seed"})
    assert literal.objective == "literal"


def test_networks_of_before_keep_their_padding_and_their_input() -> None:
    """A stored configuration without the key is of an earlier version; its weights were learnt with zeros on every side."""
    options = {"data": "synthetic,size=32,count=600", "keep": ["skin"]}
    now = make_config(options)
    assert (now.padding, now.phone_input) == ("same", "centred")
    before = stored_config(VERSION_1)
    assert (before.padding, before.phone_input) == ("symmetric", "photo")
    assert stored_config(now.model_dump(mode="json")) == now
    dataset = open_dataset(now.data, keep=now.keep)
    for config, kind in ((now, Same), (stored_config(options), torch.nn.Conv2d)):
        assert make_local(config, dataset).encoder.centred is (config is now)
        for network in (make_local(config, dataset), make_answer_network(config, dataset)):
            halving = [
                part
                for part in network.modules()
                if isinstance(part, torch.nn.Conv2d) and part.stride == (2, 2)
            ]
            assert {type(part) for part in halving} == {kind}


def test_adversaries_of_before_are_updated_as_often_as_they_were() -> None:
    """A stored table without the key is of a run whose adversaries learned at every step."""
    options: dict[str, Any] = {"data": "synthetic", "keep": ["skin"]}
    now = make_config(options)
    assert (now.adversaries.every, now.adversaries.steps) == (3, 1)
    before = stored_config({**options, "adversaries": {"steps": 2, "restart_every": 3}}).adversaries
    assert (before.every, before.steps, before.restart_every) == (1, 2, 3)
    first = stored_config(VERSION_1).adversaries
    assert (first.every, first.steps, first.restart_every) == (1, 3, 2)
    assert stored_config(now.model_dump(mode="json")) == now
    answer = {**options, "hide": ["hair"], "mode": "answer", "phone_input": "photo"}
    # `auto` may have been given it, and a run that goes on compares.
    assert stored_config(answer).phone_input == "photo"
    assert stored_config({**answer, "equal_odds": 0.1}).phone_input == "centred"  # it had no effect


def test_a_run_of_before_goes_on_as_it_began(tmp_path: Path) -> None:
    run = train(**SMALL, padding="symmetric", phone_input="photo", out=tmp_path / "run")
    card, file = run.folder / "card.json", run.folder / "config.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    del written["padding"], written["phone_input"]
    file.write_text(json.dumps(written), encoding="utf-8")
    card.unlink()  # not finished
    resumed = train(**SMALL, out=run.folder, resume=True)
    assert (resumed.config.padding, resumed.config.phone_input) == ("symmetric", "photo")
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(resumed.local(x)["p"], run.local(x)["p"])
    with pytest.raises(SfumatoError, match=r"padding 'symmetric' \(now 'same'\)"):
        train(**SMALL, padding="same", out=run.folder, resume=True)
    with pytest.raises(SfumatoError, match=r"phone_input 'photo' \(now 'centred'\)"):
        train(**SMALL, phone_input="centred", out=run.folder, resume=True)


def test_old_and_new_name_together_are_refused() -> None:
    for values in (
        {"warm_epochs": 1, "pretrain_epochs": 1},
        {"plain": 0.5, "augmentation": {"mirror_only": 0.5}},
    ):
        with pytest.raises(UsageError, match="is the old name of"):
            renamed(values)
    both = renamed({"plain": 0.5, "augmentation": {"turn": 0.1}})[0]
    assert both == {"augmentation": {"mirror_only": 0.5, "turn": 0.1}}
    assert renamed({"augmentation": {"turn": 0.1}, "plain": 0.5})[0] == both


def test_tables_of_a_file_reach_their_component(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("epochs = 2\n[adversaries]\nlearn_from = 0.2\n[rate]\nramp = [0.1, 0.3]\n")
    config = make_config({"data": "synthetic", "keep": "skin, smiling"}, file)
    assert config.keep == ("skin", "smiling")
    assert config.adversaries.learn_from == 0.2
    assert config.rate.ramp == (0.1, 0.3)
    for wrong, word in (
        ("[adversaries]\nlearn_form = 1", "learn_form"),
        ("[rate]\nramp = [0.3, 0.1]", "a ramp needs"),
        ("augmentation = 1\nplain = 0.5", "augmentation"),
        ("[schedule]\nclimb = 2", "climb"),
    ):
        file.write_text(wrong)
        with pytest.raises(UsageError, match=word):
            make_config({"data": "synthetic", "keep": "skin"}, file)


def test_every_option_is_in_config_json_and_compared_on_resume(tmp_path: Path) -> None:
    run = train(**SMALL, out=str(tmp_path / "run"))
    written = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    assert flat(written) == leaves(TrainConfig)
    assert make_config(written) == run.config == load_run(str(run.folder)).config
    assert run.card["config"] == written
    for changed, words in (
        ({"adversaries": {"learn_from": 0.4}}, r"adversaries.learn_from 0.3 \(now 0.4\)"),
        ({"bits": 3}, r"bits None \(now 3.0\)"),
    ):
        with pytest.raises(SfumatoError, match=words):
            train(**SMALL, **changed, out=run.folder, resume=True)


def test_train_takes_a_configuration_or_its_fields(tmp_path: Path) -> None:
    config = TrainConfig(data="synthetic", keep=("skin",))
    with pytest.raises(UsageError, match="not both"):
        train(config, tmp_path / "run", bits=8)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="give out="):
        train(config)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="bitz"):
        train(data="synthetic", keep="skin", bitz=8, out=tmp_path / "run")
    with pytest.raises(AttributeError):
        sfumato.training.no_such_name  # noqa: B018


def test_the_package_is_light_until_a_name_is_asked_for() -> None:
    """The configuration loads without PyTorch, and a run is read back without Lightning."""
    code = """
import sys, sfumato.training as t
def loaded(): print([name for name in ("torch", "lightning_fabric") if name in sys.modules])
t.TrainConfig
loaded()
t.load_run
loaded()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['torch']\n"


def test_a_card_of_version_1_is_read_in_todays_words(tmp_path: Path) -> None:
    card = {"schema": "sfumato-run/1", "context_bits": 3.0, "best_epoch": {"val_coin_bits": 4.0, "epoch": 1}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    found = read_card(tmp_path / "card.json")
    assert found["autoregressive_bits"] == 3.0
    assert found["best_epoch"] == {"val_uniform_bits": 4.0, "epoch": 1}
    (tmp_path / "card.json").write_text(json.dumps({**card, "schema": "sfumato-run/3"}))
    with pytest.raises(SfumatoError, match="sfumato-run/3"):
        read_card(tmp_path / "card.json")


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "epoch": 3,
        "network": network.state_dict(),
        "optimizer": checkpoint.optimizer_state(optimizer),
        "terms": {"rate": {"goal": 0.1, "late_goal": None}, "task": {}},
    }
    checkpoint.save(tmp_path, 3, state)
    found = checkpoint.load(tmp_path)
    assert found["epoch"] == 3
    assert found["terms"] == state["terms"]
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(found["network"])
    again = torch.optim.AdamW(other.parameters())
    checkpoint.load_optimizer_state(again, found["optimizer"])
    for one, two in ((network, optimizer), (other, again)):
        two.zero_grad()
        one(torch.full((1, 3), 2.0)).square().sum().backward()
        two.step()
    assert torch.equal(network.weight, other.weight)
    (tmp_path / "000003" / "state.json").write_text('{"epoch": 3}')
    with pytest.raises(SfumatoError, match="sha256 differs"):
        checkpoint.load(tmp_path)
    (tmp_path / "latest").write_text("000003\n")  # as earlier versions wrote it
    with pytest.raises(SfumatoError, match="another version of sfumato"):
        checkpoint.load(tmp_path)
