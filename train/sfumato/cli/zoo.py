"""`sfumato zoo`: exports that ship with their audits."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.zoo.index import Entry, Hidden
    from sfumato.zoo.making import Made

AsJson = Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of an export, as `sfumato zoo` lists it.")]

app = typer.Typer(
    help="List, fetch, make and check exports that ship with their audits.", invoke_without_command=True
)


@app.callback()
def command(context: typer.Context, as_json: AsJson = False) -> None:
    """List the zoo: what each export keeps and hides, its figures, its data and how it was made."""
    if context.invoked_subcommand is not None:
        return
    from sfumato.core.console import emit_json, show, table
    from sfumato.zoo.index import SHIPPED, shipped_index

    index = shipped_index()
    if as_json:
        listed = index.to_json()
        for entry, plain in zip(index.entries, listed["entries"], strict=True):
            plain["in_wheel"] = (SHIPPED / entry.name).is_dir()
        emit_json(listed)
        return
    show(table("the zoo", COLUMNS, [row(entry) for entry in index.entries]))
    for entry in index.entries:
        typer.echo(f"{entry.name}: {entry.question}")
        typer.echo(f"  data: {entry.data.title} ({entry.data.licence})")
        typer.echo(f"  made by: {entry.command}")


COLUMNS = ("name", "kept", "clean", "guessed of others", "audit", "upload", "bits, at most", "size")


def row(entry: "Entry") -> tuple[str, ...]:
    """An entry in the list and in docs/zoo.md."""
    found = entry.figures
    return (
        entry.name,
        ", ".join(f"{one.name} {one.accuracy:.1%}" for one in found.kept),
        ", ".join(f"{one.clean_accuracy:.1%}" for one in found.kept),
        ", ".join(map(guessed, found.hidden)) or "-",
        f"{found.verdict.replace('_', ' ')} ({found.plan})",
        f"{found.upload_bytes:,.0f} byte{'' if found.upload_bytes == 1 else 's'}",
        f"{found.bits_at_most:.2f}",
        f"{entry.bytes / 1000:,.0f} kB",
    )


def guessed(hidden: "Hidden") -> str:
    """What an upload tells of an attribute: the best guess from it, and without it."""
    return f"{hidden.name} {hidden.accuracy:.1%} ({hidden.floor:.1%})"


@app.command()
def get(
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder of the export.")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FOLDER|URL", help="A zoo that has the files; else the wheel."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Ed25519 key (PEM) of that zoo's maker: take its signed index."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an export with its audit into a folder; every file is checked by SHA-256 first."""
    from sfumato.core.console import emit_json, note
    from sfumato.zoo.fetch import get as fetch

    entry = fetch(name, out, source=source, public_key=public_key, overwrite=overwrite)
    if as_json:
        emit_json({"schema": "sfumato-zoo-get/1", "out": str(out), "entry": entry.model_dump(mode="json")})
    note(
        f"wrote {out}: {len(entry.files)} files, {entry.bytes:,} bytes, sha256 as in the index. "
        f"Terms of its data: {out / 'licence.md'}"
    )


@app.command()
def make(
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run, the export, the audit and a zoo of one.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder in which the data set's folder lies; else the current one.")
    ] = None,
    steps: Annotated[
        bool, typer.Option("--print", help="Print the commands that this one stands for, and end.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(metavar="ZOO", help="Put the result into this zoo; else OUT/zoo.")
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option("--sign-with", help="Ed25519 private key (PEM): sign the zoo's index.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train, export and audit an export again, and compare it with the one of the wheel. The same command goes on."""
    from sfumato.core.console import emit_json, note
    from sfumato.core.errors import UsageError
    from sfumato.runtime.signing import read_private_key
    from sfumato.zoo.recipes import create, data_place

    recipe = create(name)
    if steps:
        for line in recipe.steps:
            typer.echo(line)
        return
    if out is None:
        raise UsageError("give --out DIR for what is made, or --print")
    data_place(recipe, data)  # found out before torch and TensorFlow are loaded
    key = None if sign_with is None else read_private_key(sign_with)

    from sfumato.cli.demo_run import watched
    from sfumato.zoo.making import make as make_entry

    made = make_entry(recipe, out, data=data, into=into, signer=key, watched=watched)
    if as_json:
        emit_json(
            {
                "schema": "sfumato-zoo-make/1",
                "same_data": made.same_data,
                "differing_files": made.differing_files,
                "entry": made.entry.model_dump(mode="json"),
            }
        )
    else:
        show_made(made)
    note(f"wrote {made.zoo / made.entry.name}")


def show_made(made: "Made") -> None:
    """Print the figures beside those of the wheel, and which files differ."""
    from sfumato.core.console import show, table

    both = [row(made.entry), *([row(made.shipped)] if made.shipped is not None else [])]
    columns = ("", "here", *(["in the wheel"] if made.shipped is not None else []))
    show(table(made.entry.name, columns, list(zip(COLUMNS[1:], *(one[1:] for one in both), strict=True))))
    if made.differing_files is not None:
        typer.echo("files that differ: " + (", ".join(made.differing_files) or "none"))


@app.command()
def check(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="A zoo, or an export of it; else the zoo of the wheel."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Ed25519 key (PEM) of a zoo's maker: demand its signature."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare bytes and figures with the index; what the models do is checked by `sfumato verify`."""
    from dataclasses import asdict

    from sfumato.core.console import emit_json, show, table
    from sfumato.core.errors import SfumatoError
    from sfumato.zoo.checking import check as compare
    from sfumato.zoo.index import SHIPPED

    results = compare(SHIPPED if folder is None else folder, public_key=public_key)
    failed = [one for one in results if one.state == "failed"]
    if as_json:
        checks = [asdict(one) for one in results]
        emit_json({"schema": "sfumato-zoo-check/1", "passed": not failed, "checks": checks})
    else:
        rows = [(one.name, one.state, one.detail) for one in results]
        show(table(str(folder or "the zoo of the wheel"), ("export", "", "found"), rows))
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise SfumatoError(f"{failed[0].name} is not as its index says: {failed[0].detail}{more}")
