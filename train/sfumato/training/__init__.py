"""Training: from a configuration to a finished run on disk.

    from sfumato.training import train

    run = train(data="synthetic", keep=["smiling"], bits=8, out="runs/smile")

`config` holds every setting. `runner` is the whole run: `clean` trains the clean cloud network, `pretrain` the encoder of the
local network, `trainer` co-trains both networks, which `local_cloud` joins, with the loss terms of `regularisers`. `losses` are
pure functions, `loader` makes batches, `rate_controller` and `epoch_selection` steer. `run` reads a finished run back.
"""

from typing import TYPE_CHECKING

from sfumato.core.lazy import lazy_names

if TYPE_CHECKING:
    from sfumato.training.config import TrainConfig
    from sfumato.training.run import Run, load_run
    from sfumato.training.runner import train

__all__ = ["Run", "TrainConfig", "load_run", "train"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": ("TrainConfig",),
        "run": ("Run", "load_run"),
        "runner": ("train",),
    },
)
