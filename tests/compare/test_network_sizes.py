"""Both sizes of every method: held to the two registries, counted by the same counter, shown by the command line."""

import json

import pytest
from typer.testing import CliRunner

from sfumato.bench.phone_networks import PHONE_NETWORKS
from sfumato.cli.main import app
from sfumato.compare.methods import METHODS, Task, create
from sfumato.compare.network_sizes import PAPERS, compare_sizes, size_table, sizes_of
from sfumato.core.errors import UsageError
from sfumato.models.cost import cost

DATA, KEEP, HIDE = "synthetic,size=32,count=600", ("smiling",), ("skin",)


def test_every_method_and_every_network_of_a_paper_stands_in_the_table() -> None:
    assert list(PAPERS) == list(METHODS)
    named = [paper.network for paper in PAPERS.values() if paper.network is not None]
    yardsticks = {"mobilenetv3", "efficientnet"}  # of `bench arm`: no method's
    assert sorted(named) == sorted(set(PHONE_NETWORKS) - yardsticks)
    for name, paper in PAPERS.items():
        assert paper.difference.startswith("the same") or paper.network or "paper" in paper.difference, name


@pytest.mark.parametrize("name", METHODS)
def test_both_sizes_are_those_of_the_registries(name: str, task: Task) -> None:
    found = sizes_of(name, task)
    method = create(name, task)
    assert found.trained == method.cost(task.shape)
    if found.paper_network is None:
        assert found.paper is None
        return
    assert found.paper == cost(PHONE_NETWORKS[found.paper_network]().eval(), task.shape)
    assert found.paper.macs > 2 * found.trained.macs, "else one size would do"
    assert found.paper.parameters > 2 * found.trained.parameters


def test_protective_perturbation_has_two_prices_and_the_table_shows_both() -> None:
    (row,) = (
        line for line in size_table(compare_sizes(DATA, keep=KEEP, hide=HIDE)).rows if line[0] == "protective"
    )
    # Of the paper: 7.76 million parameters, 188.7 million MACs at 32x32.
    assert row[3:5] == ("7,760,163", "188.68")
    assert float(row[2]) < 0.5


def test_the_command_prints_both_sizes() -> None:
    options = ["--data", DATA, "--json"]
    done = CliRunner().invoke(app, ["bench", "networks", *options])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values["schema"] == "sfumato-network-sizes/1"
    by = {row["method"]: row for row in values["methods"]}
    assert list(by) == list(METHODS)
    assert by["arden"]["paper"]["macs"] == pytest.approx(39.5e6, rel=0.002)
    assert by["mass"]["paper"] is None
    assert all(row["difference"] for row in by.values())


def test_wrong_use_of_the_command_is_named() -> None:
    done = CliRunner().invoke(app, ["bench", "networks", "--data", DATA, "--hide", ""])
    assert isinstance(done.exception, UsageError)
    assert "name some with --hide" in str(done.exception)
