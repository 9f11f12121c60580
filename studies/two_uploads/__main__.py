"""`python -m studies.two_uploads`: what two uploads of one photo tell together, under noise of version 1 and 2."""

from pathlib import Path
from typing import Annotated

import typer
from studies.run_command import run_command


def command(
    export_a: Annotated[
        Path, typer.Argument(metavar="EXPORT_A", help="The export whose uploads are looked at.")
    ],
    export_b: Annotated[
        Path, typer.Argument(metavar="EXPORT_B", help="Another release of it: other epochs, or another seed.")
    ],
    photos: Annotated[int, typer.Option(help="Candidates: test photos of the data set.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the device key and of independent noise.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there.")] = None,
) -> None:
    """Attack two uploads of every photo by exact likelihood: releases, services, and kinds of arithmetic for one export."""
    from studies.two_uploads.study import grid, run_study

    from sfumato.core.console import note, show_tables
    from sfumato.core.files import write_json
    from sfumato.export.artifact import load_export

    one, two = (load_export(each, indices=False) for each in (export_a, export_b))
    results = run_study(one, two, photos=photos, seed=seed, watch=note)
    if json is not None:
        write_json(json, results)
        note(f"wrote {json}")
    show_tables([grid(results)])


if __name__ == "__main__":
    run_command(command)
