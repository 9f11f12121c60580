"""An audit, repeated: do its figures hold?

    result = reproduce(Path("audit.json"), Path("export"), out=Path("again"))
    result.holds, result.exact, result.figures

Everything comes from the file that is checked: plan, seeds, folds, strength, rule. Before anything is trained the artifact's
files, its data and its splits are compared with what the file names, by SHA-256. Where code, versions and machine are equal,
figures have to be equal to the last digit. Elsewhere sums end in other digits and attackers become other networks. There a
figure has to lie within its interval (docs/decisions/0052-verifiable-audit.md). A seed of the verifier's own shows whether
the maker chose its seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sfumato.audit.artifact import Artifact, load
from sfumato.audit.basis import file_digests, machine_differences
from sfumato.audit.pass_rule import DEFAULT
from sfumato.audit.plan import PLANS, Plan
from sfumato.audit.runner import Watch, audit, result_files, silent
from sfumato.audit.schema import Audit, Basis, Gain, read_audit
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import write_json

SCHEMA = "sfumato-reproduction/1"
FILE = "reproduction.json"
LOOSE = 0.05
"""Tolerance of a figure without an interval, as a share of it; only where versions, machine or seed differ."""
VOLATILE = {"seconds", "provenance", "date", "command", "data_spec", "basis", "seed", "seeds"}
"""Entries of audit.json that say when, where and by whom, and the basis, which is compared before."""


class NotRepeatableError(SfumatoError):
    """What is here is not what the audit names, or it names too little."""

    exit_code = 4


@dataclass(frozen=True)
class Figure:
    """One figure of an audit, as it was stated and as it was found."""

    name: str
    stated: float | str | None
    found: float | str | None
    tolerance: float | None
    """The most that the two may differ; None: they have to be equal."""
    holds: bool


@dataclass(frozen=True)
class Reproduction:
    """An audit beside its repetition."""

    figures: tuple[Figure, ...]
    differences: tuple[str, ...]
    """Between the maker's versions, machine and seed and those here; none: every digit has to be equal."""
    notes: tuple[str, ...]
    """What the maker chose and this release would not: a plan, a rule or attributes of its own."""
    seed: int
    stated_seed: int

    @property
    def exact(self) -> bool:
        """Whether equal figures were demanded."""
        return not self.differences

    @property
    def holds(self) -> bool:
        """Whether every figure holds."""
        return all(figure.holds for figure in self.figures)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": SCHEMA,
            "holds": self.holds,
            "exact": self.exact,
            "differences": list(self.differences),
            "notes": list(self.notes),
            "seed": self.seed,
            "stated_seed": self.stated_seed,
            "figures": [asdict(figure) for figure in self.figures],
        }


def reproduce(
    path: Path,
    artifact: Path,
    *,
    out: Path,
    seed: int | None = None,
    cloud: str | None = None,
    data: str | None = None,
    others: Sequence[Path] = (),
    resume: bool = False,
    command: str = "",
    watch: Watch = silent,
) -> Reproduction:
    """Repeat an audit and compare. Writes `reproduction.json` into `out`, beside the audit that was made anew and its report.

    Args:
        path: the audit that is checked.
        artifact: folder of the run or export that it is about.
        out: folder for the results.
        seed: of the verifier's own; None: that of the audit.
        cloud: as for `audit`.
        data: as for `audit`.
        others: folders of the further artifacts that the audit names, in any order.
        resume: go on with an interrupted repetition in `out`.
        command: the command line, for the report.
        watch: told about progress.

    Raises:
        NotRepeatableError: artifact, data, splits or further artifacts are not those that the audit names, it names none, or
            its plan calls itself one of this release and is another.
        UsageError: `out` holds the very audit that is checked.
        SfumatoError: the file is no audit, or the audit fails.
    """
    stated = read_audit(path)
    if stated.basis is None:
        raise NotRepeatableError(
            f"{path} cannot be repeated: it does not name the files and data it was made from; audit again"
        )
    if result_files(out, stated.strength)[0].resolve() == path.resolve():
        raise UsageError(f"--out {out} would replace {path}: give another folder")
    plan = named_plan(stated, path)
    loaded = load_named(path, stated.basis, artifact, cloud, data)
    found = audit(
        loaded,
        plan,
        attributes=stated.basis.asked,
        seed=stated.seed if seed is None else seed,
        seeds=max(1, len(stated.seeds)),
        folds=stated.folds,
        out=out,
        resume=resume,
        strength=stated.strength,
        others=named_others(path, stated.basis, others, cloud, data),
        rule=stated.rule or DEFAULT,
        command=command,
        watch=watch,
    )
    result = compare(stated, found)
    write_json(out / FILE, result.to_json())
    return result


