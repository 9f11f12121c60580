"""Fixtures shared with other tests of the benchmarks."""

from tests.fixtures.comparison import sealed

__all__ = ["sealed"]
