"""`python -m tests.load`: load and abuse for the service, on this machine's loopback alone.

python -m tests.load load demo/export --clients 1,8,64 --seconds 10
"""

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.console import emit_json, note, show, table
from sfumato.core.errors import SfumatoError

if TYPE_CHECKING:
    from tests.load.abuse import Report

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Export = Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")]
Json = Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")]


@app.command("load")
def load_command(
    export: Export,
    clients: Annotated[str, typer.Option(help="Numbers of clients, comma separated.")] = "1,8,64",
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of each measurement.")] = 10.0,
    form: Annotated[
        str | None, typer.Option(help="png, packed or word; else an answer bundle's word, or a PNG.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Services, each on a port of its own.")] = 1,
    as_json: Json = False,
) -> None:
    """Throughput and waiting times beside ONNX Runtime alone, in the same run."""
    from dataclasses import asdict

    from tests.load.cases import checked_form
    from tests.load.load import load

    from sfumato.runtime.contract import read_contract

    form = checked_form(read_contract(export), form)
    numbers = [int(part) for part in clients.split(",")]
    rows = list(load(export, clients=numbers, seconds=seconds, form=form, processes=processes))
    if as_json:
        emit_json({"schema": "sfumato-load/2", "form": form, "rows": [asdict(row) for row in rows]})
        return
    cells = [
        (
            row.name, f"{row.per_second:,.0f}", f"{100 * row.share:.0f} %", f"{row.cpu_ms:.2f}",
            milliseconds(row.p50_ms), milliseconds(row.p99_ms), row.refused, row.wrong,
        )
        for row in rows
    ]  # fmt: skip
    columns = ("", "per s", "share", "CPU", "p50", "p99", "refused", "wrong")
    show(
        table(
            f"uploads ({form}), times in ms; network: onnxruntime, batches of 16, one thread",
            columns,
            cells,
        )
    )
    end(sum(row.wrong + row.refused for row in rows), "answers were wrong or refused")


@app.command("soak")
def soak_command(
    export: Export,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the run.")] = 600.0,
    growth: Annotated[
        float, typer.Option(help="Most MB by which the second half may exceed the first.")
    ] = 10.0,
) -> None:
    """Steady load for a long time: memory must stay flat, and every answer right."""
    from tests.load.endurance import soak

    samples = []
    for sample in soak(export, seconds=seconds):
        samples.append(sample)
        note(
            f"{sample.minutes:5.1f} min  {sample.resident_mb:6.1f} MB  {sample.per_second:6.0f}/s  "
            f"p99 {sample.p99_ms:.0f} ms  refused {sample.refused}  wrong {sample.wrong}"
        )
    half = len(samples) // 2
    grown = samples[-1].resident_mb - max(sample.resident_mb for sample in samples[:half])
    note(f"grown by {grown:.1f} MB since the first half")
    end(sum(sample.wrong + sample.refused for sample in samples), "answers were wrong or refused")
    end(max(0.0, grown - growth), f"MB more than the {growth:g} that are allowed")


@app.command("overload")
def overload_command(
    export: Export,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the run.")] = 10.0,
    clients: Annotated[int, typer.Option(min=100, help="Clients that never pause.")] = 512,
) -> None:
    """More than can be answered: 200 in time or 503 at once."""
    from tests.load.endurance import DEADLINE_MS, overload

    best, found = overload(export, seconds=seconds, clients=clients)
    share = 100 * found.per_second / best.per_second
    note(
        f"right answers: {found.per_second:.0f}/s, {share:.0f} % of the {best.per_second:.0f}/s for 32 clients"
    )
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(found.statuses.items()))
    note(f"{statuses}; accepted within p50 {found.quantile(0.5):.0f} ms, p99 {found.quantile(0.99):.0f} ms")
    end(found.wrong, "answers were wrong")
    end(
        found.statuses.total() - found.statuses[200] - found.statuses[503], "answers were neither 200 nor 503"
    )
    end(int(not found.statuses[503]), "refusals were expected: more --clients")
    end(max(0.0, found.quantile(0.99) - 2 * DEADLINE_MS - 500), "ms too late were the slowest accepted ones")


@app.command("crash")
def crash_command(
    export: Export, kills: Annotated[int, typer.Option(min=1, help="How often it is killed.")] = 3
) -> None:
    """kill -9 and a new start under load: no wrong answer."""
    from tests.load.endurance import crash

    found = crash(export, kills=kills)
    statuses = ", ".join(
        f"{status or 'cut off'}: {count:,}" for status, count in sorted(found.statuses.items())
    )
    note(f"{statuses}; wrong {found.wrong}")
    end(found.wrong + int(not found.statuses[200]), "answers were wrong, or none came")


