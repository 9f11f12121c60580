"""`python -m studies.cryptographic`: CKKS and two-party computation on a matched small network, measured here."""

from pathlib import Path
from typing import Annotated

import typer
from studies.run_command import run_command

from sfumato.core.options import names


def command(
    data: Annotated[str, typer.Option(help="Data SPEC of 32x32 images, for example synthetic,size=32.")],
    keep: Annotated[str, typer.Option(help="The attribute to be recognised.")],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="The result file.")],
    images: Annotated[int, typer.Option(help="Test images answered by every method.")] = 20,
    methods: Annotated[str, typer.Option(help="ckks, two-party, with commas.")] = "ckks,two-party",
    epochs: Annotated[int, typer.Option(help="Training of the small networks.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    export: Annotated[
        Path | None, typer.Option(metavar="EXPORT", help="An export of ours, for one more row.")
    ] = None,
) -> None:
    """Answer test images under encryption and in shares; latency, bytes, accuracy, and what each promises."""
    from studies.cryptographic.study import make_cryptographic_config, run_study

    from sfumato.bench.results import write_results
    from sfumato.bench.tables import tables
    from sfumato.core.console import note, show_tables

    config = make_cryptographic_config(
        {
            "data": data,
            "keep": keep,
            "images": images,
            "methods": names(methods),
            "epochs": epochs,
            "seed": seed,
        }
    )
    results = run_study(config, export=export, watch=note)
    write_results(results, out)
    show_tables(tables(results))
    note(f"wrote {out}")


if __name__ == "__main__":
    run_command(command)
