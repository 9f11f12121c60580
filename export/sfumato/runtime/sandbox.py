"""Run work on an untrusted file in a child process, which may die instead of this one.

A TensorFlow Lite model is a program: one changed byte in the size of an enlargement asks for gigabytes, and the interpreter may
end the process where Python would raise. `run_sandboxed` forks, limits memory and processor time, and says what happened.

    run_sandboxed(lambda: try_model(content), "the model")
"""

import faulthandler
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from sfumato.core.errors import SfumatoError

SECONDS = 4
"""Of the processor."""
MEGABYTES = 600
"""On top of what this process already holds."""


def run_sandboxed(work: Callable[[], object], name: str) -> None:
    """Run `work` in a forked copy of this process; what it returns or changes is lost.

    Where processes cannot be forked, it runs here.

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
        _child(work, name, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        message = stream.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise SfumatoError(f"{name} {_death(os.WTERMSIG(status))}")
    if message or status:
        raise SfumatoError(message or f"{name} ended the process that tried it")


def _death(number: int) -> str:
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return f"takes more than {SECONDS} s or {MEGABYTES} MB"
    return f"crashes the interpreter ({signal.Signals(number).name})"


def _child(work: Callable[[], object], name: str, writing: int) -> None:
    """Never returns: what the parent would do at its end is not for the copy to do."""
    message = f"{name} ended the process that tried it"
    try:
        _limit()
        work()
        message = ""
    except SfumatoError as error:
        message = str(error)
    except MemoryError:
        message = f"{name} takes more than {MEGABYTES} MB"
    except BaseException as error:  # anything: the parent hears of it in one line
        message = " ".join(f"{name}: {type(error).__name__}: {error}".split())
    finally:
        os.write(writing, message[:4000].encode("utf-8", "replace"))
        os._exit(1 if message else 0)


def _limit() -> None:
    """Processor time and memory of this process; no core file and no trace, since the parent names a crash."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    status = Path("/proc/self/status")
    if status.exists():  # Linux; elsewhere the limit of data does not count mapped memory
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        held = 1024 * int(lines["VmData"].split()[0])
        resource.setrlimit(resource.RLIMIT_DATA, (held + MEGABYTES * 2**20,) * 2)
