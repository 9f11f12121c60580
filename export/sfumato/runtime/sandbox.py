"""Run work on an untrusted file in a child process, which may die instead of this one.

A TensorFlow Lite model is a program: one changed byte in the size of an enlargement asks for gigabytes, and the interpreter may
end the process where Python would raise. `run_sandboxed` forks, limits memory and processor time, and says what happened.

    run_sandboxed(lambda: try_model(content), "the model")
"""

import faulthandler
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

from sfumato.core.errors import SfumatoError

SECONDS = 4
"""Of the processor."""
MEGABYTES = 600
"""On top of what this process already holds."""
WAIT = 120.0
"""Seconds by the clock: work that waits takes no processor time."""


def run_sandboxed(work: Callable[[], object], name: str, *, megabytes: int = MEGABYTES) -> None:
    """Run `work` in a forked copy of this process; what it returns or changes is lost.

    `megabytes` is what it may take on top of what this process holds. Where processes cannot be forked, it runs here.

    Raises:
        SfumatoError: `work` raised one, raised anything else, took too much memory or time, or ended its process.
    """
    if not hasattr(os, "fork"):
        work()
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(work, name, writing, megabytes)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        if not select.select([stream], [], [], WAIT)[0]:
            os.kill(child, signal.SIGKILL)
        message = stream.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise SfumatoError(f"{name} {_death(os.WTERMSIG(status), megabytes)}")
    if message or status:
        raise SfumatoError(message or f"{name} ended the process that tried it")


def _death(number: int, megabytes: int) -> str:
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return f"takes more than {SECONDS} s or {megabytes} MB"
    return f"crashes the interpreter ({signal.Signals(number).name})"


def _child(work: Callable[[], object], name: str, writing: int, megabytes: int) -> None:
    """Never returns: what the parent would do at its end is not for the copy to do."""
    message = f"{name} ended the process that tried it"
    try:
        _limit(megabytes)
        work()
        message = ""
    except SfumatoError as error:
        message = str(error)
    except MemoryError:
        message = f"{name} takes more than {megabytes} MB"
    except BaseException as error:  # anything: the parent hears of it in one line
        message = " ".join(f"{name}: {type(error).__name__}: {error}".split())
    finally:
        os.write(writing, message[:4000].encode("utf-8", "replace"))
        os._exit(1 if message else 0)


def _limit(megabytes: int) -> None:
    """Processor time and memory of this process; no core file and no trace, since the parent names a crash."""
    import resource  # not on Windows, which cannot fork either

    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    status = Path("/proc/self/status")
    if status.exists():  # Linux; elsewhere the limit of data does not count mapped memory
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        held = 1024 * int(lines["VmData"].split()[0])
        resource.setrlimit(resource.RLIMIT_DATA, (held + megabytes * 2**20,) * 2)
