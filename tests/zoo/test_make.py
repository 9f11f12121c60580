"""`make` from nothing to a zoo, with so little training that only the way is tested."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.plans import HASTY

from sfumato.core.files import read_json, sha256
from sfumato.export.pipeline import export
from sfumato.zoo import making as module
from sfumato.zoo.checking import check
from sfumato.zoo.making import Made, make
from sfumato.zoo.recipes import RECIPES

TINY = replace(
    RECIPES["drawn-faces"],
    name="tiny-faces",
    data="synthetic,size=32,count=600",
    keep=("hair",),
    hide=("smiling",),
    settings={"clean_epochs": 1, "pretrain_epochs": 2, "epochs": 1},
)


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
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
