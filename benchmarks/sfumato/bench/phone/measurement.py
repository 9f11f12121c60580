"""From the app's result file to the fields of ours.

row = make_measurement(subject, "nnapi", 1, result)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sfumato.bench.phone.protocol import PhoneResult
from sfumato.bench.results import Measurement, Stage, Window
from sfumato.bench.stages import timed_stage
from sfumato.bench.standard import output_digest
from sfumato.bench.subjects import Subject
from sfumato.bench.timing import Times
from sfumato.runtime.interpreter import open_model

ROUNDS = 10
"""Parts of the timed runs, one after the other; their medians show how steady the phone was."""
BACKGROUND = "the app was not in the foreground all the time: keep the phone unlocked"


def make_measurement(subject: Subject, delegate: str, threads: int, result: PhoneResult) -> Measurement:
    """One configuration; not valid if the app was not in the foreground."""
    facts = {**subject.facts(), **({"nodes": result.nodes} if result.nodes is not None else {})}
    whole = result.fully_accelerated and delegate != "cpu"
    return Measurement(
        **facts,
        app=True,
        runtime=result.runtime,
        delegate="xnnpack" if delegate == "cpu" else delegate,
        threads=threads,
        delegated_nodes=facts["nodes"] if whole else result.delegated_nodes,
        partitions=result.partitions,
        init_ms=result.init_ms,
        first_ms=result.first_ms,
        **time_fields(result.runs_ns, subject),
        peak_kb=result.peak_kb,
        sustained=windows(result),
        thermal=(result.thermal.before, result.thermal.after),
        output_sha256=result.output_sha256,
        same_as_host=same_as_host(subject, result),
        valid=result.foreground,
        notes=() if result.foreground else (BACKGROUND,),
    )


def time_fields(runs_ns: Sequence[int], subject: Subject) -> dict[str, Any]:
    """The fields of a row that follow from the nanoseconds of its timed runs, in the order they were made."""
    times = Times(tuple(np.array_split(np.array(runs_ns), ROUNDS if len(runs_ns) >= ROUNDS else 1)))
    return {
        "p50_ms": times.p(50),
        "p90_ms": times.p(90),
        "p99_ms": times.p(99),
        "runs": times.runs,
        "round_p50_ms": times.medians if len(times.rounds) > 1 else (),
        "gmac_per_s": subject.facts()["macs"] / 1e6 / times.p(50),
    }


def same_as_host(subject: Subject, result: PhoneResult) -> bool | None:
    """Whether this computer's interpreter gives the same bytes; None where the app gave no digest."""
    if not result.output_sha256:
        return None
    return result.output_sha256 == output_digest(open_model(subject.content))


def windows(result: PhoneResult) -> tuple[Window, ...]:
    """The seconds of sustained running."""
    found = result.sustained.windows if result.sustained is not None else ()
    return tuple(
        Window(runs=w.runs, p50_ms=w.p50_ns / 1e6, p90_ms=w.p90_ns / 1e6, thermal=w.thermal) for w in found
    )


def make_stages(result: PhoneResult) -> list[Stage]:
    """The steps between photo and upload; none where they were not timed."""
    return [
        timed_stage(name.removesuffix("_ns"), Times((np.array(values),)))
        for name, values in result.stages or ()
        if values
    ]
