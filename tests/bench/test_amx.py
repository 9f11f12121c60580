"""Linux refuses AMX to a process that asked it to, and nothing else."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.bench import amx
from sfumato.core.errors import UsageError

ASK = """
import ctypes, errno, sys
from sfumato.bench.amx import ARCH_PRCTL, REQUEST_PERMISSION, refuse_amx
libc = ctypes.CDLL(None, use_errno=True)
def ask(request):
    return 0 if libc.syscall(ARCH_PRCTL, request, 18) == 0 else ctypes.get_errno()
"""
REFUSING = """
before = ask(REQUEST_PERMISSION)
assert before != errno.EPERM, before
refuse_amx()
assert ask(REQUEST_PERMISSION) == errno.EPERM
assert ask(0x1022) != errno.EPERM  # which permissions it has
"""
MEASURING = """
from typer.testing import CliRunner
from sfumato.cli.main import app
done = CliRunner().invoke(app, ["bench", "host", *sys.argv[1:]], catch_exceptions=False)
assert done.exit_code == 0, done.output
assert ask(REQUEST_PERMISSION) == errno.EPERM
print(done.stdout)
"""

needs_filters = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="AMX is of x86-64, the filter of Linux",
)


def run(code: str, *arguments: str) -> str:
    """What a process of its own prints: the refusal cannot be taken back."""
    command = [sys.executable, "-c", ASK + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "AMX cannot be refused" in done.stderr:
        pytest.skip("this kernel takes no filters")
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_filters
def test_permission_is_refused_from_then_on() -> None:
    run(REFUSING)


@pytest.mark.slow
@needs_filters
def test_the_option_measures_without_it_and_says_so(sealed: Path) -> None:
    few = ["--variant", "int8", "--rounds", "2", "--runs", "10", "--seconds", "0.1"]
    values = json.loads(run(MEASURING, str(sealed), *few, "--no-amx", "--json"))
    assert values["settings"]["amx"] is False
    (row,) = values["rows"]
    assert row["p50_ms"] > 0


def test_elsewhere_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(UsageError, match="Linux and x86-64 only"):
        amx.refuse_amx()
