"""`sfumato advise`: which mode fits a question, before anything long is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.options import names

if TYPE_CHECKING:
    from sfumato.cli.advise_run import Report

TITLES = {"phone": "phone alone", "larger": "phone alone x10", "cloud": "clean cloud network"}
"""The phone alone: a classifier of the local network's cost, and one of ten times that."""
WORDS = {
    "answer": "answer mode: the phone sends the code word of its answer",
    "picture": "picture mode: uploads carry parts of the picture",
    "phone": "run the {network} on the phone: no cloud is needed to recognise",
}
NETWORKS = {"clean": "clean cloud network", "larger": "larger network"}


def command(
    data: Annotated[str, typer.Option(help="Data SPEC, for example synthetic or utkface:PATH,size=64.")],
    keep: Annotated[str, typer.Option(help="Attributes the cloud shall recognise, comma separated.")],
    hide: Annotated[str, typer.Option(help="Attributes it shall not recognise, comma separated.")] = "",
    cloud: Annotated[
        str, typer.Option(help="resnet, module:factory of your own, or NAME.onnx, which is taken as it is.")
    ] = "resnet",
    private_cloud: Annotated[
        bool,
        typer.Option("--private-cloud", help="The cloud network may not leave the cloud, whatever it costs."),
    ] = False,
    max_drop: Annotated[
        float,
        typer.Option(help="Points that the phone's own answer may lose against the clean cloud network."),
    ] = 1.5,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for networks and result; an interrupted run goes on there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Say in minutes whether a question needs the picture, the answer, or no cloud at all."""
    from sfumato.cli.advise_run import advise, configuration
    from sfumato.core.console import emit_json, note
    from sfumato.core.errors import UsageError
    from sfumato.training.advice import Limits

    if not 0 < max_drop < 100:
        raise UsageError(f"--max-drop takes points between 0 and 100, not {max_drop:g}")
    config = configuration(data, names(keep), names(hide), cloud=cloud, seed=seed)
    report = advise(config, out=out, private_cloud=private_cloud, limits=Limits(drop=max_drop))
    if as_json:
        emit_json(report.to_json())
        return
    show_report(report)
    if report.advice.mode != "phone":
        hidden = f" --hide {','.join(report.hide)}" if report.hide else ""
        start = f"sfumato train --data {data} --keep {','.join(report.keep)}{hidden}"
        note(f"next: {start} --mode {report.advice.mode} --out runs/mine")


def show_report(report: "Report") -> None:
    """Print the tables and the recommendation."""
    from sfumato.core.console import show, table

    rows = [
        (
            TITLES[row.network],
            row.attribute,
            percent(row.validation),
            f"{percent(row.test)} {interval(row.ci95, 100)}",
            "" if row.network == "cloud" else f"{row.behind:+.1f} {interval(row.behind_ci95, 1)}",
        )
        for row in report.networks
    ]
    columns = ("network", "keeps", "validation", "test [95 %]", "points behind [95 %]")
    show(table(f"{report.data}: who finds the answer", columns, rows))
    cores = list(next(iter(report.costs.values())).instructions)
    how = {True: "counted", False: "estimated from counted networks"}[report.costs["cloud"].counted]
    prices = [
        (
            TITLES[name] + (" on the phone" if name == "cloud" else ""),
            f"{one.macs / 1e6:.2f}",
            *(f"{one.instructions[core] / 1e6:.2f}" for core in cores),
            f"{one.bytes / 1000:.0f}",
        )
        for name, one in report.costs.items()
    ]
    show(
        table(f"as int8 on the phone, an image: millions ({how})", ("network", "MACs", *cores, "kB"), prices)
    )
    if report.hidden:
        worth = [
            (
                row.attribute,
                percent(row.majority),
                percent(row.label_only),
                f"{percent(row.clean)} {interval(row.ci95, 100)}",
            )
            for row in report.hidden
        ]
        titles = ("hidden", "majority", "label-only floor", "quick attacker [95 %]")
        show(table("what the hidden attributes are worth on clean photos", titles, worth))
    typer.echo(f"\nRecommendation: {headline(report.advice.mode, report.advice.network)}.\n")
    for reason in report.advice.reasons:
        typer.echo(f"  {reason}")
    for caution in report.advice.cautions:
        typer.echo(f"  Note: {caution}")


def headline(mode: str, network: str | None) -> str:
    """The recommendation in a few words.

    >>> headline("phone", "clean")
    'run the clean cloud network on the phone: no cloud is needed to recognise'
    """
    return WORDS[mode].format(network=NETWORKS.get(network or "", ""))


def percent(share: float) -> str:
    """A fraction of 1 as text.

    >>> percent(0.987)
    '98.7 %'
    """
    return f"{100 * share:.1f} %"


def interval(bounds: Sequence[float], factor: float) -> str:
    """Bounds in brackets.

    >>> interval((0.5, 0.75), 100)
    '[50.0, 75.0]'
    """
    return "[" + ", ".join(f"{factor * bound:.1f}" for bound in bounds) + "]"
