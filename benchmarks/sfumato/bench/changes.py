"""What changed between two result files beyond noise.

Counts (instructions, parameters, bytes) are exact: any difference is a change. A time changed if the middle three fifths of
its rounds' medians before and after do not overlap, and the medians differ by more than `SMALLEST`: two files are two days of
one machine, and the rounds of one file know nothing of the other day.

    changes = find_changes(read_results(a), read_results(b))
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sfumato.bench.results import Results
from sfumato.bench.tables import label, quantile
from sfumato.core.errors import UsageError

SMALLEST = 0.03
"""Relative difference of times that is never called a change."""
EXACT = ("instructions", "params", "macs", "bytes", "delegated_nodes", "partitions", "output_sha256", "valid")
ENVIRONMENT = ("processor", "runtime", "device", "emulator", "toolbox", "governor")

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Change:
    """One figure that differs."""

    what: str
    figure: str
    before: Value
    after: Value

    @property
    def relative(self) -> float | None:
        """After over before, less 1; None for what is no number, appeared or went."""
        numbers = [self.before, self.after]
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in numbers):
            return None
        return float(self.after) / float(self.before) - 1 if self.before else None  # type: ignore[arg-type]

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        share = "" if self.relative is None else f"{self.relative:+.1%}"
        return self.what, self.figure, _shown(self.before), _shown(self.after), share


def find_changes(before: Results, after: Results) -> list[Change]:
    """Changes of rows, stages and speeds that both files hold, and what only one of them holds.

    Raises:
        UsageError: the files are of different targets.
    """
    if before.target != after.target:
        raise UsageError(
            f"one file is of {before.target}, the other of {after.target}: compare two of one target"
        )
    old, new = (dict(_exact(results)) for results in (before, after))
    changes = [
        Change(*key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)
    ]
    past, present = (dict(_times(results)) for results in (before, after))
    changes += [
        Change(*key, quantile(past[key], 0.5), quantile(present[key], 0.5))
        for key in past
        if key in present and moved(past[key], present[key])
    ]
    return changes


def moved(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether the medians of rounds differ beyond noise."""
    (low, middle, high), (floor, centre, ceiling) = (
        [quantile(values, share) for share in (0.2, 0.5, 0.8)] for values in (before, after)
    )
    return (high < floor or ceiling < low) and abs(centre / middle - 1) > SMALLEST


def warnings(before: Results, after: Results) -> list[str]:
    """Why the two may not be comparable at all."""
    facts: Mapping[str, object] = before.environment
    return [
        f"{name} differs: {facts.get(name)} before, {after.environment.get(name)} after"
        for name in ENVIRONMENT
        if facts.get(name) != after.environment.get(name)
    ]


def _exact(results: Results) -> Iterator[tuple[tuple[str, str], Value]]:
    for row in results.rows:
        for figure in EXACT:
            yield (_name(row.size, label(row), row.cpu), figure), getattr(row, figure)
    for stage in results.stages:
        yield (_name(None, stage.name, stage.cpu), "instructions"), stage.instructions


def _times(results: Results) -> Iterator[tuple[tuple[str, str], tuple[float, ...]]]:
    for row in results.rows:
        if row.round_p50_ms:
            yield (_name(row.size, label(row), row.cpu), "p50 ms"), row.round_p50_ms
    for speed in results.speeds:
        if speed.round_seconds:
            yield (speed.name, "seconds"), speed.round_seconds


def _name(size: tuple[int, int] | None, what: str, cpu: str | None) -> str:
    parts = [what, *([f"{size[0]}x{size[1]}"] if size else []), *([cpu] if cpu else [])]
    return ", ".join(parts)


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)[:12]
