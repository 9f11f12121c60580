"""`python -m studies.audit_cost`: processor seconds of every piece of an audit, and of the whole."""

from pathlib import Path
from typing import Annotated

import typer
from studies.run_command import run_command


def command(
    artifact: Annotated[
        Path, typer.Argument(metavar="RUN|EXPORT", help="What is audited; it is not changed.")
    ],
    attacks: Annotated[str, typer.Option(help="quick, default or full.")] = "default",
    seed: Annotated[int, typer.Option(help="Of the audit.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="The seconds, for a program.")] = None,
) -> None:
    """Run an audit in a folder of its own, with an empty cache, and print what each piece of it took."""
    from studies.audit_cost.study import measure

    from sfumato.core.console import note, show, table
    from sfumato.core.files import write_json
    from sfumato.core.provenance import provenance

    cost = measure(artifact, attacks, seed=seed)
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
            ("attribute", "best attack", "gain by cross entropy, bits", "AUC"),
            [(one.name, one.attack, f"{one.bits:.4f}", f"{one.auc:.3f}") for one in cost.found],
        )
    )
    if out is not None:
        write_json(
            out,
            {
                "schema": "sfumato-audit-cost/1",
                "plan": attacks,
                "seed": seed,
                "seconds": cost.seconds,
                "pieces": dict(cost.pieces),
                "found": [vars(one) for one in cost.found],
                "provenance": provenance(),
            },
        )
        note(f"wrote {out}")


if __name__ == "__main__":
    run_command(command)
