"""audit.json, field by field.

Accuracies are fractions of 1; rates, bounds and leaks are bits. Files of schema 1 and 2 are read as well: `OLD_WORDS` holds
what they called things, and their NAG was clamped at 0 over floors of the test split.

    audit = read_audit(run / "audit.json")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError, complaint
from sfumato.core.files import read_json
from sfumato.core.reports import credit_text

SCHEMA: Final = "sfumato-audit/3"
OLD_SCHEMAS: Final = ("sfumato-audit/1", "sfumato-audit/2")
"""Still read, for one release."""
Pair = tuple[float, float]
MeasureName = Literal["accuracy", "balanced_accuracy", "auc", "information"]
VerdictName = Literal["passed", "not_passed", "no_verdict"]
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
    guess_error: float | None = None
    """Of a number: the mean absolute error of a guess, in the number's unit. `accuracy` is the share of it that is gone, so
    the error is (1 - accuracy) times it. Null for classes."""
    guess_iou: float | None = None
    """Of a mask: the mean intersection over union of a guess, which says the most frequent class of each cell. `accuracy` is
    the uploads'. Null for classes and numbers."""
    cells_right: float | None = None
    """Of a mask: the share of all cells whose class is named rightly. Null for classes and numbers."""

    @property
    def interval(self) -> str:
        """`ci95` as people read it, the lower bound first; that of an error belongs to the higher accuracy."""
        low, high = map(self.text, self.ci95)
        if self.guess_error is not None:
            return f"{high} - {low.removeprefix('error ')}"
        return f"{low} - {high.removeprefix('IoU ')}"

    def text(self, accuracy: float) -> str:
        """An accuracy of this attribute as people read it: a share, of a number the mean absolute error, of a mask IoU."""
        return credit_text(accuracy, self.guess_error, mask=self.guess_iou is not None)


class Rule(_Frozen):
    """What an artifact has to hold to pass; fractions of 1."""

    max_drop: float = Field(default=0.015, ge=0, le=1)
    """Largest loss of desired accuracy against the clean network."""
    max_nag: float = Field(default=0.05, ge=0, le=1)
    """Largest gain of an attack, by any measure, as a share of what clean images give."""
    max_nag_upper: float = Field(default=0.08, ge=0, le=1)
    """Largest one-sided upper 95 % limit of that gain."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_nag_upper < self.max_nag:
            raise ValueError("the upper limit of a gain cannot be held below the gain itself")
        return self


def make_rule(**values: float) -> Rule:
    """A rule from fractions of 1.

    Raises:
        UsageError: a threshold out of range, or an upper limit below the gain itself.
    """
    try:
        return Rule(**values)
    except ValidationError as error:
        raise UsageError(f"the pass rule: {complaint(error, 'it')}") from None


class Gain(_Frozen):
    """What the best attack on uploads gains by one measure; `nag` is not clamped, limits are one-sided at 95 %."""

    measure: MeasureName
    value: float
    """Of the attack: a fraction of 1, or bits for `information`."""
    floor: float
    """The best that guessing reaches in the population."""
    clean: float
    """Of the best attacker on clean images."""
    nag: float | None = None
    """Share of what clean images give (`information`: of all that there is). Null: clean images give too little to compare."""
    error: float | None = None
    """Standard error of `nag`."""
    lower: float | None = None
    upper: float | None = None


class ClassGain(_Frozen):
    """What the best attack gains on one class of several, against the rest."""

    value: str
    """Name of the class."""
    gain: Gain
    """By AUC."""


def worst_gain(gains: Sequence[Gain]) -> Gain | None:
    """The gain with the largest upper limit; None where no measure has a scale."""
    known = [gain for gain in gains if gain.upper is not None]
    return max(known, key=lambda gain: gain.upper or 0.0, default=None)


def gain_rows(gains: Sequence[Gain], classes: Sequence[ClassGain]) -> list[tuple[Gain, str]]:
    """For a table: every measure, then the class that is told most and its name; the others' is empty."""
    most = max(classes, key=lambda one: one.gain.lower or 0.0, default=None)
    return [*((gain, "") for gain in gains), *([(most.gain, most.value)] if most else [])]


class Goal(_Frozen):
    """What training was asked for, and what the artifact reaches on test; null where nothing was asked."""

    target_bits: float | None = None
    reached_bits: float | None = None
    beyond_target_bits: float | None = None
    beyond_reached_bits: float | None = None
    max_drop: float | None = None
    """Desired accuracy that may be lost, a fraction of 1."""
    reached_drop: float | None = None
    met: bool


class PhotoBits(_Frozen):
    """How a bound spreads over single photos, in bits."""

    ci95: Pair
    """Of its mean."""
    p99: float
    max: float


