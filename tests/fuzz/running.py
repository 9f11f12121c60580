"""Services that a fuzzing process has started: their memory and processor's time are those of its cases.

port = started(export, "--no-page").port
"""

from pathlib import Path

from tests.load.service import Service

RUNNING: list[Service] = []


def started(folder: Path, *flags: str) -> Service:
    """A service for an export, until `end_all`."""
    service = Service(folder, *flags)
    RUNNING.append(service)
    return service


def end_all() -> None:
    """No service is left."""
    while RUNNING:
        RUNNING.pop().kill()
