"""Run the tests as other machines would: with other kernels, thread counts, another time zone and locale.

Seven settings in two runs: settings of different kinds do not meet, so several share one run.
When a run fails, `--only SETTING` says which of its settings did it.
One line a run; exit code 1 if any has failed. What pytest says stays in .cache/test-matrix/RUN.txt.

Usage: `python scripts/test_matrix.py [--only NAME]... [PYTEST ARGUMENT]...`, for example `--only two-threads tests/train`.
Without `-m` of your own the tests marked slow are left out; `-m ""` runs them all.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "test-matrix"
SETTINGS: dict[str, dict[str, str]] = {
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "one-thread": {"SFUMATO_TEST_THREADS": "1"},
    # Threads that wait without spinning: two workers with two threads each share two cores.
    "two-threads": {"SFUMATO_TEST_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    # UTC+14: for most of the day it is tomorrow there.
    "far-zone": {"TZ": "Pacific/Kiritimati"},
    # Without the other two Python would take UTF-8 all the same.
    "c-locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
# Every setting once: one of ATen's kernels, one number of threads and one place a run.
RUNS: dict[str, tuple[str, ...]] = {
    "oldest": ("aten-default", "one-thread", "far-zone"),
    "avx2": ("aten-avx2", "onednn-avx2", "two-threads", "c-locale"),
}
COUNTS = re.compile(r"\d+ (?:passed|failed|skipped|errors?|xfailed|xpassed|deselected)")


def run(name: str, arguments: list[str]) -> bool:
    """Run pytest under one run's settings, or under one setting, and print its line; whether everything passed."""
    variables = {
        key: value for setting in RUNS.get(name, (name,)) for key, value in SETTINGS[setting].items()
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *arguments]
    log, started = LOGS / f"{name}.txt", time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **variables}, stdout=stream, stderr=stream, check=False
        )
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    counts = ", ".join(COUNTS.findall(lines[-1])) or f"pytest ended with {done.returncode}: {lines[-1]}"
    seconds = time.monotonic() - started
    print(f"{'FAILED' if done.returncode else 'passed'}  {name:13} {counts}, {seconds:.0f} s", flush=True)
    for line in lines:
        if line.startswith(("FAILED ", "ERROR ")):
            print(f"        {line}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run what is asked for, the two runs if nothing is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--only", action="append", choices=[*RUNS, *SETTINGS], help="a run or a setting; may be repeated"
    )
    options, arguments = parser.parse_known_args()
    if "-m" not in arguments:
        arguments = ["-m", "not slow", *arguments]
    LOGS.mkdir(parents=True, exist_ok=True)
    return 0 if all([run(name, arguments) for name in options.only or RUNS]) else 1


if __name__ == "__main__":
    sys.exit(main())
