"""`python -m studies.planted_leaks`: power and false alarms of the audit, on leaks of known size."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from studies.run_command import run_command

from sfumato.core.errors import UsageError


def command(
    out: Annotated[
        Path, typer.Option(metavar="FILE.json", help="The result file; what it holds is not run again.")
    ],
    audits: Annotated[int, typer.Option(min=1, help="Simulated audits of every kind of leak.")] = 100,
    images: Annotated[int, typer.Option(min=100, help="Test images of an audit.")] = 3500,
    kinds: Annotated[
        int, typer.Option(min=0, help="Only the first so many kinds of leaks; 18 are the goal's.")
    ] = 999,
    folds: Annotated[int, typer.Option(min=1, help="Folds of a simulated audit.")] = 1,
    survivors: Annotated[
        int, typer.Option(min=0, help="Attacks that go on from the first fold; 0 for all.")
    ] = 0,
    real: Annotated[
        int, typer.Option(min=0, help="Audits whose attackers learn, for each of two channels.")
    ] = 0,
    photos: Annotated[int, typer.Option(min=100, help="Attacker's photos of those.")] = 3500,
) -> None:
    """Decide simulated audits by the shipped code and count what is called; writes after every kind of leak."""
    from studies.planted_leaks.study import cases, key, run_case, run_real

    from sfumato.core.console import note, progress, show, table
    from sfumato.core.files import read_json, write_json
    from sfumato.core.provenance import provenance

    settings = {"audits": audits, "images": images, "folds": folds, "survivors": survivors}
    results: dict[str, Any] = {
        "schema": "sfumato-planted-leaks/1",
        **settings,
        "provenance": provenance(),
        "simulated": [],
        "real": [],
    }
    before = {"folds": 1, "survivors": 0}  # of files without these settings
    if out.exists():
        results = read_json(out)
        if {name: results.get(name, before.get(name)) for name in settings} != settings:
            raise UsageError(f"{out} was made with other settings: choose another file")
    done = {key(row) for row in results["simulated"]}
    with progress() as bar:
        todo = [case for case in cases()[:kinds] if key(asdict(case)) not in done]
        task = bar.add_task("simulated audits", total=len(todo), figures="")
        for case in todo:
            bar.update(task, figures=key(asdict(case)))
            results["simulated"].append(run_case(case, images, audits, folds, survivors))
            write_json(out, results)
            bar.advance(task)
        if real and not results["real"]:
            line = bar.add_task("real attackers", total=real, figures="")
            results["real"] = run_real(
                real, photos, lambda at, total, title: bar.update(line, completed=at, description=title)
            )
            write_json(out, results)
    show(
        table(
            f"{audits} audits of {images} test images for each kind of leak",
            ("leak", "called", "95 %", "passed", "no verdict", "NAG"),
            [
                (
                    key(row),
                    f"{row['called']:.0%}",
                    f"{row['called_ci95'][0]:.0%} - {row['called_ci95'][1]:.0%}",
                    f"{row['passed']:.0%}",
                    f"{row['no_verdict']:.0%}",
                    f"{row['mean_nag']:.1%}",
                )
                for row in results["simulated"]
            ],
        )
    )
    if results["real"]:
        show(
            table(
                "planted in real uploads, real attackers",
                ("channel", "photos", "audits", "planted", "found on average", "control passed"),
                [
                    (
                        row["channel"],
                        str(row["photos"]),
                        str(row["audits"]),
                        f"{row['planted_nag']:.1%}",
                        f"{row['mean_found_nag']:.1%}",
                        f"{row['found']:.0%}",
                    )
                    for row in results["real"]
                ],
            )
        )
    note(f"wrote {out}")


if __name__ == "__main__":
    run_command(command)
