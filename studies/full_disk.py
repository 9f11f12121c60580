"""`python -m studies.full_disk`: every file that a command writes meets the end of a real disk.

    python -m studies.full_disk --out full.json                         # root on Linux: it mounts a tmpfs
    python -m studies.full_disk --out full.json --only perturb,ledger

A command first runs with room, and every opening of a file for writing is noted. Then it runs again for each of them: at that
opening the disk shrinks to what it holds, or to half of what the file needs more, and stays full. The command has to end with
one line and an exit code, leave no half file under a finished name and no scratch file, and succeed once there is room. Home,
cache, scratch and results all lie on that disk. Rows are kept: the same command continues.
"""

import ctypes
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from studies.forked import NOT_FAILED, Ended, prepare, start
from studies.run_command import run_command

from sfumato.core.errors import SfumatoError, UsageError

ROOM = 2**30
PAGE = 4096
REMOUNT, DETACH = 32, 2
TOLD = ("sfumato: ", "No space left on device")
"""How the last line of a command begins that met a full disk, and what it holds."""
TRACES = ("Traceback", "Exception ignored", "Exception in thread")
GROWING = ("metrics.jsonl", "tfevents")
"""Files that a whole line or record is appended to."""


class Disk:
    """A file system of its own in memory, of a size that can change."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._libc = ctypes.CDLL(None, use_errno=True)

    def mount(self, flags: int = 0, size: int = ROOM) -> None:
        """Mount it, or with REMOUNT change its size in bytes."""
        options = f"size={max(size, PAGE)}".encode()
        if self._libc.mount(b"none", os.fsencode(self.place), b"tmpfs", flags, options):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self.place))

    def unmount(self) -> None:
        """Take it away with whatever it holds."""
        self._libc.umount2(os.fsencode(self.place), DETACH)

    def used(self) -> int:
        """Bytes that are taken."""
        found = os.statvfs(self.place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def shrink(self, more: int = 0) -> None:
        """No room but for `more` bytes."""
        self.mount(REMOUNT, self.used() + more)

    def grow(self) -> None:
        """Room again."""
        self.mount(REMOUNT)


@contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """A disk at a folder.

    Raises:
        SfumatoError: this machine mounts nothing for this user.
    """
    disk = Disk(place)
    try:
        disk.mount()
    except OSError as error:
        raise SfumatoError(
            f"cannot mount a small disk at {place} ({error.strerror}): be root on Linux"
        ) from None
    try:
        yield disk
    finally:
        disk.unmount()


def watch_openings(place: Path, told: Callable[[str], None]) -> None:
    """Tell, in this process and for ever, of every file below `place` that is opened for writing, before it is."""

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event != "open" or isinstance(values[0], int) or values[2] is None:
            return
        if not values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.path.abspath(os.fsdecode(values[0]))
        if path.startswith(f"{place}{os.sep}"):
            told(path[len(str(place)) + 1 :])

    sys.addaudithook(hook)


def plain(name: str) -> str:
    """A name without what differs between two runs."""
    name = re.sub(r"(^|/)\.([^/]*?)\.[a-z0-9_]{8}\.sfumato-new", r"\1\2", name)
    name = re.sub(r"\.decode-[a-z0-9_]{8}|sfumato-(tune|convert)-[a-z0-9_]{8}", "SCRATCH", name)
    return re.sub(r"[0-9a-f]{24,}|\d{6}", "N", re.sub(r"tfevents\.[\d.]+", "tfevents", name))


@dataclass(frozen=True)
class Opening:
    """A file that a command opens for writing."""

    number: int
    name: str
    grows: int
    """Bytes that the disk holds more at the next opening."""


def openings(told: Sequence[tuple[str, int]]) -> list[Opening]:
    """The first and the last opening of every name, from names and bytes that are taken at each."""
    used = [bytes_ for _, bytes_ in told]
    found = [
        Opening(number, plain(name), max(0, after - before))
        for number, ((name, before), after) in enumerate(zip(told, [*used[1:], used[-1] + PAGE], strict=True))
    ]
    ends: dict[str, list[Opening]] = {}
    for one in found:
        ends.setdefault(one.name, []).append(one)
    return [one for of in ends.values() for one in dict.fromkeys((of[0], of[-1]))]


@dataclass(frozen=True)
class Place:
    """Where commands work: the disk, and what they find on it."""

    disk: Disk
    before: Path
    """A copy of what the disk held before the command."""
    log: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a command."""
        home = str(self.disk.place / "home")
        return {
            "HOME": home,
            "XDG_CONFIG_HOME": f"{home}/.config",
            "SFUMATO_CACHE": f"{home}/cache",
            "TMPDIR": f"{home}/tmp",
            "MPLCONFIGDIR": str(self.log.parent),  # a cache of another's
        }

    def restore(self) -> None:
        """The disk as it was, with room."""
        self.disk.grow()
        for path in self.disk.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.before, self.disk.place, dirs_exist_ok=True, symlinks=True)

    def keep(self, folder: Path) -> None:
        """Copy what the disk holds."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.disk.place, folder, symlinks=True)

    def run(self, words: Sequence[str], before: Callable[[], None] = lambda: None) -> Ended:
        """Run a command on the disk."""
        return start([words], self.disk.place, self.variables, self.log, before).wait()

    def run_watched(self, words: Sequence[str]) -> tuple[Ended, list[tuple[str, int]]]:
        """Run a command; every file that it opened for writing, and the bytes that were taken then."""
        noted = self.log.with_suffix(".openings")
        handle = os.open(noted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

        def told(name: str) -> None:
            os.write(handle, json.dumps([name, self.disk.used()]).encode() + b"\n")

        ended = self.run(words, lambda: watch_openings(self.disk.place, told))
        os.close(handle)
        return ended, [tuple(json.loads(line)) for line in noted.read_text().splitlines()]

    def run_full(self, words: Sequence[str], number: int, more: int) -> Ended:
        """Run a command whose disk is full from the opening of that number on, but for `more` bytes."""
        seen = 0

        def told(name: str) -> None:
            nonlocal seen
            if seen == number:
                self.disk.shrink(more)
            seen += 1

        return self.run(words, lambda: watch_openings(self.disk.place, told))

    def contents(self) -> dict[str, Path]:
        """Every file that is there under a finished name; scratch files of the interpreter's temporary folder are none."""
        found = (path for path in self.disk.place.rglob("*") if path.is_file() and not path.is_symlink())
        names = {plain(path.relative_to(self.disk.place).as_posix()): path for path in found}
        return {name: path for name, path in names.items() if not name.startswith("home/tmp/")}


