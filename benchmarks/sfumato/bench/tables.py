"""Results as tables, for the terminal and for the report alike: a title, columns, rows of text.

for title, columns, rows in tables(results): ...
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from sfumato.bench.results import RAW, Measurement, Results, Speed
from sfumato.bench.subjects import OURS
from sfumato.core.reports import Grid


def tables(results: Results) -> list[Grid]:
    """All tables of a result file; those without rows are left out."""
    made = [*TARGETS[results.target](results), against_ours(results)]
    if results.failures:
        lines = tuple((failure.what, failure.reason) for failure in results.failures)
        made.append(Grid("without a result", ("what", "why"), lines))
    return [grid for grid in made if grid.rows]


def number(value: float | None, form: str = ".3f") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def label(row: Measurement) -> str:
    """The model and what is unusual about its configuration."""
    parts = [f"{row.subject} {row.variant}"]
    parts += [f"{row.threads} threads"] if row.threads > 1 else []
    parts += ["without the app"] if row.app is False else []
    parts += [] if row.delegate == "xnnpack" else [{"none": "no XNNPACK"}.get(row.delegate, row.delegate)]
    return ", ".join(parts)


def spread(row: Measurement) -> str:
    """How far the medians of the rounds lie apart, the outer fifths left out, in percent of the middle one."""
    if not row.round_p50_ms:
        return "-"
    low, middle, high = (quantile(row.round_p50_ms, share) for share in (0.2, 0.5, 0.8))
    return f"{50 * (high - low) / middle:.1f} %"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies, the nearest one there is."""
    return float(np.quantile(values, share, method="nearest"))


def time_table(results: Results) -> Grid:
    """Times of every row."""
    rows = tuple(
        (
            label(row),
            number(row.init_ms, ".2f"),
            number(row.first_ms, ".2f"),
            number(row.p50_ms),
            spread(row),
            number(row.p90_ms),
            number(row.p99_ms),
            number(row.roofline_fraction, ".1%"),
            number(row.peak_kb, ",d"),
        )
        for row in results.rows
    )
    columns = ("model", "init", "first", "p50", "+-", "p90", "p99", "roof", "kB")
    size = "" if not results.rows else " at {} x {}".format(*results.rows[0].size)
    return Grid(f"milliseconds of one run{size}", columns, rows)


def host_tables(results: Results) -> list[Grid]:
    """Times on this computer, its roof, the steps of a photo."""
    made = [time_table(results)]
    if results.machine is not None:
        machine = results.machine
        rates = [("int8", machine.int8_gmac_per_s), ("float32", machine.float32_gmac_per_s)]
        lines = [(f"convolution of size 1, {kind}", f"{rate:.1f} GMAC/s") for kind, rate in rates]
        lines += [(f"copy, {size} KiB", f"{speed:.1f} GB/s") for size, speed in machine.copy_gb_per_s.items()]
        made.append(Grid("what this machine can do, one thread", ("", "measured"), tuple(lines)))
    made += [layer_table(row) for row in results.rows if row.layers]
    alone = {stage.name: stage.p50_ms for stage in results.stages}.get(RAW)
    steps = tuple(
        (stage.name, number(stage.p50_ms), number(stage.p90_ms), number((stage.p50_ms or 0) / alone, ".2f"))
        for stage in results.stages
        if alone
    )
    made.append(
        Grid("from a 12-megapixel photo to an upload", ("step", "p50 ms", "p90", "in runs of it"), steps)
    )
    return made


def layer_table(row: Measurement) -> Grid:
    """Where the time of one run goes, layer by layer, beside the shortest that this machine could take."""
    rows = tuple(
        (
            layer.name.lower(),
            "x".join(map(str, layer.shape[1:])),
            f"{layer.macs / 1000:,.0f}" if layer.macs else "-",
            f"{1000 * layer.ms:.1f}",
            f"{1000 * layer.shortest_ms:.1f}",
        )
        for layer in row.layers
    )
    whole = [
        1000 * sum(times)
        for times in zip(*((layer.ms, layer.shortest_ms) for layer in row.layers), strict=True)
    ]
    total = ("all", "", f"{row.macs / 1000:,.0f}", *(f"{time:.1f}" for time in whole))
    return Grid(
        f"{label(row)}, layer by layer", ("layer", "makes", "thousand MACs", "µs", "shortest"), (*rows, total)
    )


def against_ours(results: Results) -> Grid:
    """Other methods' cost as a multiple of ours, both measured in the same way in the same run."""
    rows = tuple(
        (row.subject, row.variant, where(row), f"{ratio:.2f}", unit)
        for row, base in pairs(results)
        for ratio, unit in [multiple(row, base)]
    )
    return Grid(
        "cost of other methods, ours is 1; of our other variants, int8 is 1",
        ("method", "variant", "on", "times ours", "of"),
        rows,
    )


