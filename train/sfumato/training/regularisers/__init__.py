"""The terms of the loss, each with its own state, update and figures.

`base` has the interface. `rate` is the rate of an upload (or, for the literal scheme, the reward for noise) and
`autoregressive` the same rate against a learned prior. `residual` is the rate beyond the phone's decision. `task` is the
desired labels and the clean network's outputs. `gates` is the price of open blocks. `equal_odds` and `adversaries` belong to
the objective `suppress`.

    terms = create(setting, TaskLoss(setting, clean))
    loss = sum(part for term in terms for part in term.losses(output, batch, step, log))
"""

from sfumato.training.regularisers.adversaries import AdversarialPenalty
from sfumato.training.regularisers.autoregressive import AutoregressiveRatePenalty
from sfumato.training.regularisers.base import Regulariser, Setting
from sfumato.training.regularisers.equal_odds import EqualOddsPenalty
from sfumato.training.regularisers.gates import GatePenalty
from sfumato.training.regularisers.rate import NoiseLoss, RatePenalty
from sfumato.training.regularisers.residual import ResidualPenalty
from sfumato.training.regularisers.task import TaskLoss

__all__ = ["Regulariser", "Setting", "TaskLoss", "create"]


def create(setting: Setting, task: TaskLoss) -> list[Regulariser]:
    """All terms of the objective, the task's own among them, in the order in which they are summed."""
    config = setting.config
    if config.objective == "literal":
        return [NoiseLoss(setting), task]
    # One generator draws the first weights of all networks: adversaries, then the prior.
    suppress: list[Regulariser] = []
    if config.objective == "suppress":
        suppress = [EqualOddsPenalty(setting), AdversarialPenalty(setting)]
    rate = AutoregressiveRatePenalty if config.prior == "autoregressive" else RatePenalty
    gates = [GatePenalty(setting)] if config.gates and not config.gating.window else []
    # Without a decision there is nothing that an upload could go beyond, and no errors to equalise.
    if setting.model.local.decision is None:
        return [rate(setting), task, *suppress[1:], *gates]
    if config.gates:  # references are measured against coins for all bits, the rate is not
        return [rate(setting), task, *suppress, *gates]
    return [rate(setting), ResidualPenalty(setting), task, *suppress]
