"""Fixtures shared with other tests of the benchmarks."""

from tests.fixtures.comparison import batch, make, task

__all__ = ["batch", "make", "task"]
