"""`python -m studies.killed`: kill -9 at random moments of training and export, go on, and compare with what was left alone.

    python -m studies.killed --points 100 --out killed.json            # answer mode, then picture mode
    python -m studies.killed --points 20 --mode answer --out answer.json

The moments are uniform in the time that the undisturbed training and export take. After each, `train --resume` and `export`
run to their end. The records of metrics.jsonl have to be those of the undisturbed run but for their seconds, the weights and
every file of the export byte for byte but for the commit in the contract, and nothing may be left behind. Rows are kept: the
same command continues.
"""

import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from studies.forked import Ended, prepare, start
from studies.run_command import run_command

from sfumato.core.errors import UsageError

CONFIG = """data = "synthetic,count=600,size=32"
keep = ["skin"]
hide = ["glasses"]
seed = 3
batch_size = 16
epochs = 4
pretrain_epochs = 3
clean_epochs = 2
"""
MODES = {"answer": "", "picture": "bits = 2.0\n"}
WEIGHTS = ("clean.safetensors", "local.safetensors", "cloud.safetensors")


def run_of(mode: str) -> list[str]:
    """The words of the training."""
    return ["train", "--config", "run.toml", "--mode", mode, "--out", "run"]


EXPORT = [
    "export",
    "run",
    "--out",
    "export",
    "--variants",
    "float32,int8",
    "--tune",
    "never",
    "--allow-missed-goal",
]


