"""`sfumato demo`: everything once, on drawn faces."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    """Train, export, attack and run a model on embedded faces; a table at the end."""
    from sfumato.cli.demo_run import demo
    from sfumato.core.console import emit_json
    from sfumato.core.files import read_json

    result = demo(out, quick=quick, overwrite=overwrite)
    if as_json:
        emit_json(read_json(out / "summary.json"))
        return
    show_summary(result, out)


def show_summary(result: "Demo", out: Path) -> None:
    """Print the figures of the exported model and where everything lies."""
    from sfumato.cli.audit import show_audit
    from sfumato.core.console import note, show, table

    show_audit(result.audit)
    local, rows = result.card["local"], []
    rows.append(
        ("local network", f"{local['parameters']:,} parameters, {local['macs'] / 1e6:.2f} million MACs")
    )
    size = (out / "export" / "local_int8.tflite").stat().st_size
    rows.append(("int8 file", f"{size / 1000:.1f} kB"))
    upload = result.audit.upload_bytes
    rows.append(("upload", f"{upload.mean:,.0f} bytes; the photo as JPEG {upload.raw_jpeg90_mean:,.0f}"))
    rows.extend((f"seconds for {part}", f"{seconds:.0f}") for part, seconds in result.seconds.items())
    show(table("what ships and what it took", ("", "value"), rows))
    for path, meaning in (
        ("picture.png", "originals, noise maps, uploads"),
        ("photo.jpg, upload.png", "a photo and what the phone would send"),
        ("export/report.html", "the audit with plots"),
    ):
        note(f"{out}/{path}: {meaning}")
