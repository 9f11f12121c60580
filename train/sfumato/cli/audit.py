"""`sfumato audit`: attack a finished run, or what was exported from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.options import names

if TYPE_CHECKING:
    from sfumato.audit.schema import Audit


def command(
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
            help="Train attackers so often, each time tested on other images unseen in training: narrower intervals.",
        ),
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; else the artifact's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted audit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Train fresh attackers against a frozen model; write audit.json and report.html beside it."""
    from sfumato.audit import audit
    from sfumato.core.console import emit_json, note, progress

    with progress() as bar:
        task = bar.add_task("audit", total=1, figures="")

        def watch(done: int, total: int, title: str, best: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title:<24.24}", figures=best)

        result = audit(
            artifact,
            attacks,
            attributes=names(attributes) or None,
            seed=seed,
            seeds=seeds,
            folds=folds,
            out=out,
            resume=resume,
            watch=watch,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        show_audit(result)
    note(f"wrote {(out or artifact) / 'audit.json'} and report.html")


def show_audit(audit: "Audit") -> None:
    """Print what a person wants to know first."""
    from sfumato.core.console import show, table

    show(
        table(
            f"desired: recognised from uploads, on {audit.n_test} test images",
            ("attribute", "from uploads", "95 %", "from clean photos"),
            [
                (d.name, f"{d.accuracy:.1%}", f"{d.ci95[0]:.1%} - {d.ci95[1]:.1%}", f"{d.clean_accuracy:.1%}")
                for d in audit.desired
            ],
        )
    )
    if audit.attributes:
        show_hidden(audit)
    show_bounds(audit)
    if audit.seed_spread:
        show_seed_spread(audit)
    typer.echo("passed" if audit.passed else "not passed: " + "; ".join(audit.reasons))
    for one in audit.skipped:
        typer.echo(f"not attacked: {one.name}: {one.reason}")


def show_hidden(audit: "Audit") -> None:
    """Print the best attack on each attribute."""
    from sfumato.core.console import show, table

    show(
        table(
            "hidden: the best attack on uploads"
            + (f", on {audit.n_attack_test} images in {audit.folds} folds" if audit.folds > 1 else ""),
            ("attribute", "label-only", "attack", "accuracy", "AUC", "clean", "NAG", "NAG 95 %"),
            [
                (
                    a.name if a.declared else f"{a.name} (undeclared)",
                    f"{a.label_only:.1%}",
                    f"{a.best.attack} {a.best.architecture}",
                    f"{a.best.accuracy:.1%}",
                    f"{a.best.auc:.2f}",
                    f"{a.clean:.1%}",
                    f"{a.nag_label_only:.1%}",
                    f"{a.nag_label_only_ci95[0]:.1%} - {a.nag_label_only_ci95[1]:.1%}",
                )
                for a in audit.attributes
            ],
        )
    )


def show_bounds(audit: "Audit") -> None:
    """Print how much an upload can reveal."""
    typer.echo(f"rate (uniform prior): {audit.rate_bits.mean:.1f} bits an image")
    if (bounds := audit.information_bounds) is None:
        return
    if bounds.tightest < bounds.total:
        parts = "autoregressive prior"
    else:
        parts = (
            f"mixture prior: {bounds.answer:.2f} for the answer, {bounds.residual:.2f} for everything else"
        )
    typer.echo(f"an upload tells at most {bounds.tightest:.2f} bits ({parts})")


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
