"""`make` from a run to a zoo: what is exported, audited and packed, and what is not done twice."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.plans import HASTY

from sfumato.core.files import read_json, sha256, write_json
from sfumato.export.pipeline import export
from sfumato.training.config import TrainConfig
from sfumato.training.run import AnswerRun
from sfumato.zoo import making as module
from sfumato.zoo.checking import check
from sfumato.zoo.making import Made, make
from sfumato.zoo.recipes import RECIPES

TINY = replace(
    RECIPES["drawn-faces"],
    name="tiny-faces",
    data="synthetic,count=800,size=32",
    keep=("glasses", "hair"),
    hide=("smiling",),
    settings={"answer": {"bins": 2, "least": 2}},
)


@pytest.fixture(scope="module")
def hasty(answer_run: AnswerRun) -> Iterator[None]:
    """The run is the untrained one of `tests.fixtures.answer_runs`: how it is trained is asked in `tests/training`."""

    def train(config: TrainConfig, folder: Path, *, resume: bool) -> AnswerRun:
        assert resume
        assert config == answer_run.config
        if not (folder / "card.json").exists():
            folder.mkdir(parents=True)
            write_json(folder / "card.json", answer_run.card)
        return answer_run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train", train)
        patch.setattr(module, "PLAN", HASTY)
        patch.setattr(module, "export", partial(export, tune="never"))
        yield


@pytest.fixture(scope="module")
def made(hasty: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Path]:
    out = tmp_path_factory.mktemp("made") / "tiny"
    return make(TINY, out), out


def test_the_entry_lies_in_a_zoo_of_its_own(made: tuple[Made, Path]) -> None:
    result, out = made
    assert (result.zoo, result.shipped, result.differing_files) == (out / "zoo", None, None)
    assert [(one.name, one.state) for one in check(out / "zoo")] == [("tiny-faces", "ok")]
    audit: Any = read_json(out / "zoo" / "tiny-faces" / "audit.json")
    assert audit["command"] == "sfumato zoo make tiny-faces --out tiny-faces"
    assert result.entry.figures.kept[0].accuracy == audit["desired"][0]["accuracy"]
    assert str(out) not in json.dumps(audit)


def test_what_is_finished_is_not_done_again(made: tuple[Made, Path]) -> None:
    result, out = made
    files = [out / "run" / "card.json", out / "export" / "contract.json", out / "audit" / "audit.json"]
    before = [(sha256(file), file.stat().st_mtime_ns) for file in files]
    assert make(TINY, out).entry == result.entry
    assert before == [(sha256(file), file.stat().st_mtime_ns) for file in files]


def test_an_audit_that_is_older_than_its_export_is_made_again(made: tuple[Made, Path]) -> None:
    result, out = made
    (out / "export" / "contract.json").touch()
    before = (out / "audit" / "audit.json").stat().st_mtime_ns
    again = make(TINY, out, into=out / "other").entry
    assert (out / "audit" / "audit.json").stat().st_mtime_ns > before
    assert again.figures == result.entry.figures
    assert [one.state for one in check(out / "other")] == ["ok"]
