"""comparison.json, field by field: other methods and ours, trained alike, attacked alike.

`desired`, `attributes` and `attacks` of a row are those of audit.json (`sfumato.audit.schema`). Accuracies are fractions of 1,
rates are bits. Other programs read this file: a changed field raises the schema, and the reader below takes all three.

    comparison = read_comparison(Path("comparison/comparison.json"))
    comparison.rows[0].attributes[0].nag_label_only
"""

from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.audit.schema import AttackResult, AttributeResult, DesiredResult, RateBits
from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, complaint
from sfumato.core.files import read_json

SCHEMA: Final = "sfumato-comparison/3"
SCHEMA_2, SCHEMA_1 = "sfumato-comparison/2", "sfumato-comparison/1"
"""Schema 2 has one untuned row for each method and no figures on validation; its `matched_comparisons` were chosen on test."""
RENAMED = {"standings": "matched_comparisons"}
RENAMED_IN_ROW = {"told_bits": "leakage_bound_bits"}
RENAMED_IN_MATCH = {"verdict": "result"}
"""Fields of `sfumato-comparison/1` -> those of today; read for one release."""
RENAMED_RESULTS = {"open": "inconclusive", "none": "unmatched"}
"""The same for the values of `result`."""

Model = TypeVar("Model", bound=BaseModel)
MatchResult = Literal["less", "more", "inconclusive", "unmatched"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PhoneCost(_Frozen):
    """What a method costs on the phone, for one image."""

    parameters: int
    """Learned numbers that have to be on the phone, batch norm folded."""
    macs: int
    """Multiply-accumulates; elementwise work counts none."""
    upload_bytes: float
    """Mean over test images."""
    upload_encoding: str
    upload_bytes_p95: float | None = None
    """95 of 100 uploads are no larger. Null where it was not measured, as in files of earlier releases."""
    lossless_bytes: float | None = None
    """Mean over test images of an upload of ours as a lossless WebP; null for other rows and where Pillow has no WebP."""
    lossless_bytes_p95: float | None = None
    stored_bytes: int = 0
    """What has to be stored beside the network."""


class CleanCost(_Frozen):
    """What the clean cloud network would cost on the phone, for one image: what `sfumato advise` says of it."""

    parameters: int
    """Learned numbers, batch norm folded."""
    macs: int
    """Multiply-accumulates."""
    float_bytes: int
    """Size of these numbers as float32."""
    int8_bytes: int
    """Size of an int8 model, estimated (`sfumato.bench.instructions`)."""
    int8_instructions: dict[str, float]
    """Core -> executed instructions of that model, estimated."""


class Setting(_Frozen):
    """What a method's curve varies, and its value in this row."""

    name: str
    value: float


class ComparisonRow(_Frozen):
    """One method at one setting or operating point."""

    id: str
    method: str
    ours: bool
    setting: Setting | None = None
    """Null for yardsticks, for ours with a target, and in files of schema 1 and 2."""
    validation_accuracy: float | None = None
    """Mean over the desired attributes, on validation: what settings are chosen by. Null in files of schema 1 and 2."""
    epoch: int | None = None
    """The epoch that was kept, counted from the first with privacy terms."""
    own_adversary: dict[str, float] = {}
    """Test accuracy of the adversary that was trained along, which is what most papers report; empty without one."""
    published: str = ""
    """What the paper reports, and what of it this row can be held against."""
    target_bits: float | None = None
    """Target of the mean rate; null for methods without a target."""
    target_beyond_bits: float | None = None
    """Target of the residual rate."""
    reads_hidden_labels: bool
    """Whether training saw the labels of hidden attributes."""
    rate_bits: RateBits | None
    """Null where no bound is known."""
    leakage_bound_bits: float | None = None
    """The tightest bound on the information in an upload (`sfumato.audit.bounds`); for ours."""
    desired: tuple[DesiredResult, ...]
    attributes: tuple[AttributeResult, ...]
    cost: PhoneCost
    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a reader has to know: attacks left out, targets not met."""
    training: dict[str, float] = {}
    """Parts of the loss in the last epoch."""
    attacks: tuple[AttackResult, ...]
    train_seconds: float
    audit_seconds: float


class BestPoint(_Frozen):
    """The row that stands for a method, chosen on validation alone (`sfumato.compare.selection`)."""

    method: str
    row: str
    """Id of the row."""
    accurate: bool
    """Whether any of its settings was as accurate as the rule asks; if not, this is the most accurate one."""


class MatchedComparison(_Frozen):
    """Another method beside one of ours at matched accuracy (`sfumato.compare.selection`)."""

    method: str
    """Id of the other method's row."""
    attribute: str
    """The hidden attribute."""
    ours: str | None
    """Id of our row; null if none of ours is as accurate."""
    result: MatchResult
    """`less`, `more`: ours leak so, with 95 % intervals apart. `inconclusive`: they overlap. `unmatched`: no row of ours."""


class Comparison(_Frozen):
    """The whole of comparison.json."""

    schema_: Literal["sfumato-comparison/3"] = Field(default=SCHEMA, alias="schema")
    dataset: str
    """Id of the data set."""
    data_spec: str
    keep: tuple[str, ...]
    hide: tuple[str, ...]
    n_test: int
    clean_accuracy: dict[str, float]
    """Of the clean cloud network that every method starts from."""
    clean_validation_accuracy: float | None = None
    """The same on validation, mean over the desired attributes."""
    clean_cost: CleanCost | None = None
    """Of the clean network on the phone; null in files of earlier releases."""
    config: dict[str, Any]
    """Cloud network, epochs, batch size, seed and attacks: the same for every row."""
    rows: tuple[ComparisonRow, ...]
    rule: str = ""
    """How `best_points` and `matched_comparisons` were chosen, in a sentence."""
    best_points: tuple[BestPoint, ...] = ()
    """One row for each method; its figures are those of test, where nothing was chosen."""
    matched_comparisons: tuple[MatchedComparison, ...] = ()
    """The best point of each other method beside ours."""
    failed: dict[str, str] = {}
    """Rows that could not be trained, and why."""
    missing: tuple[str, ...] = ()
    """Rows that were asked for and are not finished."""
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, object]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)


