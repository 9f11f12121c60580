"""A real `sfumato serve` in a process of its own, on this machine's loopback.

with Service(export, "--batch", "16") as service:
    service.port, service.resident_mb
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sfumato.core.errors import SfumatoError

UNLIMITED = ("--rate", "1000000", "--burst", "1000000", "--no-page")
"""One client stands for many here."""
PATIENCE = 120.0
"""Seconds until a service listens, or ends."""


class Service:
    """Runs from its making to the end of the block."""

    def __init__(
        self, export: Path, *options: str, port: int = 0, variables: Mapping[str, str] | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the block
        command = [
            sys.executable,
            "-m",
            "sfumato.cli.main",
            "serve",
            str(export),
            "--port",
            str(port),
            *options,
        ]
        self.process = subprocess.Popen(command, stderr=self._log, env={**os.environ, **(variables or {})})
        self.port = self._listening()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._log.close()

    @property
    def resident_mb(self) -> float:
        """Memory of the process that is in use now, in MB."""
        return self._memory_mb("VmRSS")

    @property
    def peak_mb(self) -> float:
        """Most of it since `forget_peak`."""
        return self._memory_mb("VmHWM")

    def forget_peak(self) -> None:
        """Let `peak_mb` count from now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _memory_mb(self, name: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        (line,) = (line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1024

    @property
    def cpu_seconds(self) -> float:
        """Time on a processor so far, of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[str]:
        """Its log so far."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read().splitlines()

    def _listening(self) -> int:
        """Wait until it listens; the port."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.alive:
            for line in self.lines():
                if '"listening"' in line:
                    return int(json.loads(line)["url"].rpartition(":")[2])
            time.sleep(0.02)
        self.kill()
        raise SfumatoError(f"the service did not start: {' '.join(self.lines()[-1:]) or 'no message'}")
