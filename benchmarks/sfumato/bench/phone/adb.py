"""Phones through adb: which there are, and commands on one of them, with an error for every way that can go wrong.

phone = choose(devices(), None)
phone.shell("getprop", "ro.product.model")
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.core.errors import SfumatoError, UsageError

LIMIT_S = 60
STATES = {
    "unauthorized": "has not allowed this computer: unlock it and accept its question",
    "authorizing": "is still asking whether to allow this computer: unlock it and accept",
    "offline": "does not answer: plug it in again, or run `adb reconnect offline`",
    "no permissions": "may not be opened by this user: see `adb devices`, on Linux udev rules are missing",
    "recovery": "is in recovery mode: start Android",
    "sideload": "is in sideload mode: start Android",
    "bootloader": "is in its boot loader: start Android",
}
"""State in adb's list -> what to do."""
GONE = (
    "not found",
    "device offline",
    "no devices",
    "device unauthorized",
    "error: closed",
    "connection reset",
    "protocol fault",
)
"""What adb says when the phone is no longer there."""


class PhoneGoneError(SfumatoError):
    """The phone was unplugged, or withdrew its permission, in the middle."""


class PhoneSilentError(SfumatoError):
    """A command on the phone did not end in time."""


def adb_program() -> str:
    """The adb of `$ADB`, else the one on the path.

    Raises:
        SfumatoError: there is none.
    """
    found = os.environ.get("ADB") or shutil.which("adb")
    if found is None:
        raise SfumatoError("adb is not on the path: sudo apt-get install -y adb, or set ADB to the program")
    return found


def run_adb(arguments: Sequence[str], *, limit: float = LIMIT_S) -> subprocess.CompletedProcess[bytes]:
    """Run adb and wait; the caller checks its exit status.

    Raises:
        PhoneSilentError: no answer within `limit` seconds.
        SfumatoError: adb is missing or cannot be started.
    """
    try:
        return subprocess.run([adb_program(), *arguments], capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise PhoneSilentError(
            f"adb {' '.join(arguments[:3])} has not answered for {limit:.0f} s: replug the phone"
        ) from None
    except OSError as error:
        raise SfumatoError(f"adb cannot be started ({error.strerror}): set ADB to the program") from None


@dataclass(frozen=True)
class Device:
    """A line of `adb devices`."""

    serial: str
    state: str
    model: str

    @property
    def ready(self) -> bool:
        """Whether commands can be sent."""
        return self.state == "device"


def devices() -> list[Device]:
    """Everything that adb sees, ready or not.

    Raises:
        SfumatoError: adb is missing or fails.
    """
    done = run_adb(["devices", "-l"])
    if done.returncode:
        raise SfumatoError(f"adb cannot list phones: {last_line(done.stderr)}")
    return parse_devices(done.stdout.decode("utf-8", "replace"))


def parse_devices(text: str) -> list[Device]:
    """The list of `adb devices -l`.

    >>> parse_devices("List of devices attached\\n8A1X device usb:1-1 model:Pixel_8 transport_id:1\\n")
    [Device(serial='8A1X', state='device', model='Pixel 8')]
    """
    found = []
    for line in text.splitlines():
        serial, _, rest = line.partition(" " if "\t" not in line else "\t")
        if not rest.strip() or line.startswith(("List of devices", "*")):
            continue
        words = rest.split()
        named = dict(word.split(":", 1) for word in words if ":" in word)
        state = "no permissions" if rest.strip().startswith("no permissions") else words[0]
        found.append(Device(serial, state, named.get("model", "unknown").replace("_", " ")))
    return found


def choose(found: Sequence[Device], serial: str | None) -> "Phone":
    """The phone of this serial number, or the only one.

    Raises:
        SfumatoError: none, or it is not ready; the message says what to do.
        UsageError: several, and none was named.
    """
    if serial is not None:
        found = [device for device in found if device.serial == serial]
        if not found:
            raise SfumatoError(f"adb sees no phone {serial}: `sfumato bench phone` shows those it sees")
    if not found:
        raise SfumatoError("adb sees no phone: connect one and allow USB debugging in its developer options")
    ready = [device for device in found if device.ready]
    if len(ready) > 1:
        names = ", ".join(f"{device.serial} ({device.model})" for device in ready)
        raise UsageError(f"several phones are connected: choose one with --serial: {names}")
    if not ready:
        device = found[0]
        problem = STATES.get(device.state, f"is in the state {device.state!r}: see `adb devices`")
        raise SfumatoError(f"the phone {device.serial} {problem}")
    return Phone(ready[0].serial)


@dataclass(frozen=True)
class Phone:
    """A phone that is ready."""

    serial: str

    def shell(self, *words: str, limit: float = LIMIT_S, check: bool = True) -> str:
        """Run a command on the phone; returns what it printed.

        Raises:
            PhoneGoneError: the phone is gone.
            SfumatoError: the command failed, unless `check` is off.
        """
        return self._text(["shell", shlex.join(words)], limit, check)

    def script(self, text: str, *, limit: float = LIMIT_S) -> subprocess.CompletedProcess[bytes]:
        """Run lines of shell on the phone; the caller looks at exit status and output, which may be mixed before Android 7.

        Raises:
            PhoneGoneError: the phone is gone.
            PhoneSilentError: no end within `limit` seconds.
        """
        done = run_adb(["-s", self.serial, "shell", text], limit=limit)
        self._still_there(done)
        return done

    def read(self, *words: str) -> bytes:
        """Raw standard output of a command on the phone, errors included: `exec-out` keeps bytes as they are."""
        done = run_adb(["-s", self.serial, "exec-out", shlex.join(words)])
        self._still_there(done)
        return done.stdout

    def push(self, source: Path, target: str) -> None:
        """Copy a file to the phone.

        Raises:
            PhoneGoneError: the phone is gone.
            SfumatoError: it cannot be written.
        """
        self._text(["push", str(source), target], 10 * LIMIT_S, True)

    def _text(self, arguments: list[str], limit: float, check: bool) -> str:
        done = run_adb(["-s", self.serial, *arguments], limit=limit)
        self._still_there(done)
        if done.returncode and check:
            reason = last_line(done.stderr) or last_line(done.stdout) or f"exit {done.returncode}"
            raise SfumatoError(f"on the phone, `{' '.join(arguments[:2])}` failed: {reason}")
        return done.stdout.decode("utf-8", "replace")

    def _still_there(self, done: subprocess.CompletedProcess[bytes]) -> None:
        message = done.stderr.decode("utf-8", "replace").lower()
        if done.returncode and any(word in message for word in GONE) and not self._listed():
            raise PhoneGoneError(f"the phone {self.serial} is gone: {last_line(done.stderr)}")

    def require(self, error: SfumatoError) -> None:
        """Tell a command that failed from a phone that is gone, for which adb sometimes has no word.

        Raises:
            PhoneGoneError: the phone is not there.
        """
        if not self._listed():
            raise PhoneGoneError(f"the phone {self.serial} is gone: {error}")

    def _listed(self) -> bool:
        return any(device.serial == self.serial and device.ready for device in devices())


def last_line(content: bytes) -> str:
    """The last line that says something."""
    lines = [line for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