def make_place(place: Path, mode: str) -> None:
    """An empty folder to work in."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "home").mkdir(parents=True)
    (place / "run.toml").write_text(CONFIG + MODES[mode])


def environment(place: Path) -> dict[str, str]:
    """Everything that is written lies in the folder, also the cache: decoding is interrupted too."""
    home = str(place / "home")
    return {"HOME": home, "XDG_CONFIG_HOME": home, "SFUMATO_CACHE": str(place / "cache"), "TMPDIR": home}


def records(place: Path) -> list[dict[str, Any]]:
    """The log of the run, without what is measured by the clock."""
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def without_commit(content: bytes) -> Any:
    """A contract but for the commit of the checkout, which may move on while the study runs."""
    contract = json.loads(content)
    for name in ("git_commit", "git_dirty"):
        contract["provenance"].pop(name, None)
    return contract


def left_over(place: Path) -> list[str]:
    """Scratch files; a killed decoding is swept a day later, so the cache is left out."""
    from sfumato.core.files import is_scratch

    return [path.name for folder in ("run", ".") for path in (place / folder).glob(".*") if is_scratch(path)]


def differences(whole: Path, broken: Path) -> list[str]:
    """What is not as in the undisturbed run."""
    found = [] if records(whole) == records(broken) else ["metrics.jsonl"]
    found += [
        name
        for name in WEIGHTS
        if (whole / "run" / name).read_bytes() != (broken / "run" / name).read_bytes()
    ]
    one, other = files(whole / "export"), files(broken / "export")
    if without_commit(one["contract.json"]) == without_commit(other["contract.json"]):
        for name in ("contract.json", "contract.sha256"):  # the second is the hash of the first
            one[name] = other[name]
    found += [f"export/{name}" for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return found + left_over(broken)


def undisturbed(place: Path, mode: str) -> float:
    """Training and export as they should be; the seconds that they took.

    Raises:
        UsageError: they failed by themselves.
    """
    make_place(place, mode)
    ended = start([run_of(mode), EXPORT], place, environment(place), place.with_suffix(".log")).wait()
    if ended.code != 0:
        raise UsageError(f"the undisturbed run fails: {ended.last}")
    return ended.seconds


def go_on(place: Path, mode: str) -> Ended:
    """What a person types after a crash; an export that is whole is not made again."""
    commands = [[*run_of(mode), "--resume"]]
    if not (place / "export").exists():
        commands.append(EXPORT)
    return start(commands, place, environment(place), place.with_suffix(".log")).wait()


def stage(place: Path) -> str:
    """Where the run was caught, by what is there."""
    run = place / "run"
    steps = {
        "export finished": place / "export",
        "export": run / "card.json",
        "co-training": run / "checkpoint" / "latest",
        "answer": run / "checkpoint_answer" / "latest",
        "after the clean network": run / "clean.safetensors",
        "clean network": run / "config.json",
    }
    return next((name for name, path in steps.items() if path.exists()), "before the run's folder")


def interrupt(place: Path, mode: str, moment: float) -> dict[str, Any]:
    """Kill at a moment, in seconds; go on; what became of it."""
    make_place(place, mode)
    started = start([run_of(mode), EXPORT], place, environment(place), place.with_suffix(".log"))
    time.sleep(max(0.0, started.since + moment - time.monotonic()))
    # Not reaped before: the number is still its own, whether it works or has ended.
    try:
        os.killpg(started.process, signal.SIGKILL)
    except ProcessLookupError:  # too early for a group of its own
        os.kill(started.process, signal.SIGKILL)
    caught = started.wait()
    row = {
        "mode": mode,
        "moment": round(moment, 3),
        "killed": caught.code == -signal.SIGKILL,
        "stage": stage(place),
    }
    ended = go_on(place, mode)
    if ended.code != 0:
        return {**row, "outcome": "failed", "detail": ended.last}
    other = differences(place.with_name(f"whole-{mode}"), place)
    return {**row, "outcome": "differs" if other else "equal", "detail": ", ".join(other)}


def command(
    out: Annotated[
        Path, typer.Option(metavar="FILE.json", help="Takes every row; what it holds is not run again.")
    ],
    points: Annotated[int, typer.Option(min=1, help="Interruptions, shared between the modes.")] = 100,
    mode: Annotated[str, typer.Option(help="answer or picture; else both.")] = "",
    seed: Annotated[int, typer.Option(help="Decides the moments.")] = 0,
) -> None:
    """Interrupt training and export at random moments and compare the results with the undisturbed ones."""
    from sfumato.core.console import note, progress, show, table
    from sfumato.core.errors import unknown
    from sfumato.core.files import read_json, write_json
    from sfumato.core.provenance import provenance

    if mode and mode not in MODES:
        raise UsageError(unknown("mode", mode, MODES))
    modes = [mode] if mode else list(MODES)
    settings = {"points": points, "modes": modes, "seed": seed}
    results: dict[str, Any] = {
        "schema": "sfumato-killed/1",
        **settings,
        "provenance": provenance(),
        "rows": [],
    }
    if out.exists():
        results = read_json(out)
        if {name: results.get(name) for name in settings} != settings:
            raise UsageError(f"{out} was made with other settings: choose another file")
    note(f"seed {seed}")
    prepare()
    with tempfile.TemporaryDirectory(prefix="sfumato-killed-") as scratch, progress(alone=True) as bar:
        task = bar.add_task("interruptions", total=points, figures="")
        lasting: dict[str, float] = {}
        for number in range(points):
            which = modes[number % len(modes)]
            bar.update(task, completed=number, figures=which, refresh=True)
            if number < len(results["rows"]):
                continue
            if which not in lasting:
                lasting[which] = undisturbed(Path(scratch) / f"whole-{which}", which)
                note(f"{which}: undisturbed in {lasting[which]:.1f} s")
            share = random.Random(f"{seed}/{number}").random()
            moment = share * lasting[which]
            # On a machine that is less busy now a run may end before: no interruption.
            while not (row := interrupt(Path(scratch) / f"broken-{which}", which, moment))["killed"]:
                moment /= 2
            results["rows"].append({"share": round(share, 4), **row})
            write_json(out, results)
        bar.update(task, completed=points, figures="", refresh=True)
    rows = results["rows"]
    shown = [
        (one, part, len(of), sum(row["outcome"] == "equal" for row in of))
        for one in modes
        for part in sorted({row["stage"] for row in rows if row["mode"] == one})
        if (of := [row for row in rows if (row["mode"], row["stage"]) == (one, part)])
    ]
    show(table(f"kill -9 at {len(rows)} moments", ("mode", "caught in", "times", "equal results"), shown))
    bad = [row for row in rows if row["outcome"] != "equal"]
    for row in bad:
        note(f"{row['mode']} at {row['moment']} s ({row['stage']}): {row['outcome']}: {row['detail']}")
    if bad:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_command(command)
