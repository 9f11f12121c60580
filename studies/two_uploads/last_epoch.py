"""`python -m studies.two_uploads.last_epoch RUN OUT`: the last epoch of a run as an export, a second release of its best one.

`sfumato export` ships the best epoch. The checkpoint of a run still holds the weights of the last one.
"""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from studies.run_command import run_command

from sfumato.core.errors import SfumatoError
from sfumato.training import checkpoint
from sfumato.training.run import Run, load_run


def last_epoch(run: Run) -> Run:
    """The run with the weights of its last epoch.

    Raises:
        SfumatoError: there is no checkpoint, or the last epoch is the best one.
    """
    folder = run.folder / "checkpoint"
    if not checkpoint.exists(folder):
        raise SfumatoError(f"{run.folder} has no checkpoint: its last epoch is gone")
    weights = checkpoint.load(folder)["model"]
    local, cloud = deepcopy(run.local), deepcopy(run.cloud)
    for prefix, network in (("local.", local), ("cloud.", cloud)):
        chosen = {
            name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
        }
        network.load_state_dict(chosen)
    pairs = zip(run.local.parameters(), local.parameters(), strict=True)
    if all(torch.equal(one, two) for one, two in pairs):
        raise SfumatoError(
            f"the last epoch of {run.folder} is its best one: there is no second release in it"
        )
    return replace(run, local=local.eval(), cloud=cloud.eval())


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the export.")],
) -> None:
    """Export the last epoch of a run."""
    from sfumato.core.console import note
    from sfumato.export.pipeline import export

    export(last_epoch(load_run(run)), out, variants=("int8",), watch=lambda done, title: note(title))


if __name__ == "__main__":
    run_command(command)