def named_plan(stated: Audit, path: Path) -> Plan:
    """The plan of an audit.

    Raises:
        NotRepeatableError: it has the name of a plan of this release and other values, or values that this release does not
            know.
    """
    assert stated.basis is not None
    try:
        plan = Plan.model_validate(stated.basis.plan)
    except ValueError:
        raise NotRepeatableError(
            f"{path} cannot be repeated: its plan has values that this release does not know"
        ) from None
    known = PLANS.get(plan.name)
    if known is not None and plan != known:
        changed = [name for name in Plan.model_fields if getattr(plan, name) != getattr(known, name)]
        raise NotRepeatableError(
            f"{path} cannot be repeated: its plan calls itself {plan.name} and is not that of this release "
            f"({', '.join(changed)} differ): audit again, or check it with the release that made it"
        )
    return plan


def load_named(path: Path, basis: Basis, folder: Path, cloud: str | None, data: str | None) -> Artifact:
    """The artifact that a basis names, with its data.

    Raises:
        NotRepeatableError: it is another one, or the data are.
    """
    if not basis.files:
        raise NotRepeatableError(
            f"{path} cannot be repeated: it was made of a model in memory, and names no file"
        )
    try:
        loaded = load(folder, cloud=cloud, data=data)
    except UsageError:
        raise
    except SfumatoError as error:
        raise NotRepeatableError(f"{path} cannot be repeated: {error}") from None
    found = file_digests(loaded)
    if wrong := [name for name in sorted({*basis.files, *found}) if basis.files.get(name) != found.get(name)]:
        raise NotRepeatableError(
            f"{path} cannot be repeated: {', '.join(wrong)} of {folder} is not the file that it names"
        )
    held = loaded.dataset
    if held.digest != basis.data:
        raise NotRepeatableError(
            f"{path} cannot be repeated: the data at {held.spec} have the digest {held.digest[:16]}..., and it names "
            f"{basis.data[:16]}...: files, labels or splits differ"
        )
    return loaded


def named_others(
    path: Path, basis: Basis, folders: Sequence[Path], cloud: str | None, data: str | None
) -> dict[str, Artifact]:
    """The further artifacts of a basis, under the names they have there.

    Raises:
        NotRepeatableError: one is missing, or one that it does not name was given.
    """
    given = [(folder, load(folder, cloud=cloud, data=data)) for folder in folders]
    out = {}
    for name, digests in basis.others.items():
        fitting = [one for _, one in given if file_digests(one) == digests]
        if not fitting:
            raise NotRepeatableError(f"{path} cannot be repeated: give --other with the artifact of '{name}'")
        out[name] = fitting[0]
    for folder, one in given:
        if file_digests(one) not in basis.others.values():
            raise NotRepeatableError(f"{path} cannot be repeated: it names no other artifact like {folder}")
    return out


def compare(stated: Audit, found: Audit) -> Reproduction:
    """Two audits of the same artifact, figure by figure."""
    differences = list(machine_differences(stated, found))
    if stated.seed != found.seed:
        differences.append(f"seed {stated.seed}, here {found.seed}")
    exact = not differences
    before, now = dict(figures(stated)), dict(figures(found))
    lines = []
    for name in [*before, *(name for name in now if name not in before)]:
        one, other = before.get(name), now.get(name)
        # Of the audit made here: a maker may have made its own intervals wide.
        tolerance = None if exact or other is None or isinstance(other.value, str) else other.within
        lines.append(judged(name, one, other, tolerance))
    if exact:
        lines.append(rest(stated, found))
    return Reproduction(tuple(lines), tuple(differences), chosen(found), found.seed, stated_seed=stated.seed)


def chosen(audit: Audit) -> tuple[str, ...]:
    """What whoever made an audit chose for it, where another choice may have told more."""
    assert audit.basis is not None
    out = []
    if audit.plan not in PLANS:
        out.append(f"its plan {audit.plan!r} is none of this release")
    elif audit.plan == "quick":
        out.append("its plan is quick: --attacks default tries more")
    if audit.rule is not None and audit.rule != DEFAULT:
        limits = ", ".join(f"{name} {value:g}" for name, value in audit.rule.model_dump().items())
        out.append(f"its rule is not the default one: {limits}")
    if audit.basis.asked is not None:
        out.append(f"only {', '.join(audit.basis.asked) or 'nothing'} was attacked: so it was asked for")
    return tuple(out)


