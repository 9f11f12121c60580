"""LiteRT's own tool for Android, `benchmark_model`, given by the user: what to ask of it, and what it answers.

Its output was read in LiteRT's source (tflite/tools/benchmark/benchmark_model.cc, stats_calculator.h) and in logs that others
published; it was never run on a phone here.

    times = parse_output(text)
    times.p50_ms
"""

import re
from collections.abc import Mapping

from sfumato.bench.results import ToolTimes
from sfumato.core.errors import SfumatoError

PROGRAM = "benchmark_model"
NUMBER = r"([-+\d.e]+)"
PHASE = re.compile(rf"\b(count|first|curr|min|max|avg|std|p5|median|p95)={NUMBER}")
SUMMARY = re.compile(
    rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}, "
    rf"Warmup \(avg\): {NUMBER}, Inference \(avg\): {NUMBER}"
)


def arguments(model: str, *, threads: int, warmup: int, runs: int, seconds: float) -> list[str]:
    """The options that make it do what the guest does: as many runs, or as long, on the CPU by XNNPACK.

    Its warm-up holds the first run. `min_secs` is a second by default, which would make small networks run more often.
    """
    values: Mapping[str, object] = {
        "graph": model,
        "num_threads": threads,
        "warmup_runs": warmup + 1,
        "warmup_min_secs": 0,
        "num_runs": runs,
        "min_secs": 0,
        "max_secs": seconds,
        "use_xnnpack": "true",
    }
    return [f"--{name}={value}" for name, value in values.items()]


def parse_output(text: str, *, sha256: str) -> ToolTimes:
    """Read what it printed: the second line of counts, after the warm-up's, and the summary.

    Raises:
        SfumatoError: it printed something else.
    """
    phases = [dict(PHASE.findall(line)) for line in text.splitlines() if re.search(r"\bcount=\d", line)]
    summary = SUMMARY.search(text)
    if len(phases) < 2 or summary is None:
        raise SfumatoError(f"{PROGRAM} printed no times: {last_words(text)}")
    # Where all runs took equally long it prints `curr` alone. Older releases print no percentiles.
    found = {name: float(value) / 1e3 for name, value in phases[1].items() if name != "count"}
    init, first, warmup, average = (float(value) / 1e3 for value in summary.groups())
    same = found["curr"]
    return ToolTimes(
        sha256=sha256,
        runs=int(float(phases[1]["count"])),
        init_ms=init,
        first_ms=first,
        warmup_ms=warmup,
        avg_ms=average,
        std_ms=found.get("std", 0.0),
        min_ms=found.get("min", same),
        max_ms=found.get("max", same),
        p5_ms=found.get("p5"),
        p50_ms=found.get("median"),
        p95_ms=found.get("p95"),
    )


def last_words(text: str) -> str:
    """What a program says last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing at all"