def pairs(results: Results) -> list[tuple[Measurement, Measurement]]:
    """Every row of another method beside our row of the same variant and configuration; our other variants beside int8."""
    ours = {_configuration(row): row for row in results.rows if row.subject == OURS}
    found = []
    for row in results.rows:
        variant, *rest = _configuration(row)
        base = ours.get((variant if row.subject != OURS else "int8", *rest))
        if base is not None and base is not row:
            found.append((row, base))
    return found


def multiple(row: Measurement, base: Measurement) -> tuple[float, str]:
    """How many times as much a row costs, and in what unit: instructions, or time, by rounds where there are rounds."""
    if row.instructions is not None and base.instructions is not None:
        return row.instructions / base.instructions, "instructions"
    if len(row.round_p50_ms) == len(base.round_p50_ms) > 0:
        turns = sorted(a / b for a, b in zip(row.round_p50_ms, base.round_p50_ms, strict=True))
        return quantile(turns, 0.5), "time"
    return (row.p50_ms or 0) / (base.p50_ms or 1), "time"


def place(results: Results) -> str:
    """The kind of machine, and whether it was kept from using what no phone has."""
    return results.target + (" without AMX" if results.settings.get("amx") is False else "")


def where(row: Measurement) -> str:
    """Core, delegate and threads."""
    return ", ".join([row.cpu or row.delegate, *([f"{row.threads} threads"] if row.threads > 1 else [])])


def _configuration(row: Measurement) -> tuple[object, ...]:
    return row.variant, row.size, row.delegate, row.threads, row.cpu


def arm_tables(results: Results) -> list[Grid]:
    """Instructions by core, in all and by class."""
    lines = [
        (label(row), _core(row.cpu), row.instructions, row.classes or {}, row.macs, _same(row))
        for row in results.rows
    ]
    lines += [
        (stage.name, _core(stage.cpu), stage.instructions, stage.classes or {}, 0, "yes")
        for stage in results.stages
    ]
    rows = tuple(
        (
            what,
            core,
            number(count, ",d"),
            *(f"{classes.get(name, 0) / (count or 1):.0%}" for name in ("load_store", "simd", "dot_product")),
            f"{macs / count:.2f}" if macs and count else "-",
            same,
        )
        for what, core, count, classes, macs, same in lines
    )
    columns = ("what", "core", "instructions", "ld/st", "SIMD", "dot", "MACs", "as here")
    runtimes = ", ".join(dict.fromkeys(row.runtime for row in results.rows))
    return [Grid(f"executed A64 instructions, {runtimes}, one thread; not time", columns, rows)]


def _core(name: str | None) -> str:
    return (name or "-").removeprefix("cortex-")


def _same(row: Measurement) -> str:
    return "-" if row.same_as_host is None else "yes" if row.same_as_host else "no"


def phone_tables(results: Results) -> list[Grid]:
    """Times on a phone, what its delegates took, how it does when it gets warm, the steps of a photo."""
    taken = tuple(
        (
            label(row),
            f"{number(row.delegated_nodes, 'd')} of {number(row.nodes, 'd')}",
            number(row.partitions, "d"),
            " -> ".join(number(status, "d") for status in row.thermal or (None, None)),
            " -> ".join(number(value, ".1f") for value in row.celsius or (None, None)),
            _same(row),
            "yes" if row.valid else "; ".join(row.notes),
        )
        for row in results.rows
    )
    warm = tuple(
        (
            label(row),
            f"{len(row.sustained)} s",
            number(row.sustained[0].p50_ms),
            number(row.sustained[-1].p50_ms),
        )
        for row in results.rows
        if row.sustained
    )
    steps = tuple((stage.name, number(stage.p50_ms), number(stage.p90_ms)) for stage in results.stages)
    return [
        time_table(results),
        what_ran(results),
        Grid(
            "who ran it", ("model", "nodes taken", "partitions", "thermal", "°C", "as here", "valid"), taken
        ),
        tool_table(results),
        Grid("without a pause, ms", ("model", "for", "p50 of the first second", "of the last"), warm),
        energy_table(results),
        Grid("from photo to upload, on the phone", ("step", "p50 ms", "p90"), steps),
    ]


