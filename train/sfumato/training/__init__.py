"""Training: from a configuration to a finished run on disk.

`config` holds every setting. `runner` is the whole run: `clean` trains the clean cloud network, `pretrain` the encoder of the
local network, `trainer` co-trains both networks with the terms of `regularisers`. `losses` are pure functions, `loader` makes
batches, `rate_controller` and `epoch_selection` steer. `run` reads a finished run back.
"""
