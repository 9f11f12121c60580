"""`sfumato data`: look at a data set before training on it."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sfumato.core import console
from sfumato.core.options import names

if TYPE_CHECKING:
    from sfumato.data.inspection import Facts

app = typer.Typer(help="Look at data sets.", no_args_is_help=True)
_MANY_CLASSES = 24


@app.callback()
def group() -> None:
    """Look at data sets."""


@app.command()
def inspect(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="e.g. synthetic, folder:PATH, utkface:PATH,size=64")
    ],
    keep: Annotated[str, typer.Option(help="Attributes the cloud should learn, with commas.")] = "",
    hide: Annotated[str, typer.Option(help="Attributes it should not, with commas; else all others.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Counts per split and class, skipped files, and what the kept labels say about the others."""
    from dataclasses import asdict

    from sfumato.data.inspection import inspect as look

    facts = look(spec, keep=names(keep), hide=names(hide))
    if as_json:
        found = asdict(facts)
        # The key of 0.1, for one release.
        console.emit_json({**found, "entanglement": found["label_dependence"]})
    else:
        _show(facts)


def _show(facts: "Facts") -> None:
    height, width = facts.size
    typer.echo(f"{facts.spec}\nid {facts.id}, {facts.images} images, {width} x {height} pixels")
    rows: list[list[object]] = [["all", "", *facts.splits.values()]]
    for attribute, classes in facts.attributes.items():
        if len(classes) > _MANY_CLASSES:
            rows.append([escape(attribute), f"({len(classes)} classes)", *[""] * len(facts.splits)])
            continue
        for index, (name, counts) in enumerate(classes.items()):
            rows.append([escape(attribute) if index == 0 else "", escape(name), *counts])
    console.show(console.table("images", ["attribute", "class", *facts.splits], rows))
    given = ", ".join(facts.label_dependence[0].given) if facts.label_dependence else ""
    shares = [
        [
            escape(row.hidden),
            f"{row.entropy_bits:.3f}",
            f"{row.conditional_bits:.3f}",
            f"{row.majority:.2%}",
            f"{row.label_only:.2%}",
        ]
        for row in facts.label_dependence
    ]
    typer.echo(f"what the kept labels (Y: {given or 'none'}) say about the others (S)")
    columns = ["S", "H(S) bits", "H(S|Y) bits", "majority", "label-only floor"]
    console.show(console.table("label dependence", columns, shares))
    if facts.skipped:
        console.note(f"{len(facts.skipped)} files left out: " + "; ".join(facts.skipped[:3]))