def energy_table(results: Results) -> Grid:
    """What a run takes by the phone's power rails; no lines where it was not measured."""
    return Grid(
        "energy of a run by the phone's power rails, mJ",
        ("model", "processors", "above idle", "idle, mW", "runs"),
        tuple(
            (
                label(row),
                number(row.energy.run_mj),
                number(row.energy.above_idle_mj),
                number(row.energy.idle_mw),
                str(row.energy.runs),
            )
            for row in results.rows
            if row.energy
        ),
    )


def what_ran(results: Results) -> Grid:
    """What the times of a phone without the app are of; no lines for the app's."""
    facts = results.environment
    clocks = Counter(
        (core["part"], core["max_mhz"], core["governor"])
        for core in facts.get("cores", ())
        if core["max_mhz"]
    )
    cores = [
        f"{count} x {part or 'core'} up to {clock} MHz" + (f" ({governor})" if governor else "")
        for (part, clock, governor), count in clocks.items()
    ]
    lines = (
        ("measured", str(facts.get("measured"))),
        ("on", str(facts.get("device"))),
        ("cores", ", ".join(cores) or "the phone does not say"),
        ("heat by", facts.get("heat") or "the phone does not say how warm it is"),
    )
    return Grid("what these times are", ("", ""), lines if "measured" in facts else ())


def tool_table(results: Results) -> Grid:
    """LiteRT's own tool beside ours."""
    rows = tuple(
        (
            label(row),
            number(row.p50_ms),
            number(tool.p50_ms),
            number(tool.avg_ms),
            number(tool.std_ms),
            number(tool.p95_ms),
            number(tool.init_ms, ".2f"),
            number(tool.first_ms, ".2f"),
            str(tool.runs),
        )
        for row in results.rows
        for tool in [row.benchmark_model]
        if tool is not None
    )
    columns = ("model", "our p50", "its median", "mean", "std", "p95", "init", "first", "runs")
    return Grid("beside LiteRT's benchmark_model, ms", columns, rows)


def training_tables(results: Results) -> list[Grid]:
    """Steps, beside the first of them, and the parts of those that were taken apart."""
    steps = tuple(
        (
            speed.name,
            f"{1000 * speed.seconds:.1f} ms" if speed.images_per_s else f"{speed.seconds:.0f} s",
            number(speed.images_per_s, ",.0f"),
            f"{quantile(turns, 0.5):.2f}" if turns else "-",
        )
        for speed in results.speeds
        for turns in [_turns(speed, results.speeds[0])]
    )
    parts = tuple((name, f"{share:.0%}") for speed in results.speeds for name, share in speed.parts.items())
    return [
        Grid("training and audit", ("what", "takes", "images/s", "plain steps"), steps),
        Grid("where a co-training step goes", ("part, timed alone", "share"), parts),
    ]


def _turns(speed: Speed, base: Speed) -> list[float]:
    pairs = zip(speed.round_seconds, base.round_seconds, strict=False)
    return [a / b for a, b in pairs]


def cryptographic_tables(results: Results) -> list[Grid]:
    """What every way to the answer takes, where its time goes, and in words what it is worth."""
    found = [(f"{one.method}, {one.network}", one) for one in results.inferences]
    costs = tuple(
        (
            name,
            str(one.images),
            f"{one.accuracy:.1%} ({one.ci95[0]:.1%} - {one.ci95[1]:.1%})",
            number(one.same_answers, ".1%"),
            number(one.largest_difference, ".4f"),
            f"{one.p50_ms:,.3f}",
            f"{one.p90_ms:,.3f}",
            f"{one.cpu_ms:,.3f}",
            number(one.times_plain, ",.0f"),
            f"{one.sent_bytes:,.0f}",
            f"{one.received_bytes:,.0f}",
            f"{one.once_bytes:,}",
        )
        for name, one in found
    )
    parts = tuple(
        (name, stage.name, number(stage.p50_ms, ",.3f"), number(stage.p90_ms, ",.3f"))
        for name, one in found
        for stage in one.stages
    )
    words = tuple((name, one.provider_learns, one.assumes, one.not_promised) for name, one in found)
    columns = (
        "method, network", "images", "right, 95 %", "as plain", "logit off by", "p50 ms", "p90", "of processors",
        "times plain", "bytes sent", "received", "once",
    )  # fmt: skip
    return [
        Grid("from photo to answer, one image at a time", columns, costs),
        Grid("where the time goes", ("method, network", "part", "p50 ms", "p90"), parts),
        Grid(
            "what each promises",
            ("method, network", "the provider learns", "if", "not promised"),
            words,
        ),
    ]


TARGETS: dict[str, Callable[[Results], list[Grid]]] = {
    "host": host_tables,
    "arm": arm_tables,
    "phone": phone_tables,
    "training": training_tables,
    "cryptographic": cryptographic_tables,
}
"""Target of a file -> its tables."""
