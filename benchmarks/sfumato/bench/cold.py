"""A fresh process runs one model a few times: start-up, first run, memory.

python -m sfumato.bench.cold MODEL THREADS XNNPACK        # 1 or 0; prints one line of JSON
cold = measure_cold(subject.content, threads=1, xnnpack=True)
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfumato.bench.standard import standard_input
from sfumato.core.errors import SfumatoError
from sfumato.runtime.interpreter import find_runtime, open_model

REPEATS = 3
"""Processes; the middle one counts."""
LIMIT_S = 120


@dataclass(frozen=True)
class Cold:
    """Medians over processes."""

    init_ms: float
    first_ms: float
    peak_kb: int | None
    """Growth of the largest resident size while loading and running; None where it cannot be read."""


def measure_cold(content: bytes, *, threads: int, xnnpack: bool) -> Cold:
    """Load and run a model in processes of its own.

    Raises:
        SfumatoError: the process failed.
    """
    with tempfile.TemporaryDirectory(prefix="sfumato-cold-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        command = [sys.executable, "-m", "sfumato.bench.cold", str(path), str(threads), str(int(xnnpack))]
        found = [_once(command) for _ in range(REPEATS)]
    init, first, peak = (
        float(np.median([row[key] for row in found])) for key in ("init_ms", "first_ms", "peak_kb")
    )
    return Cold(init, first, int(peak) if peak > 0 else None)


def _once(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise SfumatoError(f"the model cannot be run in a fresh process: {lines[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def resident_kb() -> int:
    """Largest resident size of this process so far, in kB; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0])


def forget_peak() -> int:
    """Set the largest resident size back to the present one (Linux, proc(5): clear_refs), and return it in kB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_kb()


def main() -> None:
    """The fresh process."""
    content = Path(sys.argv[1]).read_bytes()
    threads, xnnpack = int(sys.argv[2]), sys.argv[3] == "1"
    runtime = find_runtime()  # the library's own start is not the model's
    before = forget_peak()
    started = time.perf_counter_ns()
    session = open_model(content, threads=threads, runtime=runtime, xnnpack=xnnpack)
    ready = time.perf_counter_ns()
    (entry,) = session.inputs.values()
    image = standard_input(entry)
    begun = time.perf_counter_ns()
    session.run(image)
    first = time.perf_counter_ns()
    for _ in range(5):
        session.run(image)
    print(
        json.dumps(
            {
                "init_ms": (ready - started) / 1e6,
                "first_ms": (first - begun) / 1e6,
                "peak_kb": resident_kb() - before,
            }
        )
    )


if __name__ == "__main__":
    main()
