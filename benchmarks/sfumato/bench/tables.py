"""Results as tables, for the terminal and for the report alike: a title, columns, rows of text.

for title, columns, rows in tables(results): ...
"""

from collections.abc import Callable
from dataclasses import dataclass

from sfumato.bench.schema import Results, Row
from sfumato.bench.stages import RAW


@dataclass(frozen=True)
class Grid:
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(results: Results) -> list[Grid]:
    """All tables of a result file; those without rows are left out."""
    made = [*TARGETS[results.target](results)]
    if results.failures:
        lines = tuple((failure.what, failure.reason) for failure in results.failures)
        made.append(Grid("without a result", ("what", "why"), lines))
    return [grid for grid in made if grid.rows]


def number(value: float | None, form: str = ".3f") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def spread(row: Row) -> str:
    """Lowest and highest median of a round."""
    return f"{min(row.round_p50_ms):.3f} - {max(row.round_p50_ms):.3f}" if row.round_p50_ms else "-"


def host_tables(results: Results) -> list[Grid]:
    """Times on this computer, its roof, the steps of a photo."""
    rows = tuple(
        (
            f"{row.subject} {row.variant}",
            row.delegate,
            str(row.threads),
            number(row.init_ms, ".2f"),
            number(row.first_ms, ".2f"),
            number(row.p50_ms),
            spread(row),
            number(row.p90_ms),
            number(row.p99_ms),
            number(row.gmac_per_s, ".1f"),
            number(row.roofline_fraction, ".1%"),
            number(row.peak_kb, ",d"),
        )
        for row in results.rows
    )
    columns = (
        "model",
        "delegate",
        "threads",
        "init",
        "first",
        "p50",
        "rounds' p50",
        "p90",
        "p99",
        "GMAC/s",
        "of the roof",
        "kB",
    )
    size = "" if not results.rows else " at {} x {}".format(*results.rows[0].size)
    made = [Grid(f"milliseconds of one run{size}", columns, rows)]
    if results.machine is not None:
        machine = results.machine
        rates = [("int8", machine.int8_gmac_per_s), ("float32", machine.float32_gmac_per_s)]
        lines = [(f"convolution of size 1, {kind}", f"{rate:.1f} GMAC/s") for kind, rate in rates]
        lines += [(f"copy, {size} KiB", f"{speed:.1f} GB/s") for size, speed in machine.copy_gb_per_s.items()]
        made.append(Grid("what this machine can do, one thread", ("", "measured"), tuple(lines)))
    alone = {stage.name: stage.p50_ms for stage in results.stages}.get(RAW)
    steps = tuple(
        (stage.name, number(stage.p50_ms), number(stage.p90_ms), number((stage.p50_ms or 0) / alone, ".2f"))
        for stage in results.stages
        if alone
    )
    made.append(
        Grid("from a 12-megapixel photo to an upload", ("step", "p50", "p90", "runs of the network"), steps)
    )
    return made


TARGETS: dict[str, Callable[[Results], list[Grid]]] = {"host": host_tables}
"""Target of a file -> its tables."""
