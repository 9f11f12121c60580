"""comparison.json, field by field: other methods and ours, trained alike, attacked alike.

`desired` and `attributes` of a row are those of audit.json (`sfumato.audit.schema`). Accuracies are fractions of 1, rates are
bits. Other programs read this file: fields are added, never renamed.

    comparison = Comparison.model_validate(read_json(out / "comparison.json"))
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sfumato.audit.schema import AttackResult, AttributeResult, DesiredResult, RateBits

Verdict = Literal["less", "more", "open", "none"]


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
    stored_bytes: int = 0
    """What has to be stored beside the network."""


class Row(_Frozen):
    """One method at one operating point."""

    id: str
    method: str
    ours: bool
    target_bits: float | None = None
    """What the rate was steered to; null for methods without a target."""
    target_beyond_bits: float | None = None
    """What the residual rate was steered to."""
    reads_hidden_labels: bool
    """Whether training saw the labels of hidden attributes."""
    rate_bits: RateBits | None
    """Null where no bound is known."""
    told_bits: float | None = None
    """The tightest bound on what an upload tells (`sfumato.audit.bounds`); for ours."""
    desired: tuple[DesiredResult, ...]
    attributes: tuple[AttributeResult, ...]
    cost: PhoneCost
    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a reader has to know: attacks left out, goals not met."""
    training: dict[str, float] = {}
    """Parts of the loss in the last epoch."""
    attacks: tuple[AttackResult, ...]
    train_seconds: float
    audit_seconds: float


class Standing(_Frozen):
    """Another method beside one of ours that is at least as accurate within half a point (`sfumato.compare.tables`)."""

    method: str
    """Id of the other method's row."""
    attribute: str
    """The hidden attribute."""
    ours: str | None
    """Id of our row; null if none of ours is as accurate."""
    verdict: Verdict
    """Whether ours leak less or more with 95 % intervals apart, or no difference is shown, or there is nothing to compare."""


class Comparison(_Frozen):
    """The whole of comparison.json."""

    schema_: Literal["sfumato-comparison/1"] = Field(default="sfumato-comparison/1", alias="schema")
    dataset: str
    """Id of the data set."""
    data_spec: str
    keep: tuple[str, ...]
    hide: tuple[str, ...]
    n_test: int
    clean_accuracy: dict[str, float]
    """Of the clean cloud network that every method starts from."""
    config: dict[str, Any]
    """Epochs, batch size, seed and attacks: the same for every row."""
    rows: tuple[Row, ...]
    standings: tuple[Standing, ...] = ()
    """Each other method beside ours."""
    missing: tuple[str, ...] = ()
    """Rows that were asked for and are not finished."""
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, object]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)
