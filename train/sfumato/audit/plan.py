"""How much work an audit does: which attacks, which architectures, how many epochs.

`quick` trains one network of each kind. `default` starts more kinds, trains the best of them to the end
(`sfumato.audit.attacks.tournament`), and adds averages, known pairs and drawn photos. Both train one network for all
attributes, with a head each. `full` trains all to the end at two learning rates, gives the declared attributes networks of
their own, runs every attack and takes hours.

    plan = create_plan("quick")
"""

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core.errors import UsageError, unknown

BASIC = ("floor", "clean", "output", "posterior", "discriminant", "probe", "provider")


class Plan(BaseModel):
    """The budget of an audit. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    attacks: tuple[str, ...] = BASIC
    """Names in `sfumato.audit.attacks.ATTACKS`."""
    probes: tuple[str, ...]
    """Architectures trained from scratch on uploads."""
    clean_probes: tuple[str, ...]
    """Architectures trained on clean images; the best of them is the reference of NAG."""
    rates: tuple[float, ...]
    """Peak learning rates of the probes."""
    provider_rates: tuple[float, ...]
    """Peak learning rates for fine-tuning the cloud network's own weights."""
    epochs: int = Field(ge=1)
    """Passes over the attacker's images, at most: early stopping ends most fits before."""
    provider_epochs: int = Field(ge=1)
    clean_epochs: int = Field(ge=1)
    clean_rounds: int = Field(default=1, ge=1, le=4)
    """With several, networks on clean images compete as well."""
    steps: int = Field(default=300, ge=1)
    """At least this many optimiser steps, so that a small attacker split gets more passes."""
    clean_steps: int = Field(default=300, ge=1)
    """The same for networks on clean images: one that stops too early makes every NAG too large."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better validation cross entropy on any attribute before a fit stops."""
    batch_size: int = Field(default=64, ge=2)
    copies: int = Field(default=2, ge=1)
    """Augmented copies of each attacker image: as it is, mirrored, shifted; made before the perturbation."""
    stage_draws: int = Field(default=1, ge=1)
    """Uploads of each attacker image that the linear stage probes and the output attack learn from."""
    stages: tuple[str, ...] | None = None
    """Stages of the cloud network that linear probes read; None: all."""
    finetune: bool = True
    """Train a copy of the cloud network on uploads."""
    survivors: int = Field(default=5, ge=0)
    """With folds: of each attribute so many attacks go on from the first fold (`sfumato.audit.screening`). 0: all."""
    control: bool = True
    """Plant a leak of known size and see whether the attackers find it (`sfumato.audit.positive_control`)."""
    prior_steps: int = Field(default=600, ge=1)
    """In which the prior of the autoregressive bound is fitted; with fewer the bound is looser."""
    compose: bool = False
    """State what several uploads tell together (`sfumato.audit.compositions`)."""
    frames: tuple[int, ...] = (1, 4, 16)
    """Numbers of frames of a static scene."""
    clean_finetune: bool = True
    """Train a copy of a large cloud network on clean images, too."""
    rounds: int = Field(default=1, ge=1, le=4)
    """With several, probes and fine-tuned cloud networks compete: few of them are trained to the end."""
    from_clean: bool = False
    """Train a copy of the best attacker on clean photos on uploads as well."""
    separate: bool = False
    """Train networks of their own for the declared attributes."""
    repeats: tuple[int, ...] = (4, 16, 64)
    """Uploads of one image that the attack `average` averages."""
    average_networks: tuple[int, ...] = (4, 16, 64)
    """Numbers of averaged uploads for which a network is trained as well."""
    pairs: tuple[int, ...] = (100, 1000)
    """Known pairs that decoders learn from; one more learns from all of them."""
    decoder_steps: int = Field(default=800, ge=1)
    """Optimiser steps of a decoder."""
    flow_steps: int = Field(default=800, ge=1)
    """Optimiser steps of the generator that draws photos."""
    drawings: int = Field(default=4, ge=1)
    """Photos that it draws for each upload."""
    retrain_restored: bool = True
    """Train a network anew on restored photos; a probe can find all that it finds, since it sees the upload itself."""


QUICK = Plan(
    name="quick",
    probes=("linear", "cnn", "mobilenet"),
    clean_probes=("cnn", "mobilenet"),
    rates=(3e-3,),
    provider_rates=(1e-3,),
    epochs=12,
    provider_epochs=8,
    clean_epochs=12,
)

DEFAULT = Plan(
    name="default",
    probes=("cnn", "resnet", "mobilenet", "vit"),
    clean_probes=("cnn", "resnet", "mobilenet"),
    rates=(2e-3,),
    provider_rates=(1e-3,),
    epochs=8,
    provider_epochs=8,
    clean_epochs=8,
    steps=216,
    clean_steps=432,
    patience=5,
    copies=6,
    stage_draws=3,
    rounds=3,
    clean_rounds=3,
    from_clean=True,
    compose=True,
    attacks=(*BASIC, "average", "pairs", "generate"),
    # Drawing uploads dominates: the posterior of 16 is exact, a network on averages would find less.
    repeats=(16,),
    average_networks=(),
    pairs=(),
    decoder_steps=150,
    flow_steps=150,
    drawings=2,
    retrain_restored=False,
)

FULL = DEFAULT.model_copy(
    update={
        "name": "full",
        "attacks": (*DEFAULT.attacks, "denoise", "whitebox"),
        "probes": ("linear", *DEFAULT.probes),
        "rates": (1e-3, 3e-3),
        "provider_rates": (3e-4, 2e-3),
        "epochs": 15,
        "provider_epochs": 10,
        "clean_epochs": 15,
        "steps": 300,
        "clean_steps": 300,
        "rounds": 1,
        "clean_rounds": 1,
        "frames": (1, 4, 16, 64),
        "separate": True,
        "survivors": 0,
        "repeats": (4, 16, 64),
        "average_networks": (4, 16, 64),
        "pairs": (100, 1000),
        "decoder_steps": 1500,
        "flow_steps": 4000,
        "drawings": 8,
        "retrain_restored": True,
    }
)


def to_the_end(plan: Plan) -> Plan:
    """The same attacks, all in every fold, and every network trained to the end."""
    return plan.model_copy(
        update={"name": f"{plan.name}, exhaustive", "survivors": 0, "rounds": 1, "clean_rounds": 1}
    )


PLANS = {plan.name: plan for plan in (QUICK, DEFAULT, FULL)}


def create_plan(name: str) -> Plan:
    """The plan of this name.

    Raises:
        UsageError: the name is not known.
    """
    if name not in PLANS:
        raise UsageError(unknown("audit", name, PLANS))
    return PLANS[name]
