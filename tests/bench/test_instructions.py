"""Estimated costs on the phone against counted ones."""

import json
from pathlib import Path

import pytest
from torch import nn

from sfumato.bench.instructions import DENSE, SEPARABLE, depthwise, price
from sfumato.bench.phone_networks import PHONE_NETWORKS
from sfumato.models.cloud import create_cloud

ROWS = [
    row
    for row in json.loads(
        (Path(__file__).parents[2] / "benchmarks/results/arm.json").read_text(encoding="utf-8")
    )["rows"]
    if row["variant"] == "int8"
]


def counted(core: str, *names: str) -> list[float]:
    found = [
        row["instructions"] / row["macs"] for row in ROWS if row["cpu"] == core and row["subject"] in names
    ]
    assert len(found) == len(names)
    return found


def test_rates_are_the_largest_that_were_counted() -> None:
    cloud = {"cortex-a53": 5_356_554, "cortex-a72": 5_113_979, "cortex-a76": 1_657_078}
    for core, rate in DENSE.items():
        assert rate == pytest.approx(cloud[core] / 13_287_424, abs=0.006)
        assert rate > max(counted(core, "arden", "deepobfuscator", "protective"))
    for core, rate in SEPARABLE.items():
        assert rate == pytest.approx(max(counted(core, "sfumato", "mobilenet")), abs=0.006)


def test_our_cloud_network_has_the_size_of_its_file() -> None:
    cloud = create_cloud("resnet", {"a": 2}, size=(64, 64))
    estimate = price(cloud.stages, (3, 64, 64))  # type: ignore[arg-type]
    assert estimate.macs == 13_287_424
    assert estimate.bytes == pytest.approx(91_520, rel=0.1)


@pytest.mark.parametrize("name", PHONE_NETWORKS)
def test_estimates_lie_near_what_was_counted(name: str) -> None:
    network = PHONE_NETWORKS[name]().eval()
    estimate = price(network, (3, 64, 64))
    for row in ROWS:
        if row["subject"] == name:
            assert estimate.macs == pytest.approx(row["macs"], rel=0.01)
            assert estimate.bytes == pytest.approx(row["bytes"], rel=0.15)
            assert 0.8 < estimate.instructions[row["cpu"]] / row["instructions"] < 1.45
    assert not estimate.counted


def test_what_counts_as_depthwise() -> None:
    assert depthwise(nn.Conv2d(8, 8, 3, groups=8))
    assert not depthwise(nn.Conv2d(8, 8, 3))
    assert not depthwise(nn.Conv2d(1, 8, 3))
    assert not depthwise(nn.Linear(8, 8))
