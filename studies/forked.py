"""Commands of `sfumato` in processes that start at once: forked from this one, which has imported what they need.

started = start([["train", "--data", "synthetic", ...]], folder, {"HOME": "home"}, log)
ended = started.wait()                      # or os.kill(started.process, signal.SIGKILL) before
"""

import importlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NEEDED = (
    "sfumato.cli.main",
    "sfumato.training",
    "sfumato.training.runner",
    "sfumato.export.pipeline",
    "sfumato.audit",
    "sfumato.compare.runner",
    "sfumato.bench.report",
    "sfumato.runtime.perturb_files",
)
NOT_FAILED = (0, 3)
"""Exit codes of a command that did its work; 3 is an audit that did not pass."""


def prepare() -> None:
    """Import what the commands need. Nothing is computed here: a thread of this process would be missing in theirs."""
    for name in NEEDED:
        importlib.import_module(name)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Its exit code; negative: the signal that ended it."""
    seconds: float
    text: str
    """What it wrote, on both streams."""

    @property
    def last(self) -> str:
        """The last line."""
        return next((line for line in reversed(self.text.splitlines()) if line.strip()), "")


@dataclass(frozen=True)
class Started:
    """A process that works."""

    process: int
    since: float
    log: Path

    def wait(self) -> Ended:
        """Until it ends."""
        _, status = os.waitpid(self.process, 0)
        seconds = time.monotonic() - self.since
        return Ended(os.waitstatus_to_exitcode(status), seconds, self.log.read_text(errors="replace"))


def start(
    commands: Sequence[Sequence[str]],
    folder: Path,
    variables: Mapping[str, str],
    log: Path,
    before: Callable[[], None] = lambda: None,
) -> Started:
    """Run commands one after another, up to the first that fails.

    Args:
        commands: words after `sfumato`.
        folder: the working directory.
        variables: of the environment, beside those of this process.
        log: takes both streams.
        before: called in the process first.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    since = time.monotonic()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = _work(commands, folder, variables, log, before)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return Started(process, since, log)


def _work(
    commands: Sequence[Sequence[str]],
    folder: Path,
    variables: Mapping[str, str],
    log: Path,
    before: Callable[[], None],
) -> int:
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    os.environ.update(variables)
    os.chdir(folder)
    tempfile.tempdir = None  # it was chosen for the process before
    before()
    code = 0
    for words in commands:
        code = _run(words)
        if code not in NOT_FAILED:
            break
    return code


def _run(words: Sequence[str]) -> int:
    from sfumato.cli.main import main

    sys.argv = ["sfumato", *words]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
