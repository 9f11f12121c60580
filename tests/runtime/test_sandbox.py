"""Work that ends badly in the copy leaves this process whole, and is told in one line."""

import os
import signal
from collections.abc import Callable

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.runtime import sandbox
from sfumato.runtime.sandbox import run_sandboxed


def fail(error: BaseException) -> None:
    raise error


def spin() -> None:
    while True:
        pass


WORKS: dict[str, tuple[Callable[[], object], str]] = {
    "a known error": (lambda: fail(SfumatoError("no such thing")), "^no such thing$"),
    "another error": (lambda: fail(ValueError("two\nlines")), "^the work: ValueError: two lines$"),
    "a crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crashes the interpreter .SIGSEGV."),
    "an abort": (os.abort, "crashes the interpreter .SIGABRT."),
    "a way out": (lambda: os._exit(3), "ended the process"),
    "an exit": (lambda: fail(SystemExit(0)), "^the work: SystemExit"),
    "a flood": (lambda: bytearray(2**31), "takes more than 600 MB"),
    "a hang": (spin, "takes more than 1 s"),
}


@pytest.mark.parametrize("name", WORKS)
def test_whatever_happens_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    work, expected = WORKS[name]
    with pytest.raises(SfumatoError, match=expected) as caught:
        run_sandboxed(work, "the work")
    assert "\n" not in str(caught.value)


def test_nothing_of_the_copy_comes_back() -> None:
    values: list[int] = []
    run_sandboxed(lambda: values.append(1), "the work")
    assert values == []