def half_written(path: Path) -> bool:
    """Whether a file is not what its name says."""
    from PIL import Image
    from safetensors import SafetensorError, safe_open

    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in content.splitlines()]
            return bool(content) and not content.endswith(b"\n")
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as stream:
                list(stream.keys())
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".html":
            return b"</html>" not in content
    except (ValueError, OSError, SafetensorError):
        return True
    return not content and path.suffix != ".ledger"  # which grows from nothing


def faults(place: Place, ended: Ended, whole: dict[str, int]) -> list[str]:
    """What is wrong with the end of a command whose disk was full; `whole` holds the sizes that files may have."""
    found = [f"it shows {word!r}" for word in TRACES if word in ended.text]
    if ended.code < 0:
        found.append(f"it died of signal {-ended.code}")
    elif ended.code not in NOT_FAILED and not (ended.last.startswith(TOLD[0]) and TOLD[1] in ended.text):
        found.append(f"its last line is {ended.last!r}")
    for name, path in place.contents().items():
        if any(part.startswith(".") and part.endswith(".sfumato-new") for part in path.parts):
            found.append(f"scratch {name} is left")
        elif half_written(path) or (
            path.suffix in (".tflite", ".onnx", ".npy")
            and whole.get(name, -1) not in (-1, path.stat().st_size)
        ):
            found.append(f"{name} is half written")
    return found


