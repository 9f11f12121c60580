"""Training: from a configuration to a finished run on disk.

    from sfumato.training import train

    run = train(data="synthetic", keep=["smiling"], bits=8, out="runs/smile")

`config` holds every setting. `runner` is the whole run: `clean` trains the clean cloud network, `pretrain` the encoder of the
local network, `trainer` co-trains both networks, which `local_cloud` joins, with the loss terms of `regularisers`. `losses` are
pure functions, `loader` makes batches, `rate_controller` and `epoch_selection` steer. `run` reads a finished run back.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.training.config import TrainConfig
    from sfumato.training.run import Run, load_run
    from sfumato.training.runner import train

__all__ = ["Run", "TrainConfig", "load_run", "train"]

_MODULES = {"Run": "run", "TrainConfig": "config", "load_run": "run", "train": "runner"}


def __getattr__(name: str) -> object:
    """Import a public name where it is first asked for: torch takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
