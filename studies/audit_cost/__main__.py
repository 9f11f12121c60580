"""`python -m studies.audit_cost`: processor seconds of every piece of an audit, and of the whole."""

from pathlib import Path
from typing import Annotated

import typer
from studies.run_command import run_command


def command(
    artifact: Annotated[
        Path, typer.Argument(metavar="RUN|EXPORT", help="What is audited; it is not changed.")
    ],
    attacks: Annotated[
        str, typer.Option(help="quick, default, full, or before: the default audit of version 0.1.")
    ] = "default",
    attribute: Annotated[
        list[str] | None, typer.Option(help="Attack this one only; may be given several times.")
    ] = None,
    fade: Annotated[
        float, typer.Option(help="Share in 0..1 of what the uploads tell; the rest is pure noise.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the audit.")] = 0,
    folds: Annotated[int, typer.Option(min=1, help="Of the audit.")] = 1,
    every_attack: Annotated[
        bool, typer.Option("--every-attack", help="All attacks in all folds: no screening in the first.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="The seconds, for a program.")] = None,
) -> None:
    """Run an audit in a folder of its own, with an empty cache, and print what each piece of it took."""
    from studies.audit_cost.faded import Faded
    from studies.audit_cost.study import BEFORE, measure

    from sfumato.audit.artifact import load
    from sfumato.core.console import note, show, table
    from sfumato.core.files import write_json
    from sfumato.core.provenance import provenance

    attacked = load(artifact) if fade == 1 else Faded(load(artifact), fade)
    plan = BEFORE if attacks == BEFORE.name else attacks
    cost = measure(attacked, plan, attributes=attribute, seed=seed, folds=folds, screened=not every_attack)
    show(
        table(
            f"{attacks} audit of {artifact.name}: {cost.seconds:.1f} s of processor time, verdict {cost.verdict}",
            ("piece of work", "seconds", "share"),
            [(name, f"{value:.1f}", f"{value / cost.seconds:.0%}") for name, value in cost.pieces],
        )
    )
    show(
        table(
            "what it found",
            ("attribute", "best attack", "bits", "AUC", "accuracy, 95 %", "NAG, 95 %"),
            [
                (
                    one.name,
                    one.attack,
                    f"{one.bits:.4f}",
                    f"{one.auc:.3f}",
                    f"{one.accuracy:.1%} ({one.accuracy_ci95[0]:.1%} - {one.accuracy_ci95[1]:.1%})",
                    f"{one.nag:.1%} ({one.nag_ci95[0]:.1%} - {one.nag_ci95[1]:.1%})",
                )
                for one in cost.found
            ],
        )
    )
    if out is not None:
        write_json(
            out,
            {
                "schema": "sfumato-audit-cost/1",
                "plan": attacks,
                "seed": seed,
                "fade": fade,
                "folds": folds,
                "every_attack": every_attack,
                "seconds": cost.seconds,
                "pieces": dict(cost.pieces),
                "found": [vars(one) for one in cost.found],
                "provenance": provenance(),
            },
        )
        note(f"wrote {out}")


if __name__ == "__main__":
    run_command(command)
