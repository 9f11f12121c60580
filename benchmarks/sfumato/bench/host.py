"""`sfumato bench host`: every model of an export, and other methods, on this computer, taking turns.

results = bench_host(export_subjects(export, ["int8"]), HostConfig(threads=(1, 2)), model=PhoneModel.load(export))
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.bench.arithmetic import shortest_ms
from sfumato.bench.cold import Cold, measure_cold
from sfumato.bench.layers import measure_layers
from sfumato.bench.peak import measure_machine
from sfumato.bench.results import Machine, Measurement, Results
from sfumato.bench.stages import measure_stages
from sfumato.bench.standard import output_digest, standard_input
from sfumato.bench.subjects import OURS, Subject
from sfumato.bench.timing import Times, interleave
from sfumato.core.provenance import processor, provenance
from sfumato.runtime.delegate_lint import xnnpack_partitions
from sfumato.runtime.interpreter import Session, find_runtime, open_model
from sfumato.runtime.phone_model import PhoneModel


class HostConfig(BaseModel):
    """How it is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: tuple[int, ...] = Field(default=(1,), min_length=1)
    without_xnnpack: bool = False
    """Measure without XNNPACK too."""
    layers: bool = False
    """Find out where the time of each of our models goes."""
    amx: bool = True
    """A record for the result: False after `sfumato.bench.amx.refuse_amx`, which comes before the first model is opened."""
    rounds: int = Field(default=10, ge=2)
    runs: int = Field(default=500, ge=10)
    """Timed runs of each configuration ..."""
    seconds: float = Field(default=10.0, gt=0)
    """... or as many as fit into this time."""


def bench_host(
    subjects: Sequence[Subject],
    config: HostConfig,
    *,
    model: PhoneModel | None = None,
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Measure models, the steps around the network, and the machine itself.

    Args:
        subjects: the models.
        config: how.
        model: the export whose way from photo to upload is timed; None leaves that out.
        watch: called with the name of each part as it begins.
    """
    cases = [
        Case(subject, threads, xnnpack)
        for subject in subjects
        for threads in config.threads
        for xnnpack in ((True, False) if config.without_xnnpack else (True,))
    ]
    watch("the machine")
    machine, load = measure_machine(), os.getloadavg()
    watch("fresh processes")
    cold = [measure_cold(case.subject.content, threads=case.threads, xnnpack=case.xnnpack) for case in cases]
    watch("models, taking turns")
    sessions = [case.open() for case in cases]
    calls = {case.id: session.interpreter.invoke for case, session in zip(cases, sessions, strict=True)}
    times = interleave(calls, rounds=config.rounds, runs=config.runs, seconds=config.seconds)
    rows = [
        case.row(times[case.id], start, session, machine)
        for case, start, session in zip(cases, cold, sessions, strict=True)
    ]
    if config.layers:
        rows = [with_layers(case, row, machine, watch) for case, row in zip(cases, rows, strict=True)]
    watch("from photo to upload")
    stages = () if model is None else measure_stages(model, **_turns(config))
    return Results(
        target="host",
        environment={**provenance(), **computer(), "load_before_and_after": [load[0], os.getloadavg()[0]]},
        rows=tuple(rows),
        stages=stages,
        machine=machine,
        settings=config.model_dump(mode="json"),
    )


class Case:
    """One model in one configuration."""

    def __init__(self, subject: Subject, threads: int, xnnpack: bool) -> None:
        self.subject, self.threads, self.xnnpack = subject, threads, xnnpack
        self.id = f"{subject.id}-{threads}-{xnnpack}"

    def open(self) -> Session:
        """An interpreter whose input is set and which has run once."""
        session = open_model(self.subject.content, threads=self.threads, xnnpack=self.xnnpack)
        (entry,) = session.inputs.values()
        session.run(standard_input(entry))
        return session

    def row(self, times: Times, cold: Cold, session: Session, machine: Machine) -> Measurement:
        """The result."""
        facts, p50 = self.subject.facts(), times.p(50)
        # The roof is that of one thread and of the kernels in XNNPACK.
        roof = shortest_ms(self.subject.layers, machine, int8=self.subject.int8)
        return Measurement(
            **facts,
            runtime=f"{session.runtime.name} {session.runtime.version}",
            delegate="xnnpack" if self.xnnpack else "none",
            threads=self.threads,
            **delegation(session, facts["nodes"]),
            init_ms=cold.init_ms,
            first_ms=cold.first_ms,
            p50_ms=p50,
            p90_ms=times.p(90),
            p99_ms=times.p(99),
            runs=times.runs,
            round_p50_ms=times.medians,
            peak_kb=cold.peak_kb,
            gmac_per_s=facts["macs"] / 1e6 / p50,
            roofline_fraction=roof / p50 if self.threads == 1 else None,
            output_sha256=output_digest(session),
        )


def with_layers(case: Case, row: Measurement, machine: Machine, watch: Callable[[str], None]) -> Measurement:
    """The row with its layers, if it is one of ours with XNNPACK on one thread."""
    subject = case.subject
    if subject.name != OURS or case.threads != 1 or not case.xnnpack:
        return row
    watch(f"layers of {subject.id}")
    return row.model_copy(update={"layers": measure_layers(subject.content, machine, int8=subject.int8)})


def delegation(session: Session, nodes: int) -> dict[str, Any]:
    """How many nodes XNNPACK took, and in how many pieces; None where the runtime does not tell."""
    details = getattr(session.interpreter, "_get_ops_details", None)
    if details is None:
        return {"delegated_nodes": None, "partitions": None}
    left = sum(entry["op_name"] != "DELEGATE" for entry in details())
    partitions = xnnpack_partitions(session)
    # The runtime lists all nodes and, behind them, one per partition.
    return {
        "delegated_nodes": nodes if partitions == 1 else nodes - left if partitions else 0,
        "partitions": partitions,
    }


def computer() -> dict[str, Any]:
    """What kind of machine this is."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "processor": processor()["name"],
        "cores": os.cpu_count(),
        "governor": governor.read_text().strip() if governor.exists() else None,
        "runtime": "{0.name} {0.version}".format(find_runtime()),
    }


def _turns(config: HostConfig) -> dict[str, Any]:
    return {"rounds": config.rounds, "runs": config.runs, "seconds": config.seconds}