def read_comparison(path: Path) -> Comparison:
    """Read comparison.json of this schema or of one of the two before.

    Raises:
        SfumatoError: missing, damaged, or of another schema.
    """
    values = read_json(path)
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema not in (SCHEMA, SCHEMA_2, SCHEMA_1):
        raise SfumatoError(
            f"{path} has schema {schema!r}; this version reads {SCHEMA}, {SCHEMA_2} and {SCHEMA_1}"
        )
    if schema != SCHEMA:
        note(f"{path} has the schema of an earlier release, {schema}: one untuned row for each method")
        values = _renamed_comparison(values) if schema == SCHEMA_1 else {**values, "schema": SCHEMA}
    return _validated(Comparison, values, path)


def read_row(path: Path) -> ComparisonRow:
    """Read the file of a finished row.

    Raises:
        SfumatoError: missing or damaged.
    """
    return _validated(ComparisonRow, read_json(path), path)


def _validated(model: type[Model], values: Any, path: Path) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{path}: {complaint(error)}") from None


def _renamed_comparison(values: dict[str, Any]) -> dict[str, Any]:
    rows = [_renamed(row, RENAMED_IN_ROW) for row in values.get("rows", [])]
    matched = [_renamed(match, RENAMED_IN_MATCH) for match in values.get("standings", [])]
    for match in matched:
        match["result"] = RENAMED_RESULTS.get(match["result"], match["result"])
    return {**_renamed(values, RENAMED), "schema": SCHEMA, "rows": rows, "matched_comparisons": matched}


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