class WorstGroup(_Frozen):
    """The class of an attribute whose photos an upload may tell most about."""

    attribute: str
    group: str
    images: int
    bits: float
    """Mean bound over the photos of the group."""


class RateBits(_Frozen):
    """Divergence of the uploads from a uniform prior over the test images, in bits; its mean bounds what anyone can learn."""

    mean: float
    p95: float
    max: float
    p99: float | None = None
    ci95: Pair | None = None
    """Of the mean."""


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
    total_photos: PhotoBits | None = None
    residual_photos: PhotoBits | None = None
    total_allows: float | None = None
    """Accuracy on an even yes-or-no attribute that no attacker with `tightest` bits can exceed (Fano)."""
    residual_allows: float | None = None
    """The same with `residual` bits, for an attribute of which the answer tells nothing."""

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
    images: int | None = None
    """In an audit of several folds, the test images that it answered about: fewer than all if it left after the first fold."""
    train_auc: float | None = None
    """Best AUC on the attacker's own images; about .5 means that the optimisation found nothing even there."""


class BestAttack(_Attacked):
    """Least cross entropy of all attacks on uploads. Figures on test: each half of the images by whichever attack was best on
    validation and the other half."""

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
    """Best guess from the decisions."""
    nag: float
    """NAG of the best attack over this guess."""
    nag_ci95: Pair | None = None
    """In files of schema 1 and 2."""


class PairFigures(_Frozen):
    """How well pairs of images of one person are told from pairs of two."""

    auc: float
    """.5 is chance."""
    ci95: Pair
    """Of `auc`, by bootstrap over the images."""
    equal_error_rate: float
    """Share of errors where as many pairs of one person are missed as pairs of two are taken for one; .5 is chance."""


class Verification(_Frozen):
    """Whether two uploads are of one person, asked of the best attack on who it is (`sfumato.audit.verification`)."""

    images: int
    """Test images."""
    pairs: int
    """Of two different ones."""
    uploads: PairFigures
    clean: PairFigures
    """Of the best attacker on clean images."""


class AttributeResult(_Frozen):
    """What uploads reveal about one attribute."""

    name: str
    declared: bool
    """Whether training was told to hide it."""
    asked: bool = False
    """Whether whoever audits asked for it by name."""
    classes: int
    majority: float
    """Accuracy of always guessing the most frequent class of the population."""
    label_only: float
    """Accuracy of the best guess from the true desired labels in the population; never below `majority`."""
    clean: float
    """Accuracy of the best attacker on clean images."""
    best: BestAttack
    gains: tuple[Gain, ...] = ()
    """What the best attack gains, by every measure; the pass rule reads these. Empty in files of schema 1 and 2."""
    class_gains: tuple[ClassGain, ...] = ()
    """The same attack on each class, where there are more than two; the pass rule calls those that are told for certain."""
    nag_majority: float
    nag_label_only: float
    """The gain in accuracy alone."""
    leak_bits_lower: float
    """H(S) - cross entropy of the best attack."""
    nag_majority_ci95: Pair
    nag_label_only_ci95: Pair
    entropy_bits: float
    """H(S) in the population."""
    strongest_on_test: StrongestOnTest
    decision_only: DecisionOnly | None = None
    """Null where the attack `output` did not run. No part of the pass rule: a model could hide a leak in its decision."""
    verification: Verification | None = None
    """Of the attribute that tells persons apart; null for others. No part of the pass rule, which reads the gains."""
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Gain | None:
        """The gain with the largest upper limit; None where no measure has a scale."""
        return worst_gain(self.gains)

    @property
    def rows(self) -> list[tuple[Gain, str]]:
        """Of a table (`gain_rows`)."""
        return gain_rows(self.gains, self.class_gains)


class Recognition(_Frozen):
    """What a face recogniser of the field makes of one kind of picture, compared with a gallery of clean photos."""

    images: str
    """`clean photos`, `uploads` or `reconstructed photos`."""
    rank_one: float
    """Share of queries whose nearest gallery photo shows the same person."""
    auc: float
    """Of verification, over all pairs of query and gallery photo; .5 is chance."""


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
    recognition: tuple[Recognition, ...] = ()
    """By a face recogniser; empty where none is installed."""
    recogniser: str = ""
    """Its file, or why there is none."""


