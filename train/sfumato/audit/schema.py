"""audit.json, field by field.

Accuracies are fractions of 1; rates, bounds and leaks are bits. Files of schema 1 are read as well: `OLD_WORDS` holds what
they called things.

    audit = read_audit(run / "audit.json")
"""

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, complaint
from sfumato.core.files import read_json

SCHEMA: Final = "sfumato-audit/2"
Pair = tuple[float, float]
Input = Literal["uploads", "clean images", "labels", "averaged fresh uploads"]
"""What an attack looked at. Only `uploads` are what ships, and only they can be the best attack."""

OLD_WORDS: dict[str, dict[str, str]] = {
    "Audit": {
        "information_bits": "information_bounds",
        "left_out": "skipped",
        "restored": "reconstructions",
        "over_seeds": "seed_spread",
        "n_attacked": "n_attack_test",
    },
    "InformationBounds": {"beyond": "residual", "context": "autoregressive"},
    "AttackResult": {"on": "input"},
    "AttributeResult": {"answer_only": "decision_only"},
    "Reconstruction": {"restorer": "method"},
    "Reidentification": {"restored": "reconstructed"},
}
"""Class -> its fields in schema 1 -> their names today. Only the next release still reads them."""
OLD_ATTACKS = {"bayes": "posterior"}
OLD_ARCHITECTURES = {"answer": "decision", "posterior, with versions": "posterior, augmented"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _read_old_words(cls, values: Any) -> Any:
        """Fields of schema 1 under their names today; `comparison.json` holds some of these objects too."""
        old = OLD_WORDS.get(cls.__name__, {})
        return (
            {old.get(key, key): value for key, value in values.items()}
            if isinstance(values, dict)
            else values
        )


class _Attacked(_Frozen):
    """What names an attack."""

    attack: str
    """Name in `sfumato.audit.attacks.ATTACKS`."""
    architecture: str
    """The network or the reader that the attack used."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "attack" not in values:
            return values
        parts = str(values.get("architecture", "")).split(" or ")
        return {
            **values,
            "attack": OLD_ATTACKS.get(values["attack"], values["attack"]),
            "architecture": " or ".join(OLD_ARCHITECTURES.get(part, part) for part in parts),
        }


class DesiredResult(_Frozen):
    """How well the cloud recognises what it should, from uploads."""

    name: str
    classes: int
    accuracy: float
    clean_accuracy: float
    """Of the clean cloud network on clean images."""
    ci95: Pair
    """Of `accuracy`, by bootstrap over the test images."""


class RateBits(_Frozen):
    """Divergence of the uploads from a uniform prior over the test images, in bits; its mean bounds what anyone can learn."""

    mean: float
    p95: float
    max: float


class InformationBounds(_Frozen):
    """Tighter bounds on the information in an upload, in bits an image, mean over the test images (`sfumato.audit.bounds`)."""

    total: float
    """Bounds I(X'; X), by a mixture prior: all that an upload tells about its photo."""
    answer: float
    """The part of `total` that is the desired answer."""
    residual: float
    """The rest of `total`: bounds what an upload tells about anything once the answer is known."""
    autoregressive: float | None = None
    """Bounds I(X'; X) as well, by an autoregressive prior (`sfumato.models.autoregressive`). None where uploads carry so
    little that the mixture is the better prior."""

    @property
    def tightest(self) -> float:
        """The least of the bounds on I(X'; X)."""
        return self.total if self.autoregressive is None else min(self.total, self.autoregressive)


class UploadBytes(_Frozen):
    """Size of an upload."""

    mean: float
    raw_jpeg90_mean: float
    """The unperturbed image as JPEG of quality 90."""
    encoding: str = ""
    """How `mean` was measured."""


class AttackResult(_Attacked):
    """One attack on one attribute, on test."""

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
    input: Input = "uploads"
    """What the attack looked at; the best attack is chosen from `uploads` alone."""
    note: str | None = None
    train_auc: float | None = None
    """Best AUC on the attacker's own images; about .5 means that the optimisation found nothing even there."""


class BestAttack(_Attacked):
    """Best validation accuracy of all attacks on uploads; the other figures on test."""

    accuracy: float
    balanced_accuracy: float
    auc: float
    ci95: Pair
    lr: float | None = None
    val_accuracy: float = 0.0


class StrongestOnTest(_Attacked):
    """The highest test accuracy of any attack: optimistic for the attacker, since it is chosen on test."""

    accuracy: float
    nag_label_only: float


class DecisionOnly(_Frozen):
    """What the cloud's decision tells by itself: whoever is meant to get the answer gets that much."""

    accuracy: float
    """Best guess from the decisions; never below `label_only`."""
    nag: float
    """NAG of the best attack over this guess."""
    nag_ci95: Pair


class AttributeResult(_Frozen):
    """What uploads reveal about one attribute."""

    name: str
    declared: bool
    """Whether training was told to hide it."""
    classes: int
    majority: float
    label_only: float
    """Best guess from the true desired labels; never below `majority`."""
    clean: float
    """Best attacker on clean images."""
    best: BestAttack
    nag_majority: float
    nag_label_only: float
    leak_bits_lower: float
    """H(S) - cross entropy of the best attack."""
    nag_majority_ci95: Pair
    nag_label_only_ci95: Pair
    entropy_bits: float
    strongest_on_test: StrongestOnTest
    decision_only: DecisionOnly | None = None
    """Null where the attack `output` did not run. No part of the pass rule: a model could hide a leak in its decision."""
    notes: tuple[str, ...] = ()


class Reidentification(_Frozen):
    """How often a query was matched with another photo of the same person; shares of 1."""

    persons: int
    """In the gallery, one clean photo of each; a blind guess is right for one in so many."""
    queries: int
    clean: float
    """The query is a clean photo. Comparing pixels is a weak way to recognise faces, even clean ones."""
    reconstructed: float
    """The query is a reconstructed photo."""
    likelihood: float
    """The query is the upload: the gallery photo is taken that explains it best."""


class Reconstruction(_Frozen):
    """How well test images were reconstructed from their uploads, or guessed without them."""

    method: str
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
    """Of the mean, by Student's t over the seeds. It shows how far the seed moves an audit, not how few images there are."""


class SeedSpread(_Frozen):
    """The best attack on one attribute, seed by seed."""

    name: str
    attacks: tuple[str, ...]
    """The best attack of each seed."""
    accuracy: Spread
    nag_label_only: Spread
    auc: Spread


class PositiveControl(_Frozen):
    """A leak of known size, planted on a copy of the artifact: attackers that miss it make the audit void."""

    attribute: str
    planted_nag: float
    """NAG that the planted leak gives to whoever knows where it lies, a fraction of 1."""
    found_nag: float
    """NAG of the best attack."""
    found_upper: float
    """Its one-sided upper 95 % limit."""
    passed: bool
    """Whether the attackers found the leak."""
    attack: str
    """The best attack, `name, architecture`."""
    images: int
    """Images that the attackers were tested on."""


class Composition(_Frozen):
    """What several uploads together tell about one attribute; accuracies are fractions of 1."""

    what: str
    """How the uploads belong together, for instance `same photo, two releases`."""
    attribute: str
    uploads: int
    """How many the attacker holds."""
    accuracy: float
    balanced_accuracy: float
    auc: float
    floor: float
    """Accuracy of the best guess without any upload."""
    nag: float
    nag_upper: float
    """One-sided upper 95 % limit."""
    bits: float
    """Information about the attribute that the attack certainly found; a lower bound, in bits."""


class ExactLeak(_Frozen):
    """What a word of answer mode tells about one attribute, from its contingency table: no attacker gains more.

    All figures are of the best guess from the word. Limits are one-sided, at 95 %.
    """

    attribute: str
    words: int
    """Words of the alphabet."""
    images: int
    """Images in the table."""
    accuracy: float
    balanced_accuracy: float
    auc: float
    floor: float
    """Accuracy of the best guess without the word: population majority, or from the true kept labels."""
    nag: float
    nag_upper: float
    bits: float
    """I(S; word)."""
    bits_upper: float
    entropy_bits: float
    """H(S)."""


class Skipped(_Frozen):
    """An attribute that was not attacked."""

    name: str
    reason: str


class Audit(_Frozen):
    """The whole of audit.json."""

    schema_: Literal["sfumato-audit/2"] = Field(default=SCHEMA, alias="schema")
    artifact: Literal["float", "int8"]
    n_test: int
    desired: tuple[DesiredResult, ...]
    rate_bits: RateBits
    information_bounds: InformationBounds | None = None
    upload_bytes: UploadBytes
    attributes: tuple[AttributeResult, ...]
    attacks: tuple[AttackResult, ...]
    passed: bool
    reasons: tuple[str, ...]
    """Why it did not pass; empty if it did."""
    statements: tuple[str, ...] = ()
    """What the figures allow to say about this artifact, in sentences."""
    skipped: tuple[Skipped, ...] = ()
    positive_controls: tuple[PositiveControl, ...] = ()
    """Planted leaks; empty if the plan plants none. One that was not found makes the audit void."""
    compositions: tuple[Composition, ...] = ()
    """What several uploads tell together; stated, no part of the pass rule."""
    exact: tuple[ExactLeak, ...] = ()
    """Exact leaks of an artifact of answer mode."""
    reconstructions: tuple[Reconstruction, ...] = ()
    """Photos reconstructed from uploads; empty if the plan does not try."""
    seeds: tuple[int, ...] = ()
    """Attack seeds that were tried, if more than one. All figures outside `seed_spread` are those of the first."""
    seed_spread: tuple[SeedSpread, ...] = ()
    folds: int = 1
    """How often attackers were trained anew, each time tested on other images (`sfumato.audit.cross_fitting`)."""
    n_attack_test: int = 0
    """Images that attackers were tested on: those of the test split, or more with several folds."""
    plan: str = ""
    seed: int = 0
    dataset: str = ""
    data_spec: str = ""
    keep: tuple[str, ...] = ()
    channel: str = ""
    seconds: float = 0.0
    provenance: dict[str, Any] = {}
    """Versions and commit of what made the audit; empty in files of schema 1."""

    @model_validator(mode="before")
    @classmethod
    def _read_schema_1(cls, values: Any) -> Any:
        old = isinstance(values, dict) and values.get("schema") == "sfumato-audit/1"
        return {**values, "schema": SCHEMA} if old else values

    def to_json(self) -> dict[str, object]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)


def read_audit(path: Path) -> Audit:
    """Read an audit.json of this release or the one before.

    Raises:
        SfumatoError: the file is missing, or is no audit.
    """
    values = read_json(path)
    try:
        audit = Audit.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{path} is no audit: {complaint(error)}") from None
    if values.get("schema", SCHEMA) != SCHEMA:
        note(f"{path} was written by sfumato 0.1 ({values['schema']}); the next release will not read it")
    return audit
