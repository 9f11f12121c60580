"""The demo app on a phone: give it models, start its benchmark activity, wait for the result file.

check_app(phone)
send(phone, subjects, config, export)
result = run_configuration(phone, subjects[0], "cpu", 1, config, photo=False)
"""

import re
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sfumato.bench.phone.adb import Phone
from sfumato.bench.phone.config import PhoneConfig
from sfumato.bench.phone.protocol import (
    FOLDER,
    LOGGED_AS,
    PACKAGE,
    RESULT,
    PhoneResult,
    parse_result,
    start_command,
)
from sfumato.bench.stages import make_photo
from sfumato.bench.subjects import Subject
from sfumato.core.errors import SfumatoError
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.contract import read_contract, read_file
from sfumato.runtime.sampler import NORMAL_TABLE

PHOTO = "photo.jpg"
INSTALL = "build the benchmark type of android_demo and `adb install` it"
DEBUGGABLE = re.compile(r"^\s*(?:pkgFlags|flags)=\[[^\]]*\bDEBUGGABLE\b", re.MULTILINE)
"""In what `dumpsys package` prints of an app."""
LOG_LINE = re.compile(
    r"Replacing (\d+) (?:out of (\d+) )?node\(s\) with delegate \((\w+)\) node, yielding (\d+) partitions"
)
CRASHES = re.compile(
    r"(?:AndroidRuntime|DEBUG|libc)\s*:\s+((?:[\w.]+\.)?\w+(?:Exception|Error)\b.*|.*[Ff]atal signal.*)"
)


def check_app(phone: Phone) -> None:
    """Refuse a phone without the app, or with a debuggable build, which Android's runtime does not optimise.

    Raises:
        SfumatoError: says what to do.
    """
    if not phone.shell("pm", "path", PACKAGE, check=False).startswith("package:"):
        raise SfumatoError(f"the demo app ({PACKAGE}) is not on the phone: {INSTALL}, or use --no-app")
    if DEBUGGABLE.search(phone.shell("dumpsys", "package", PACKAGE, check=False)):
        raise SfumatoError(f"the demo app on the phone is a debug build, whose times say little: {INSTALL}")


def send(phone: Phone, subjects: Sequence[Subject], config: PhoneConfig, export: Path | None) -> None:
    """Put models, and for the way of a photo its picture, contract and normal table, into the folder shared with the app."""
    files = {f"{subject.id}.tflite": subject.content for subject in subjects}
    if export is not None:
        contract = read_contract(export)
        files |= {CONTRACT: (export / CONTRACT).read_bytes(), PHOTO: make_photo()}
        if contract.channel.name == "gaussian":
            files[NORMAL_TABLE] = read_file(export, contract.file(NORMAL_TABLE))
    phone.shell("mkdir", "-p", f"{config.shared}/{FOLDER}")
    phone.shell("touch", f"{config.shared}/{FOLDER}/.nomedia")  # the picture is for no gallery
    with tempfile.TemporaryDirectory(prefix="sfumato-phone-") as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.write_bytes(content)
            phone.push(path, f"{config.shared}/{FOLDER}/{name}")


def clean_up(phone: Phone, config: PhoneConfig) -> None:
    """Leave nothing behind."""
    phone.shell("rm", "-rf", f"{config.shared}/{FOLDER}", f"{config.shared}/{RESULT}")


def stop_app(phone: Phone) -> None:
    """End the app, whatever it is doing."""
    phone.shell("am", "force-stop", PACKAGE, check=False)