class Reconstruction(_Frozen):
    """How well test images were reconstructed from their uploads, or guessed without them."""

    method: str
    """A decoder, or a constant guess."""
    pairs: int
    """Pairs of photo and upload the decoder learned from; 0 for a guess."""
    drawings: int = 0
    """Photos that a generator drew for each upload: the figures are means over them. 0: nothing was drawn."""
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

    Limits are one-sided, at 95 %.
    """

    attribute: str
    declared: bool = True
    """Whether training was told to hide it."""
    asked: bool = False
    """Whether whoever audits asked for it by name."""
    gains: tuple[Gain, ...] = ()
    """What the reader of a word gains, by every measure; the pass rule reads these. Empty in older files, whose rule saw the
    accuracy of a word alone."""
    class_gains: tuple[ClassGain, ...] = ()
    """The same reader on each class, where there are more than two."""
    words: int
    """Words of the alphabet."""
    images: int
    """Images in the table."""
    accuracy: float
    """Of the guess most frequent with the word, counted on test; so are balanced accuracy, AUC and bits."""
    balanced_accuracy: float
    auc: float
    floor: float
    """Accuracy of the best guess from the true kept labels, counted alike."""
    nag: float
    """The gain in accuracy alone, over the floor of the population; measured against a point where clean images give less."""
    nag_upper: float
    bits: float
    """I(S; word)."""
    bits_upper: float
    entropy_bits: float
    """H(S)."""
    verification: Verification | None = None
    """Of the attribute that tells persons apart; null for others, and where the answer is drawn at random."""

    @property
    def worst(self) -> Gain | None:
        """The gain with the largest upper limit; None where no measure has a scale, and in old files."""
        return worst_gain(self.gains)

    @property
    def rows(self) -> list[tuple[Gain, str]]:
        """Of a table (`gain_rows`)."""
        return gain_rows(self.gains, self.class_gains)


class Skipped(_Frozen):
    """An attribute that was not attacked."""

    name: str
    reason: str


class SplitDigest(_Frozen):
    """Which images one split holds."""

    images: int
    sha256: str
    """Over their row numbers in the data set, as little-endian int64."""


class Basis(_Frozen):
    """What an audit was made from: what `sfumato audit --reproduce` compares before it repeats one.

    Seeds, folds, strength and rule stand beside it in the audit, versions in `provenance`.
    """

    files: dict[str, str]
    """SHA-256 of the artifact's files; of an export that of contract.json, which names the rest. Empty: there is no folder."""
    data: str
    """SHA-256 over pixels, names, labels and splits; `dataset` is its beginning."""
    splits: dict[str, SplitDigest]
    plan: dict[str, Any]
    """All values of the plan."""
    asked: tuple[str, ...] | None
    """Attributes that were asked for by name; null: all with labels."""
    others: dict[str, dict[str, str]] = {}
    """Further artifacts whose uploads were put together with this one's: name -> `files` of each."""
    machine: dict[str, Any]
    """What decides the last digits: processor, threads, arithmetic, device."""


class Audit(_Frozen):
    """The whole of audit.json."""

    schema_: Literal["sfumato-audit/3"] = Field(default=SCHEMA, alias="schema")
    artifact: Literal["float", "int8"]
    n_test: int
    desired: tuple[DesiredResult, ...]
    rate_bits: RateBits
    information_bounds: InformationBounds | None = None
    upload_bytes: UploadBytes
    attributes: tuple[AttributeResult, ...]
    attacks: tuple[AttackResult, ...]
    verdict: VerdictName
    """`no_verdict`: too few images, attackers that failed their control, or nothing attacked."""
    reasons: tuple[str, ...]
    """Why it did not pass; empty if it did."""
    rule: Rule | None = None
    """By which it was judged; null in files of schema 1 and 2, whose rule saw accuracy alone."""
    more_images: int | None = None
    """Further test images that a verdict needs, roughly; null where more of them would not help."""
    goal: Goal | None = None
    """Null where training had no goal, or in files of schema 1 and 2."""
    worst_groups: tuple[WorstGroup, ...] = ()
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
    date: str = ""
    """When it was made, ISO 8601 in UTC."""
    command: str = ""
    """The command line; empty where the audit was called from Python."""
    strength: int | None = None
    """Of the point that was attacked; null: the artifact as it is, at full strength."""
    basis: Basis | None = None
    """Null in files that were written before it was kept: those cannot be repeated."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether the verdict is `passed`."""
        return self.verdict == "passed"

    @model_validator(mode="before")
    @classmethod
    def _read_old_schemas(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        passed = values.pop("passed", None)
        if values.get("schema") in OLD_SCHEMAS:
            values["schema"] = SCHEMA
            values["verdict"] = "passed" if passed else "not_passed"
        return values

    def to_json(self) -> dict[str, object]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)


def read_audit(path: Path) -> Audit:
    """Read an audit.json of this release or of the two schemas before.

    Raises:
        SfumatoError: the file is missing, or is no audit.
    """
    values = read_json(path)
    try:
        audit = Audit.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{path} is no audit: {complaint(error)}") from None
    if values.get("schema", SCHEMA) != SCHEMA:
        note(
            f"{path} was written by an earlier release ({values['schema']}): its rule saw accuracy alone, and its gains are "
            "clamped at 0; audit again, the next release will not read it"
        )
    return audit
