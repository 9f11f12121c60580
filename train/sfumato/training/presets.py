"""Presets: settings for a field, and what its users have to know. `--preset medical` is the one there is.

A preset's settings stand below those of a file and of the command line. Its name is in the configuration, so that the export
and whoever reads it know of it (docs/medical.md, docs/decisions/0054-medical-preset.md).

    values = {**settings("medical", given), **given}
    for line in warnings(config): note(line)
"""

from collections.abc import Mapping
from typing import Any

from sfumato.core.errors import UsageError, unknown
from sfumato.data.registry import parse_spec
from sfumato.training.config import TrainConfig

MEDICAL = "medical"
NAMES = (MEDICAL,)
BITS = 200.0
"""Mean rate of a picture where no target is given, in bits."""
NO_DEVICE = "medical: this is research software. It is no medical device, and what it answers is no diagnosis"
GOALS = ("bits", "max_drop", "beyond")
"""Any of these is a target; a preset's own then has no place."""


def settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a preset sets beside what is given.

    Args:
        name: of the preset.
        given: options of a file and of the command line.

    Raises:
        UsageError: there is no such preset, or what is given has no bound.

    >>> settings("medical", {"hide": ("sex",), "max_drop": 1.0})["objective"]
    'suppress'
    """
    if name not in NAMES:
        raise UsageError(unknown("preset", name, NAMES))
    if given.get("objective") in ("literal", "seed") or given.get("channel") == "gaussian":
        raise UsageError(
            "the preset medical keeps to uploads with a rate: leave the objective literal and the channel gaussian out"
        )
    found: dict[str, Any] = {
        "preset": name,
        "objective": "suppress" if given.get("hide") else "rate",
        "levels": 4,
        "gray": True,
        "subsample": 2,
        "prior": "autoregressive",
    }
    if all(given.get(goal) is None for goal in GOALS):
        found["bits"] = BITS
    if given.get("gates"):
        del found["subsample"]
    return {key: value for key, value in found.items() if given.get(key) is None}


def warnings(config: TrainConfig) -> tuple[str, ...]:
    """What the user of a configuration with a preset has to know, a sentence each; nothing without one."""
    if config.preset is None:
        return ()
    told = [
        NO_DEVICE,
        "medical: bits are a mean over pictures, and pictures of one patient add up: n of them tell up to n times as much. "
        "`sfumato ledger` keeps the account on the device, and a limit",
    ]
    if parse_spec(config.data).mirror:
        told.append(
            "medical: training mirrors pictures. Where left and right decide, its answers cannot be relied on: "
            "give mirror=no in --data"
        )
    if config.hide:
        told.append(
            f"medical: only {', '.join(config.hide)} will be attacked. Whatever else a picture shows (who it is, age, "
            "scanner) is bounded by the rate alone"
        )
    else:
        told.append(
            "medical: nothing is declared with --hide, so nothing will be attacked, and the audit cannot pass: what uploads "
            "tell of patient, age, sex or scanner is bounded by the rate alone"
        )
    return tuple(told)