def try_opening(
    place: Place, words: Sequence[str], opening: Opening, more: int, finished: dict[str, int]
) -> dict[str, Any]:
    """One command on a disk that is full from one opening on, and again with room."""
    place.restore()
    ended = place.run_full(words, opening.number, more)
    place.disk.grow()
    found = faults(place, ended, finished)
    if ended.code in NOT_FAILED:  # it could do without that file
        again = ended
    else:
        again = place.run(words)
        if "--resume" in again.last and again.code not in NOT_FAILED:
            again = place.run([*words, "--resume"])
        if again.code not in NOT_FAILED:
            found.append(f"with room it ends with {again.code}: {again.last!r}")
    missing = sorted(set(finished) - set(place.contents())) if again.code in NOT_FAILED else []
    if ended.code not in NOT_FAILED and missing:
        found.append(f"with room it leaves out {', '.join(missing[:3])}")
    return {
        "file": opening.name,
        "opening": opening.number,
        "room": more,
        "code": ended.code,
        "line": ended.last[:300],
        "faults": found,
    }


QUESTION = ["--data", "synthetic,count=600,size=32", "--keep", "skin", "--hide", "glasses"]
TRAIN = ["train", *QUESTION, "--config", "run.toml"]
COMPARE = ["compare", *QUESTION, "--quick"]
ONE_ROW = [*COMPARE, "--epochs", "1", "--settings", "1", "--methods", "blur", "--out", "comparison"]
STEPS: dict[str, list[str]] = {
    "train": [*TRAIN, "--mode", "answer", "--out", "run"],
    "train picture": [*TRAIN, "--mode", "picture", "--bits", "2", "--out", "picture"],
    "export": ["export", "run", "--out", "export", "--tune", "never", "--allow-missed-goal"],
    "audit": ["audit", "run", "--attacks", "quick", "--attributes", "glasses"],
    "perturb": ["perturb", "export", "photo.png", "--out", "uploads"],
    "send": ["send", "export", "photo.png", "--anyway", "--server"],
    "ledger": ["ledger", "limit", "files", "--per-day", "50"],
    "export --android": ["export", "export", "--android", "app"],
    "report": ["bench", "report", "result.json", "--out", "tables"],
    "compare": ONE_ROW,
    "compare again": ONE_ROW,
}
"""Commands, in an order in which each finds what it needs."""
CONFIG = "batch_size = 16\nepochs = 4\npretrain_epochs = 3\nclean_epochs = 2\nseed = 3\n"
RESULT = Path(__file__).parent / "cryptographic" / "results.json"


def run_with_room(place: Place, name: str) -> None:
    """Run a step for what later ones find.

    Raises:
        SfumatoError: it failed.
    """
    if place.run(STEPS[name]).code != 0:
        raise SfumatoError(f"{name} fails with room too: {place.log.read_text()[-300:]}")


def furnish(place: Path) -> None:
    """What the commands find on the disk."""
    import numpy as np
    from PIL import Image

    (place / "home" / "tmp").mkdir(parents=True)
    (place / "run.toml").write_text(CONFIG)
    (place / "app" / "app").mkdir(parents=True)
    (place / "app" / "settings.gradle.kts").write_text("// a project\n")
    shutil.copy(RESULT, place / "result.json")
    ramp = np.linspace(0, 255, 40 * 50 * 3).reshape(40, 50, 3).astype(np.uint8)
    Image.fromarray(ramp).save(place / "photo.png")


@contextmanager
def serving(export: Path, log: Path) -> Iterator[str]:
    """The address of a service for the export; it works elsewhere than on the small disk."""
    import signal
    import time

    log.touch()  # it is looked at before the process has made it
    started = start([["serve", str(export), "--port", "0"]], log.parent, {}, log)
    try:
        for _ in range(1200):
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            if found := [line["url"] for line in lines if "url" in line]:
                break
            time.sleep(0.1)
        else:
            raise SfumatoError(f"the service does not start: {log.read_text()[-300:]}")
        yield str(found[0])
    finally:
        os.kill(started.process, signal.SIGTERM)
        started.wait()