@dataclass(frozen=True)
class Stated:
    """A figure and how far another audit may be from it."""

    value: float | str | None
    within: float = 0.0


def judged(name: str, stated: Stated | None, found: Stated | None, tolerance: float | None) -> Figure:
    """One line of the comparison; a figure that one of the two lacks does not hold."""
    before, now = (None if one is None else one.value for one in (stated, found))
    if stated is None or found is None:
        return Figure(name, before, now, tolerance, False)
    if tolerance is None or not isinstance(before, int | float) or not isinstance(now, int | float):
        return Figure(name, before, now, None, before == now)
    return Figure(name, before, now, tolerance, abs(before - now) <= tolerance)


def figures(audit: Audit) -> Iterator[tuple[str, Stated]]:
    """What an audit is read for: name -> figure, with the half width of its interval."""
    yield "verdict", Stated(audit.verdict)
    yield "test images", Stated(audit.n_test)
    yield "attackers' test images", Stated(audit.n_attack_test)
    for one in audit.desired:
        yield f"{one.name}: accuracy", Stated(one.accuracy, half(one.ci95))
        yield f"{one.name}: clean accuracy", Stated(one.clean_accuracy)
        if one.cells_right is not None:
            yield f"{one.name}: cells right", Stated(one.cells_right, half(one.ci95))
    rate = audit.rate_bits
    yield "rate, bits", Stated(rate.mean, half(rate.ci95) or LOOSE * rate.mean)
    yield "largest rate, bits", Stated(rate.max, LOOSE * rate.max)
    if (bounds := audit.information_bounds) is not None:
        for name, value, photos in (
            ("leakage bound, bits", bounds.tightest, bounds.total_photos),
            ("bound beyond the answer, bits", bounds.residual, bounds.residual_photos),
        ):
            yield (
                name,
                Stated(value, max(LOOSE * abs(value), half(photos.ci95) if photos is not None else 0.0)),
            )
    yield "upload, bytes", Stated(audit.upload_bytes.mean, LOOSE * audit.upload_bytes.mean)
    for attribute in audit.attributes:
        yield (
            f"{attribute.name}: best attack, accuracy",
            Stated(attribute.best.accuracy, half(attribute.best.ci95)),
        )
        yield from gains(attribute.name, attribute.gains)
    for leak in audit.exact:
        yield f"{leak.attribute}: told by a word, bits", Stated(leak.bits, leak.bits_upper - leak.bits)
        yield from gains(leak.attribute, leak.gains)
    for control in audit.positive_controls:
        yield (
            f"{control.attribute}: planted leak found",
            Stated(control.found_nag, control.found_upper - control.found_nag),
        )
    for composed in audit.compositions:
        yield (
            f"{composed.attribute}: {composed.what}, {composed.uploads} uploads, gain",
            Stated(composed.nag, composed.nag_upper - composed.nag),
        )


def gains(name: str, measured: Sequence[Gain]) -> Iterator[tuple[str, Stated]]:
    """The gain of the best attack by each measure, as shares of 1."""
    for gain in measured:
        within = 0.0 if gain.upper is None or gain.lower is None else (gain.upper - gain.lower) / 2
        yield f"{name}: gain by {gain.measure.replace('_', ' ')}", Stated(gain.nag, within)


def half(interval: tuple[float, float] | None) -> float:
    """Half the width of an interval; 0 without one."""
    return 0.0 if interval is None else (interval[1] - interval[0]) / 2


def rest(stated: Audit, found: Audit) -> Figure:
    """Every other entry of the two files, as one line."""
    before, now = (dict(leaves(one.to_json())) for one in (stated, found))
    wrong = [
        name for name in [*before, *now] if name not in before or name not in now or before[name] != now[name]
    ]
    said = f"{len(before)} equal" if not wrong else f"{wrong[0]} and others" if len(wrong) > 1 else wrong[0]
    return Figure("all entries of the file", f"{len(before)} equal", said, None, not wrong)


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every number and text of an audit with its place, but those that are `VOLATILE`."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if name or key not in VOLATILE:
                yield from leaves(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from leaves(part, f"{name}[{at}]")
    else:
        yield name, value
