"""Every example in a docstring computes what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path.relative_to(ROOT / root)
    for root in ("train", "export", "cloud", "benchmarks")
    for path in sorted((ROOT / root / "sfumato").rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def test_examples_were_found() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_examples_compute_what_they_say(source: Path) -> None:
    parts = source.with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
