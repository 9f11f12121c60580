"""What can be said about a run before torch is imported or data are read: the device, the folder.

check_devices("cuda", processes=1)
check_free(Path("runs/mine"), resume=False, overwrite=False)
"""

import os
from pathlib import Path

from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.files import check_claim

ACCELERATORS = ("auto", "cpu", "cuda")
CONFIG, CARD = "config.json", "card.json"
"""A folder that holds the first holds a run; the second is written last, by a run that is finished."""


def check_devices(accelerator: str, processes: int = 1) -> None:
    """Refuse a device that is not here.

    Args:
        accelerator: one of `ACCELERATORS`; `auto` takes a GPU if there is one.
        processes: CPU processes that share each batch.

    Raises:
        UsageError: another word, no GPU for `cuda`, or several processes and a GPU.
    """
    if accelerator not in ACCELERATORS:
        raise UsageError(unknown("accelerator", accelerator, ACCELERATORS))
    if processes < 1:
        raise UsageError(f"processes must be at least 1, not {processes}")
    if by_torchrun():
        if processes > 1:
            raise UsageError("torchrun has started the processes: leave out --processes")
        if accelerator == "cuda":
            raise UsageError("processes of torchrun share CPUs: leave out --accelerator cuda")
    if accelerator != "cuda":
        return
    if processes > 1:
        raise UsageError(
            "several processes share the CPU: leave out either --processes or --accelerator cuda"
        )
    import torch  # only now: a mistake in the word is told without it

    if not torch.cuda.is_available():
        raise UsageError(
            "PyTorch finds no CUDA GPU here: give --accelerator auto or cpu, or look at `sfumato doctor`"
        )


def by_torchrun() -> bool:
    """Whether this is one of several processes that torchrun started (`sfumato.training.team`)."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_free(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is taken; with `resume` what an interrupted run left can be gone on with.

    Raises:
        SfumatoError: the folder holds a run, finished or not, or something else, or cannot be written.
    """
    begun = (out / CONFIG).exists()
    if begun and resume:
        return
    if begun and not (out / CARD).exists() and not overwrite:
        raise SfumatoError(
            f"{out} holds a run that was interrupted: go on with --resume, or begin anew with --overwrite"
        )
    check_claim(out, holds=CONFIG, overwrite=overwrite)
