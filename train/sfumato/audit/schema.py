"""audit.json, field by field.

Accuracies are fractions of 1, rates and leaks are bits. Other programs read this file: fields are added,
never renamed.

    audit = Audit.model_validate(read_json(run / "audit.json"))
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Pair = tuple[float, float]
On = Literal["uploads", "clean images", "labels", "averaged fresh uploads"]
"""What an attack looked at. Only `uploads` are what ships, and only they can be a headline."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Desired(_Frozen):
    """How well the cloud recognises what it should, from uploads."""

    name: str
    classes: int
    accuracy: float
    clean_accuracy: float
    """Of the clean cloud network on clean images."""
    ci95: Pair
    """Of `accuracy`, by bootstrap over the test images."""


class RateBits(_Frozen):
    """Rate of the uploads over the test images, in bits; the mean bounds what anyone can learn."""

    mean: float
    p95: float
    max: float


class InformationBits(_Frozen):
    """A tighter bound on what an upload tells, in bits an image, mean over the test images (`sfumato.audit.bounds`)."""

    total: float
    """Bounds I(X'; X): all that an upload tells about its photo."""
    answer: float
    """The share of it that is the answer, one of a few things every upload says."""
    beyond: float
    """Bounds what an upload tells about anything once the answer is known."""
    context: float | None = None
    """Bounds I(X'; X) as well, by a reference that foresees every bit from those before it
    (`sfumato.models.autoregressive`); None where an
    upload says so few things that the mixture is the better reference."""

    @property
    def least(self) -> float:
        """The tightest of the bounds on I(X'; X)."""
        return self.total if self.context is None else min(self.total, self.context)


class UploadBytes(_Frozen):
    """What an upload weighs."""

    mean: float
    raw_jpeg90_mean: float
    """The unperturbed image as JPEG of quality 90."""
    encoding: str = ""
    """How `mean` was measured."""


class AttackRow(_Frozen):
    """One attack on one attribute, on test."""

    attack: str
    architecture: str
    lr: float | None
    """Peak learning rate; null for attacks without one."""
    attribute: str
    epochs: int
    val_accuracy: float
    accuracy: float
    balanced_accuracy: float
    auc: float
    best_epoch: int = 0
    """The epoch that was reported, chosen by validation cross entropy."""
    cross_entropy_bits: float = 0.0
    temperature: float = 1.0
    """Fitted on validation; 0 means that the scores were worth nothing."""
    on: On = "uploads"
    """What was looked at; the headline comes from `uploads` alone."""
    note: str | None = None
    train_auc: float | None = None
    """Best AUC on the attacker's own images; about .5 means that the optimisation found nothing even there."""


class Best(_Frozen):
    """The winner: best validation accuracy of all attacks on uploads; figures on test."""

    attack: str
    architecture: str
    accuracy: float
    balanced_accuracy: float
    auc: float
    ci95: Pair
    lr: float | None = None
    val_accuracy: float = 0.0


class StrongestOnTest(_Frozen):
    """The highest test accuracy of any attack: an upper mark, since choosing on test flatters it."""

    attack: str
    architecture: str
    accuracy: float
    nag_label_only: float


class AnswerOnly(_Frozen):
    """What the cloud's bare decision tells: whoever is meant to get the answer gets that much."""

    accuracy: float
    """Best guess from the decisions; never below `label_only`."""
    nag: float
    """What the best attack gains beyond it, of what clean images gain."""
    nag_ci95: Pair


class Attribute(_Frozen):
    """What uploads give away about one attribute."""

    name: str
    declared: bool
    """Whether the defence was told to hide it."""
    classes: int
    majority: float
    label_only: float
    """Best guess from the true desired labels; never below `majority`."""
    clean: float
    """Best attacker on clean images."""
    best: Best
    nag_majority: float
    nag_label_only: float
    leak_bits_lower: float
    """H(S) - cross entropy of the winner."""
    nag_majority_ci95: Pair
    nag_label_only_ci95: Pair
    entropy_bits: float
    strongest_on_test: StrongestOnTest
    answer_only: AnswerOnly | None = None
    """Null where the attack `output` was left out. No part of the pass rule: a defence could hide a leak in its answer."""
    notes: tuple[str, ...] = ()


class Reidentification(_Frozen):
    """How often a query was matched with another photo of the same person; shares of 1."""

    persons: int
    """In the gallery, one clean photo of each; a blind guess is right for one in so many."""
    queries: int
    clean: float
    """The query is a clean photo: the yardstick of a comparison of pixels, which is a weak one."""
    restored: float
    """The query is a restored photo."""
    likelihood: float
    """The query is the upload: the gallery photo is taken that explains it best."""


class Restored(_Frozen):
    """How well test images were restored from their uploads, or guessed without them."""

    restorer: str
    """A decoder, or a constant guess."""
    pairs: int
    """Pairs of photo and upload the decoder learned from; 0 for a guess."""
    psnr: float
    """Mean over the test images, in dB."""
    ssim: float
    """Mean over the test images, at most 1."""
    reidentification: Reidentification | None = None


class Spread(_Frozen):
    """A figure over several attack seeds."""

    values: tuple[float, ...]
    """In the order of `seeds`."""
    mean: float
    min: float
    max: float
    ci95: Pair
    """Of the mean, by Student's t over the seeds: says how much luck is in one audit, not how many images there are."""


class OverSeeds(_Frozen):
    """What the best attack on one attribute found, audit by audit."""

    name: str
    attacks: tuple[str, ...]
    """The winner of each seed."""
    accuracy: Spread
    nag_label_only: Spread
    auc: Spread


class LeftOut(_Frozen):
    """An attribute that was not attacked."""

    name: str
    reason: str


class Audit(_Frozen):
    """The whole of audit.json."""

    schema_: Literal["sfumato-audit/1"] = Field(default="sfumato-audit/1", alias="schema")
    artifact: Literal["float", "int8"]
    n_test: int
    desired: tuple[Desired, ...]
    rate_bits: RateBits
    information_bits: InformationBits | None = None
    upload_bytes: UploadBytes
    attributes: tuple[Attribute, ...]
    attacks: tuple[AttackRow, ...]
    passed: bool
    reasons: tuple[str, ...]
    """What fell short; empty if nothing did."""
    statements: tuple[str, ...] = ()
    """What may be said about this artifact, in sentences."""
    left_out: tuple[LeftOut, ...] = ()
    restored: tuple[Restored, ...] = ()
    """Photos restored from uploads; empty if the plan does not try."""
    seeds: tuple[int, ...] = ()
    """Attack seeds that were tried, if more than one. All figures outside `over_seeds` are those of the first."""
    over_seeds: tuple[OverSeeds, ...] = ()
    folds: int = 1
    """How often attackers were trained anew, each time judged on other images (`sfumato.audit.cross_fitting`)."""
    n_attacked: int = 0
    """Images that attackers were judged on: those of the test split, or more with several folds."""
    plan: str = ""
    seed: int = 0
    dataset: str = ""
    data_spec: str = ""
    keep: tuple[str, ...] = ()
    channel: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)