def run_configuration(
    phone: Phone, subject: Subject, delegate: str, threads: int, config: PhoneConfig, *, photo: bool
) -> PhoneResult:
    """Measure one model in one configuration.

    Raises:
        PhoneGoneError: the phone is gone.
        SfumatoError: the activity is missing, crashed, took too long, failed, or measured something else; or the delegate took
            no node, so that the time would be the CPU's.
    """
    phone.shell("rm", "-f", f"{config.shared}/{RESULT}")
    phone.shell("logcat", "-c", check=False)
    extras: dict[str, str | int] = {
        "id": secrets.token_hex(8),
        "model": f"{subject.id}.tflite",
        "delegate": delegate,
        "threads": threads,
        "warmup": config.warmup,
        "runs": config.runs,
        "sustained": config.sustained,
        **({"photo": PHOTO} if photo else {}),
    }
    limit = config.patience + config.sustained
    answer = phone.shell(*start_command(extras), limit=limit, check=False)
    if wrong := next((line for line in answer.splitlines() if re.match(r"Error|.*Exception", line)), None):
        raise SfumatoError(
            f"the benchmark activity cannot be started: {wrong.strip()} {INSTALL.capitalize()}"
        )
    result = wait_for(phone, str(extras["id"]), limit, config)
    if result.status == "failed":
        raise SfumatoError(f"the app: {result.error or 'no reason given'}")
    if result.sha256 != subject.facts()["sha256"]:
        raise SfumatoError(f"the app measured another file (sha256 {result.sha256[:16]}...)")
    result = with_delegation(result, delegate, phone.shell("logcat", "-d", "-s", "tflite:V", check=False))
    require_taken(result, delegate)
    return result


def wait_for(phone: Phone, key: str, limit: float, config: PhoneConfig) -> PhoneResult:
    """The result of this run, as soon as it is there."""
    until = time.monotonic() + limit
    while True:
        # Asked before the file is looked for: an app that ends after writing must not look like one that crashed.
        alive = bool(phone.shell("pidof", PACKAGE, check=False).strip())
        content = phone.read("cat", f"{config.shared}/{RESULT}")
        if content.startswith(b"{"):
            result = parse_result(content)
            if result.id == key:
                return result
        if not alive:
            raise SfumatoError(f"the app crashed: {crash_reason(phone)}")
        if time.monotonic() > until:
            raise SfumatoError(f"no result after {limit:.0f} s")
        time.sleep(config.poll)


def crash_reason(phone: Phone) -> str:
    """The exception or signal in the log of crashes."""
    log = phone.shell("logcat", "-b", "crash", "-d", "-t", "200", check=False)
    found = CRASHES.findall(log)
    return found[0].strip() if found else "its log says nothing"


def with_delegation(result: PhoneResult, delegate: str, log: str) -> PhoneResult:
    """Fill in from the runtime's own log what the app could not know: the nodes a delegate took, and its partitions.

    A phone also logs XNNPACK, which takes what another delegate leaves: only a line with this delegate's name counts.
    """
    if result.fully_accelerated and delegate != "cpu":
        return without_cpu(result, delegate, log)
    name = LOGGED_AS.get(delegate)
    lines = [found for found in LOG_LINE.findall(log) if name and found[2].startswith(name)]
    if result.delegated_nodes is not None or not lines:
        return result
    taken, nodes, _, partitions = lines[-1]
    found = {"delegated_nodes": int(taken), "partitions": int(partitions)}
    return result.model_copy(update={**found, **({"nodes": int(nodes)} if nodes else {})})


def without_cpu(result: PhoneResult, delegate: str, log: str) -> PhoneResult:
    """A result of a model that was compiled for the accelerator alone; what the log says of the CPU counts for more than that.

    Raises:
        SfumatoError: XNNPACK took nodes since the log was cleared.
    """
    for taken, nodes, name, _ in LOG_LINE.findall(log):
        if name.startswith(LOGGED_AS["cpu"]):
            raise SfumatoError(
                f"{delegate} is not alone: the log says that the CPU took {taken} of {nodes or 'its'} nodes"
            )
    return result


def require_taken(result: PhoneResult, delegate: str) -> None:
    """Refuse a result of the CPU in another delegate's name.

    A delegate that takes nothing is silent: NNAPI without a vendor's driver gives no error and writes no line, and XNNPACK runs
    the whole model (nnapi_delegate.cc of LiteRT 1.4, StatefulNnApiDelegate::DoPrepare).

    Raises:
        SfumatoError: no line of this delegate, or it took no node, and the app does not say that it took all.
    """
    if delegate == "cpu" or result.delegated_nodes or result.fully_accelerated:
        return
    if result.delegated_nodes is not None:
        why = f"0 of {result.nodes or 'its'} nodes"
    elif delegate in LOGGED_AS:
        why = f"TensorFlow Lite's log has no line of {LOGGED_AS[delegate]}"
    else:
        why = "the app does not say that it took any"
    raise SfumatoError(
        f"{delegate} took no node of this model ({why}): the time is the CPU's, and is not kept"
    )