def study(
    place: Place,
    name: str,
    words: list[str],
    rows: list[dict[str, Any]],
    tell: Callable[[int, int, str], None],
) -> None:
    """Run a command with room, then once for every row that is still to come. The disk then holds what it wrote."""
    place.keep(place.before)
    ended, told = place.run_watched(words)
    if ended.code not in NOT_FAILED:
        raise SfumatoError(f"{name} fails with room too: {ended.last}")
    finished = {one: path.stat().st_size for one, path in place.contents().items()}
    after = place.before.with_name("after")
    place.keep(after)
    trials = [
        (one, more)
        for one in openings(told)
        for more in ((0,) if one.grows < 2 * PAGE else (0, one.grows // 2 // PAGE * PAGE))
    ]
    done = {(row["opening"], row["room"] > 0) for row in rows if row["command"] == name}
    for index, (one, more) in enumerate(trials):
        tell(index, len(trials), f"{name}: {one.name}")
        if (one.number, more > 0) not in done:
            rows.append({"command": name, **try_opening(place, words, one, more, finished)})
    tell(len(trials), len(trials), name)
    shutil.rmtree(place.before)
    after.rename(place.before)
    place.restore()


def command(
    out: Annotated[
        Path, typer.Option(metavar="FILE.json", help="Takes every row; what it holds is not run again.")
    ],
    only: Annotated[
        str, typer.Option(help=f"Some of {', '.join(STEPS)}; the others run with room alone.")
    ] = "",
) -> None:
    """Fill a disk at every file that a command writes, and look at what the command says and leaves."""
    from sfumato.core.console import note, progress, show, table
    from sfumato.core.errors import unknown
    from sfumato.core.files import read_json, write_json
    from sfumato.core.options import names

    chosen = list(names(only)) or list(STEPS)
    if wrong := [name for name in chosen if name not in STEPS]:
        raise UsageError(unknown("command", wrong[0], STEPS))
    results: dict[str, Any] = (
        read_json(out) if out.exists() else {"schema": "sfumato-full-disk/1", "rows": []}
    )
    rows: list[dict[str, Any]] = results["rows"]
    prepare()
    with tempfile.TemporaryDirectory(prefix="sfumato-disk-") as scratch, progress(alone=True) as bar:
        root = Path(scratch)
        (root / "disk").mkdir()
        with small_disk(root / "disk") as disk:
            place = Place(disk, root / "before", root / "log")
            furnish(disk.place)
            for name in list(STEPS)[: max(map(list(STEPS).index, chosen)) + 1]:
                task = bar.add_task(name, total=1, figures="")

                def tell(done: int, total: int, title: str, task: Any = task) -> None:
                    bar.update(task, completed=done, total=max(total, 1), figures=title, refresh=True)
                    write_json(out, results)

                words = STEPS[name]
                if name == "compare again" and not (disk.place / "comparison").exists():
                    run_with_room(place, "compare")  # whose row is then kept
                if name not in chosen:
                    if name not in ("compare", "audit", "train picture", "send"):
                        run_with_room(place, name)
                elif name == "send":
                    shutil.copytree(disk.place / "export", root / "served", dirs_exist_ok=True)
                    with serving(root / "served", root / "service.log") as url:
                        study(place, name, [*words, url], rows, tell)
                else:
                    study(place, name, words, rows, tell)
    counted = []
    for name in STEPS:
        if of := [row for row in rows if row["command"] == name]:
            files, bad = {row["file"] for row in of}, [row for row in of if row["faults"]]
            counted.append(
                (name, len(files), len(of), sum(row["code"] in NOT_FAILED for row in of), len(bad))
            )
    show(table("a full disk at every file", ("command", "files", "trials", "did without", "faults"), counted))
    for row in rows:
        for fault in row["faults"]:
            note(f"{row['command']} at {row['file']}, {row['room']} bytes left: {fault}")
    if any(row["faults"] for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    run_command(command)
