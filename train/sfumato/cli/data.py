"""`sfumato data`: look at a data set before training on it, and at what is kept of data sets."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sfumato.core import console
from sfumato.core.options import names

if TYPE_CHECKING:
    from pathlib import Path

    from sfumato.data.inspection import Facts

app = typer.Typer(help="Look at data sets; clean their cache.", no_args_is_help=True)
_MANY_CLASSES = 24


@app.callback()
def group() -> None:
    """Look at data sets; clean their cache."""


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


@app.command()
def clean(
    pictures: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0, help="What decoded pictures may take; else $SFUMATO_CACHE_GB, else 20."
        ),
    ] = None,
    references: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0,
            help="What the audit's networks on clean photos may take; else $SFUMATO_REFERENCES_GB, else 2.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all that is not in use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Bring the cache down to its bounds, or to less: what was used longest ago leaves, what is in use stays.

    All of it can be made again, at the price of the time it took. Files that the cache did not make are not touched.
    """
    from sfumato.audit import clean_cache
    from sfumato.core.errors import UsageError
    from sfumato.core.files import sweep
    from sfumato.data import cache

    if everything and (pictures is not None or references is not None):
        raise UsageError("--all leaves nothing: give it alone, or gigabytes for one of the two")
    folder = cache.cache_folder()
    bounds = {
        "decoded pictures": _bytes(pictures, cache.cache_limit(), everything),
        "clean references": _bytes(references, clean_cache.limit(), everything),
    }
    before = _held(folder)
    cache.sweep_decodes(folder)
    cache.make_room(folder, bounds["decoded pictures"])
    sweep(clean_cache.folder())
    clean_cache.make_room(bounds["clean references"])
    after = _held(folder)
    if as_json:
        rows = {
            name: {
                "bound_bytes": bounds[name],
                "bytes_before": sum(before[name]),
                "bytes": sum(after[name]),
                "entries_before": len(before[name]),
                "entries": len(after[name]),
            }
            for name in bounds
        }
        console.emit_json({"folder": str(folder), "caches": rows})
        return
    figures = [
        [
            name,
            len(before[name]),
            _gigabytes(sum(before[name])),
            len(after[name]),
            _gigabytes(sum(after[name])),
            _gigabytes(bounds[name]),
        ]
        for name in bounds
    ]
    columns = ["what", "entries before", "GB", "entries now", "GB", "bound, GB"]
    console.show(console.table(f"cache in {escape(str(folder))}", columns, figures))


def _bytes(given: float | None, bound: int, everything: bool) -> int:
    return 0 if everything else bound if given is None else int(given * 1e9)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3f}"


def _held(folder: "Path") -> dict[str, list[int]]:
    """Bytes of every entry, by what it is."""
    from sfumato.audit import clean_cache
    from sfumato.data import cache

    return {
        "decoded pictures": [size for _, size, _ in cache.entries(folder)],
        "clean references": [size for _, size, _ in clean_cache.entries()],
    }


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