@app.command("malformed")
def malformed_command(
    export: Export,
    count: Annotated[int, typer.Option(min=1, help="Uploads.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Damaged uploads, strange headers, bombs: each is refused, none is a failure of the service."""
    from tests.load.abuse import malformed

    show_report(malformed(export, count=count, seed=seed))


@app.command("hostile")
def hostile_command(
    export: Export,
    connections: Annotated[int, typer.Option(min=600, help="Connections of the crowd.")] = 2000,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long clients hold what they got.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Clients that do not read, do not send, send without end or come in crowds, and tiny files of huge pictures."""
    from dataclasses import asdict

    from tests.load.abuse import hostile

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(connections + 512, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    report = hostile(export, connections=min(connections, wanted - 512), seconds=seconds)
    if as_json:
        emit_json({"schema": "sfumato-hostile/1", "attacks": [asdict(one) for one in report.figures]})
    else:
        columns = ("attack", "MB before", "MB at most", "others asked", "refused", "slowest, s")
        cells = [
            (one.attack, f"{one.before_mb:.0f}", f"{one.peak_mb:.0f}", one.asked, one.refused, f"{one.slowest:.2f}")
            for one in report.figures
        ]  # fmt: skip
        show(table("hostile clients", columns, cells))
    show_report(report)


@app.command("ray")
def ray_command(
    export: Export,
    python: Annotated[Path, typer.Option(help="Of an environment with requirements/ray.txt.")],
    clients: Annotated[str, typer.Option(help="Numbers of clients, comma separated.")] = "1,8,64",
    seconds: Annotated[float, typer.Option(min=1, help="Length of each measurement.")] = 5.0,
    nodes: Annotated[int, typer.Option(min=1, max=2, help="Two need root; the second one is killed.")] = 1,
    crowd: Annotated[int, typer.Option(min=1, help="Clients of the overload.")] = 900,
    fast: Annotated[
        bool, typer.Option("--fast/--as-ray-is", help="With or without cloud/deploy/ray.env.")
    ] = True,
) -> None:
    """Ray Serve: processor time of all its processes for an upload; overload; a replica and a node that are killed."""
    import os
    import signal

    import uvloop
    from tests.load.cases import make_cases
    from tests.load.clients import Outcome, closed_loop
    from tests.load.cluster import BEARER, SECOND, cluster_of, cost, under_load

    cases = make_cases(export, more=BEARER)
    wrong = 0

    def say(what: str, found: Outcome) -> None:
        nonlocal wrong
        wrong += found.wrong
        statuses = ", ".join(
            f"{status or 'cut off'}: {count:,}" for status, count in sorted(found.statuses.items())
        )
        note(
            f"{what}: {found.per_second:.0f}/s, accepted within p50 {found.quantile(0.5):.0f} ms, "
            f"p99 {found.quantile(0.99):.0f} ms; {statuses}; wrong {found.wrong}"
        )

    with cluster_of(
        python, export, nodes=nodes, fast=fast, replicas=2 * nodes, rate=1e6, burst=10**6
    ) as cluster:
        for number in map(int, clients.split(",")):
            spent = cost(cluster, cases, clients=number, seconds=seconds)
            say(f"{number} clients, {spent.cpu_ms:.2f} ms of processor time an upload", spent.outcome)
        many = closed_loop([cluster.port], cases, clients=crowd, seconds=2 * seconds, heed=True)
        say(f"{crowd} clients that heed Retry-After", uvloop.run(many))
        kill = under_load(
            cluster, cases, lambda: os.kill(cluster.replicas()[0], signal.SIGKILL), seconds=seconds
        )
        say("a replica killed", kill)
        if nodes == 2:
            say(
                "a node killed",
                under_load(cluster, cases, lambda: cluster.kill_node(SECOND), seconds=seconds),
            )
    end(wrong, "answers were wrong")


def show_report(report: "Report") -> None:
    """Print a report; exit code 1 if anything was wrong."""
    rows = [(kind, status or "closed", count) for (kind, status), count in sorted(report.answers.items())]
    show(table("abuse", ("kind", "answer", "times"), rows))
    note(f"memory of the service at the end: {report.resident_mb:.0f} MB")
    for line in report.failures[:20]:
        note(line)
    end(len(report.failures), "failures")


def milliseconds(value: float | None) -> str:
    """For a table."""
    return "" if value is None else f"{value:.1f}"


def end(amount: float, what: str) -> None:
    """Fail if there is any."""
    if amount:
        raise SfumatoError(f"{amount:g} {what}")


if __name__ == "__main__":
    try:
        app()
    except SfumatoError as error:
        typer.echo(f"sfumato: {error}", err=True)
        raise SystemExit(error.exit_code) from None
