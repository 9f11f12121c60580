"""`sfumato demo`: both modes once, on drawn pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sfumato.cli.demo_run import Demo


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny: shows that every part runs, not what it reaches.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a demo that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary alone, as JSON.")] = False,
) -> None:
    """Train, export, attack and run a model on drawn faces; then an upload that shows a picture; tables at the end."""
    from sfumato.cli.demo_run import demo
    from sfumato.core.console import emit_json
    from sfumato.core.files import read_json

    result = demo(out, quick=quick, overwrite=overwrite)
    if as_json:
        emit_json(read_json(out / "summary.json"))
        return
    show_summary(result, out)


def question(card: Mapping[str, Any]) -> str:
    """What a run was asked to do.

    >>> question({"config": {"keep": ["smiling"], "hide": ["skin", "hair"]}})
    'keep smiling, hide skin, hair'
    """
    return f"keep {', '.join(card['config']['keep'])}, hide {', '.join(card['config']['hide'])}"


def show_summary(result: "Demo", out: Path) -> None:
    """Print the advice, the figures of both models and where everything lies."""
    from sfumato.cli.advise import headline
    from sfumato.cli.audit import show_audit
    from sfumato.core.console import note, show, table

    typer.echo(f"\n1. {question(result.card)}: {headline(result.advice.mode, result.advice.network)}.")
    typer.echo(" ".join(result.advice.reasons[:2]) + "\n")
    show_audit(result.audit)
    typer.echo(
        "\n2. Which object is it, whoever stands beside it? picture mode, for a network that stays in the cloud."
    )
    typer.echo(
        "Training was told nothing about the person. What the object does not need is not sent: picture.png shows it.\n"
    )
    show_audit(result.picture_audit)
    uploads = {"faces": result.audit.upload_bytes, "scenes": result.picture_audit.upload_bytes}
    rows = [("int8 file", f"{(out / 'export' / 'local_int8.tflite').stat().st_size / 1000:.1f} kB")]
    rows += [
        (f"upload, {name}", f"{size.mean:,.0f} bytes; the photo as JPEG {size.raw_jpeg90_mean:,.0f}")
        for name, size in uploads.items()
    ]
    rows.append(("told, scenes", f"{result.picture_card['rate_bits']:.0f} bits an image"))
    rows += [(f"seconds for {part}", f"{seconds:.0f}") for part, seconds in result.seconds.items()]
    show(table("what ships and what it took", ("", "value"), rows))
    for path, meaning in (
        (
            "picture.png",
            "scenes, noise maps (bright: nothing is sent), uploads: what the object needs",
        ),
        (
            "photo.jpg, upload.word, upload.png",
            "a photo, the code word that a phone would send, and the word as an image",
        ),
        ("export/report.html", "the audit of answer mode: the leak is counted, not attacked"),
        ("picture/report.html", "the audit of picture mode, with plots"),
    ):
        note(f"{out}/{path}: {meaning}")
