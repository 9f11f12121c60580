"""`sfumato audit`: attack a finished run, or what was exported from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.options import names

if TYPE_CHECKING:
    from sfumato.audit.reproduction import Reproduction
    from sfumato.audit.schema import Audit, Gain

NOT_PASSED = 3
"""Exit code of an audit that ran and did not pass, or came to no verdict."""
VERDICTS = {"passed": "passed", "not_passed": "not passed", "no_verdict": "no verdict"}


CHOSEN = (
    "attacks",
    "attributes",
    "seeds",
    "folds",
    "strength",
    "max_drop",
    "max_nag",
    "max_nag_upper",
)
"""Options that decide what an audit finds: one that is repeated has them from its file."""


def command(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(metavar="RUN|EXPORT", help="Folder of a run or of an export.")],
    attacks: Annotated[
        str,
        typer.Option(help="How thorough: quick (minutes), default, or full (every attack; hours on CPUs)."),
    ] = "default",
    attributes: Annotated[str, typer.Option(help="What to attack, with commas; else every label.")] = "",
    seed: Annotated[int, typer.Option(help="Decides noise, weights and resamples.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, help="Audits under so many seeds from --seed on; every one has to pass.")
    ] = 1,
    folds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Train attackers so often, each time tested on other images unseen in training: narrower intervals. "
            "Of the first fold the best few go on.",
        ),
    ] = 1,
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive", help="Run every attack in every fold, and train every network to the end."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; else the artifact's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted audit.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Attack the seeds and folds on this Ray cluster: HOST:PORT, auto, or local for one of this machine.",
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Train networks on clean photos anew, and keep none; also SFUMATO_REFERENCES_GB=0.",
        ),
    ] = False,
    other: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN|EXPORT",
            help="Another release or service that gets the same photos: what both uploads tell together.",
        ),
    ] = None,
    cloud: Annotated[
        str | None,
        typer.Option(
            help="module:factory of your own cloud network, as in training: what an artifact names is never called. "
            "Several with commas."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="SPEC of the artifact's data here, where they lie elsewhere than for its maker; they have to be equal."
        ),
    ] = None,
    reproduce: Annotated[
        Path | None,
        typer.Option(
            metavar="AUDIT.json",
            help="Repeat this audit, with its settings, into --out, and say which figures hold. --seed N tries a seed of "
            "your own.",
        ),
    ] = None,
    strength: Annotated[
        int | None,
        typer.Option(
            help="Attack uploads of this one of an EXPORT's points; the result stands beside that of full strength."
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Rule: points of desired accuracy that may be lost.")
    ] = 1.5,
    max_nag: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="Rule: gain of the best attack, by any measure, in % of what clean photos give.",
        ),
    ] = 5.0,
    max_nag_upper: Annotated[
        float, typer.Option(min=0, max=100, help="Rule: one-sided upper 95 % limit of that gain, in %.")
    ] = 8.0,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Train fresh attackers against a frozen model; write audit.json and report.html beside it.

    Exit code 0: passed. 3: not passed, or no verdict. With --reproduce 0: every figure holds. 3: one does not.
    4: it cannot be repeated.
    """
    import shlex
    import sys

    from sfumato.audit import audit, load
    from sfumato.audit.clean_cache import switched_off
    from sfumato.audit.reproduction import FILE as REPRODUCTION
    from sfumato.audit.reproduction import reproduce as repeat
    from sfumato.audit.runner import result_files
    from sfumato.audit.schema import make_rule
    from sfumato.core.console import emit_json, note, progress
    from sfumato.core.errors import UsageError

    given = {
        name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    }
    if reproduce is not None:
        if wrong := [f"--{name.replace('_', '-')}" for name in CHOSEN if name in given]:
            raise UsageError(f"{', '.join(wrong)}: an audit is repeated with the settings of its own file")
        if out is None:
            raise UsageError("--reproduce needs --out DIR: what it finds must not replace what it checks")
    rule = make_rule(max_drop=max_drop / 100, max_nag=max_nag / 100, max_nag_upper=max_nag_upper / 100)
    with progress() as bar, switched_off(no_cache):
        task = bar.add_task("audit", total=1, figures="", estimated=True)

        def watch(done: int, total: int, title: str, best: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title:<24.24}", figures=best)

        line = shlex.join(["sfumato", *sys.argv[1:]])
        if reproduce is not None and out is not None:
            repeated = repeat(
                reproduce,
                artifact,
                out=out,
                seed=seed if "seed" in given else None,
                cloud=cloud,
                data=data,
                others=other or (),
                resume=resume,
                command=line,
                watch=watch,
            )
            bar.stop()
            if as_json:
                emit_json(repeated.to_json())
            else:
                show_reproduction(repeated)
            note(f"wrote {out / REPRODUCTION}, and the audit that was made anew beside it")
            if not repeated.holds:
                raise typer.Exit(NOT_PASSED)
            return
        result = audit(
            artifact,
            attacks,
            attributes=names(attributes) or None,
            seed=seed,
            seeds=seeds,
            folds=folds,
            exhaustive=exhaustive,
            out=out,
            resume=resume,
            ray=ray,
            cloud=cloud,
            data=data,
            strength=strength,
            others={f"this and {path.name}": load(path, cloud=cloud, data=data) for path in other or ()},
            rule=rule,
            command=line,
            watch=watch,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        show_audit(result)
    result_file, page = result_files(out or artifact, strength)
    note(f"wrote {result_file} and {page.name}")
    if not result.passed:
        raise typer.Exit(NOT_PASSED)


def show_reproduction(result: "Reproduction") -> None:
    """Print a line for every figure, what differed, and the conclusion."""
    from sfumato.core.console import show, table

    rows = [
        (
            one.name,
            spelled(one.stated),
            spelled(one.found),
            "equal" if one.tolerance is None else f"{one.tolerance:.4g}",
            "holds" if one.holds else "DOES NOT HOLD",
        )
        for one in result.figures
    ]
    show(table("the audit, repeated", ("figure", "stated", "found", "may differ by", ""), rows))
    for difference in result.differences:
        typer.echo(f"differs: {difference}")
    for chosen in result.notes:
        typer.echo(f"note: {chosen}")
    wrong = [one.name for one in result.figures if not one.holds]
    how = "to the last digit" if result.exact else "within their intervals"
    typer.echo(f"does not hold: {'; '.join(wrong)}" if wrong else f"holds: {len(rows)} figures, {how}")


def spelled(value: float | str | None) -> str:
    """A figure for people."""
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def show_audit(audit: "Audit") -> None:
    """Print what a person wants to know first."""
    from sfumato.core.console import show, table

    show(
        table(
            f"desired: recognised from uploads, on {audit.n_test} test images",
            ("attribute", "from uploads", "95 %", "from clean photos"),
            [
                (
                    d.name,
                    d.text(d.accuracy),
                    d.interval,
                    d.text(d.clean_accuracy),
                )
                for d in audit.desired
            ],
        )
    )
    if audit.attributes:
        show_hidden(audit)
    if audit.exact:
        show_exact(audit)
    show_bounds(audit)
    if audit.seed_spread:
        show_seed_spread(audit)
    typer.echo(VERDICTS[audit.verdict] + (": " if audit.reasons else "") + "; ".join(audit.reasons))
    for one in audit.skipped:
        typer.echo(f"not attacked: {one.name}: {one.reason}")


def show_hidden(audit: "Audit") -> None:
    """Print the best attack on each attribute."""
    from sfumato.core.console import show, table

    show(
        table(
            "hidden: the best attack on uploads"
            + (f", on {audit.n_attack_test} images in {audit.folds} folds" if audit.folds > 1 else ""),
            ("attribute", "guessing", "attack", "accuracy", "AUC", "clean", "NAG", "at most", "by"),
            [
                (
                    a.name if a.declared else f"{a.name} (undeclared)",
                    f"{a.label_only:.1%}",
                    f"{a.best.attack} {a.best.architecture}",
                    f"{a.best.accuracy:.1%}",
                    f"{a.best.auc:.2f}",
                    f"{a.clean:.1%}",
                    *worst_gain(a.worst, a.nag_label_only),
                )
                for a in audit.attributes
            ],
        )
    )


def worst_gain(gain: "Gain | None", in_accuracy: float) -> tuple[str, str, str]:
    """Gain of the measure that counts most, its upper 95 % limit, and its name; without one, that in accuracy."""
    from sfumato.audit.pass_rule import WORDS

    if gain is None or gain.nag is None:
        return f"{in_accuracy:.1%}", "-", "accuracy"
    return f"{gain.nag:.1%}", f"{gain.upper:.1%}", WORDS[gain.measure]


def show_exact(audit: "Audit") -> None:
    """Print what a word of answer mode tells about each attribute."""
    from sfumato.core.console import show, table

    rows = [
        (
            one.attribute if one.declared else f"{one.attribute} (undeclared)",
            f"{one.floor:.1%}",
            f"{one.accuracy:.1%}",
            f"{one.auc:.2f}",
            f"{one.bits:.3f}",
            f"{one.bits_upper:.3f}",
            *worst_gain(one.worst, one.nag),
        )
        for one in audit.exact
    ]
    title = (
        f"hidden: what one of {audit.exact[0].words} words tells, counted on {audit.exact[0].images} images"
    )
    show(table(title, ("attribute", "guess", "word", "AUC", "bits", "at most", "NAG", "at most", "by"), rows))


def show_bounds(audit: "Audit") -> None:
    """Print how much an upload can reveal."""
    rate = audit.rate_bits
    spread = (
        "" if rate.p99 is None else f" (99 % of the photos: {rate.p99:.1f} or less, largest {rate.max:.1f})"
    )
    typer.echo(f"rate (uniform prior): {rate.mean:.1f} bits an image{spread}")
    if (bounds := audit.information_bounds) is None:
        return
    if bounds.tightest < bounds.total:
        parts = "autoregressive prior"
    else:
        parts = (
            f"mixture prior: {bounds.answer:.2f} for the answer, {bounds.residual:.2f} for everything else"
        )
    typer.echo(f"an upload tells at most {bounds.tightest:.2f} bits ({parts})")
    if bounds.residual_allows is not None:
        typer.echo(
            f"{bounds.residual:.2f} bits beyond the answer allow {bounds.residual_allows:.0%} on an even yes-or-no attribute"
        )
    for one in audit.worst_groups:
        typer.echo(
            f"largest bound by {one.attribute}: {one.group}, {one.bits:.2f} bits on {one.images} photos"
        )


def show_seed_spread(audit: "Audit") -> None:
    """Print how far the attack seed moves the figures."""
    from sfumato.core.console import show, table

    show(
        table(
            f"best attack over {len(audit.seeds)} seeds (the tables above: the first)",
            ("attribute", "accuracy", "least", "most", "NAG", "least", "most"),
            [
                (
                    one.name,
                    *(f"{v:.1%}" for s in (one.accuracy, one.nag_label_only) for v in (s.mean, s.min, s.max)),
                )
                for one in audit.seed_spread
            ],
        )
    )
