"""Estimated costs on the phone against counted ones."""

import json
from pathlib import Path

import pytest
from torch import nn

from sfumato.bench.instructions import DENSE, SEPARABLE, depthwise, price
from sfumato.bench.phone_networks import PHONE_NETWORKS

ROWS = [
    row
    for row in json.loads((Path(__file__).parents[2] / "benchmarks/results/arm.json").read_text())["rows"]
    if row["variant"] == "int8"
]


def test_rates_are_the_largest_that_were_counted() -> None:
    groups = ((DENSE, {"arden", "deepobfuscator", "protective"}), (SEPARABLE, {"sfumato", "mobilenet"}))
    for rates, names in groups:
        for core, rate in rates.items():
            counted = [
                row["instructions"] / row["macs"]
                for row in ROWS
                if row["cpu"] == core and row["subject"] in names
            ]
            assert len(counted) == len(names)
            assert rate == pytest.approx(max(counted), abs=0.006)


@pytest.mark.parametrize("name", PHONE_NETWORKS)
def test_estimates_lie_near_what_was_counted(name: str) -> None:
    network = PHONE_NETWORKS[name]().eval()
    estimate = price(network, (3, 64, 64))
    for row in ROWS:
        if row["subject"] == name:
            assert estimate.macs == pytest.approx(row["macs"], rel=0.01)
            assert estimate.bytes == pytest.approx(row["bytes"], rel=0.15)
            assert 0.8 < estimate.instructions[row["cpu"]] / row["instructions"] < 1.35
    assert not estimate.counted


def test_what_counts_as_depthwise() -> None:
    assert depthwise(nn.Conv2d(8, 8, 3, groups=8))
    assert not depthwise(nn.Conv2d(8, 8, 3))
    assert not depthwise(nn.Conv2d(1, 8, 3))
    assert not depthwise(nn.Linear(8, 8))
