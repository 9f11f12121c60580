"""`sfumato bench phone`: every model, delegate and number of threads on one phone, by the demo app's benchmark activity.

A configuration that fails is written down and the next one is tried; when the phone itself is gone, what was measured until
then is kept.

    results = bench_phone(choose(devices(), None), subjects, PhoneConfig(delegates=("cpu", "nnapi")))
"""

import itertools
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.bench.phone.adb import Phone, PhoneGoneError
from sfumato.bench.phone.protocol import (
    FOLDER,
    PACKAGE,
    RESULT,
    PhoneResult,
    PhoneStages,
    parse_result,
    start_command,
)
from sfumato.bench.results import Failure, Results, Row, Stage, Window
from sfumato.bench.stages import make_photo
from sfumato.bench.standard import output_digest
from sfumato.bench.subjects import OURS, Subject
from sfumato.core.errors import SfumatoError, UsageError, complaint
from sfumato.core.provenance import provenance
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.contract import read_contract, read_file
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.sampler import NORMAL_TABLE

PHOTO = "photo.jpg"
PROPERTIES = {
    "maker": "ro.product.manufacturer",
    "model": "ro.product.model",
    "chip": "ro.soc.model",
    "board": "ro.board.platform",
    "android": "ro.build.version.release",
    "api": "ro.build.version.sdk",
    "abi": "ro.product.cpu.abi",
    "build": "ro.build.fingerprint",
}
LOG_LINE = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate .* yielding (\d+) partitions")
CRASHES = re.compile(
    r"(?:AndroidRuntime|DEBUG|libc)\s*:\s+((?:[\w.]+\.)?\w+(?:Exception|Error)\b.*|.*[Ff]atal signal.*)"
)


class PhoneConfig(BaseModel):
    """How it is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delegates: tuple[Literal["cpu", "nnapi", "gpu"], ...] = Field(
        default=("cpu", "nnapi", "gpu"), min_length=1
    )
    threads: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    """For the CPU; other delegates run once, with the first."""
    warmup: int = Field(default=50, ge=0)
    runs: int = Field(default=500, ge=10)
    sustained: int = Field(default=0, ge=0)
    """Seconds without a pause, after the burst."""
    patience: float = Field(default=120.0, gt=0)
    """Seconds that a configuration may take beyond its own running time."""
    poll: float = Field(default=0.5, gt=0)
    """Seconds between two looks for the result."""
    staging: str = "/data/local/tmp/sfumato-bench"
    """A folder on the phone that adb may write and the app may read."""


def make_phone_config(values: dict[str, Any]) -> PhoneConfig:
    """A config from the command line.

    Raises:
        UsageError: a value is not allowed.
    """
    try:
        return PhoneConfig(**values)
    except ValidationError as error:
        raise UsageError(complaint(error)) from None


def bench_phone(
    phone: Phone,
    subjects: Sequence[Subject],
    config: PhoneConfig,
    *,
    export: Path | None = None,
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Measure models on a phone.

    Args:
        phone: which.
        subjects: the models.
        config: how.
        export: whose contract goes along, so that the app also times the way from photo to upload; None leaves that out.
        watch: told which configuration begins.

    Raises:
        SfumatoError: the app is missing or cannot be reached, or the phone was gone before anything was measured.
    """
    device = describe(phone)
    check_app(phone)
    rows: list[Row] = []
    stages: list[Stage] = []
    failures: list[Failure] = []
    try:
        send(phone, subjects, config, export)
        for subject, delegate, threads in configurations(subjects, config):
            what = f"{subject.name} {subject.variant}, {delegate}, {threads} threads"
            watch(what)
            whole = (
                export is not None
                and not stages
                and subject.name == OURS
                and subject.int8
                and delegate == "cpu"
            )
            try:
                result = measure(phone, subject, delegate, threads, config, photo=whole)
            except PhoneGoneError:
                raise
            except SfumatoError as error:
                failures.append(Failure(what=what, reason=str(error)))
                phone.shell("am", "force-stop", PACKAGE, check=False)
                continue
            rows.append(make_row(subject, delegate, threads, result))
            stages += make_stages(result.stages) if result.stages is not None else []
        clean_up(phone, config)
    except PhoneGoneError as error:
        if not rows:
            raise
        failures.append(Failure(what="everything after that", reason=str(error)))
    return Results(
        target="phone",
        environment={**provenance(), **device},
        rows=tuple(rows),
        stages=tuple(stages),
        failures=tuple(failures),
        settings=config.model_dump(mode="json"),
    )


def configurations(subjects: Sequence[Subject], config: PhoneConfig) -> list[tuple[Subject, str, int]]:
    """All combinations; threads only matter to the CPU."""
    cases = [
        (delegate, threads)
        for delegate in config.delegates
        for threads in (config.threads if delegate == "cpu" else config.threads[:1])
    ]
    return [(subject, *case) for subject, case in itertools.product(subjects, cases)]


def describe(phone: Phone) -> dict[str, Any]:
    """What kind of phone it is."""
    found = {name: phone.shell("getprop", key).strip() or None for name, key in PROPERTIES.items()}
    name = " ".join(part for part in (found["maker"], found["model"]) if part)
    return {"device": f"{name}, Android {found['android']}", "properties": found}


def check_app(phone: Phone) -> None:
    """Refuse a phone without the app, or with a build that cannot be reached.

    Raises:
        SfumatoError: says what to do.
    """
    if not phone.shell("pm", "path", PACKAGE, check=False).startswith("package:"):
        raise SfumatoError(
            f"the demo app ({PACKAGE}) is not on the phone: build android_demo and `adb install` it"
        )
    said = phone.read("run-as", PACKAGE, "pwd").decode("utf-8", "replace").strip()
    if not said.startswith("/"):
        raise SfumatoError(f"the demo app cannot be reached ({said}): install its debug build")


def send(phone: Phone, subjects: Sequence[Subject], config: PhoneConfig, export: Path | None) -> None:
    """Put the models, and for the way of a photo its picture, contract and normal table, into the app's folder."""
    files = {f"{subject.id}.tflite": subject.content for subject in subjects}
    if export is not None:
        contract = read_contract(export)
        files |= {CONTRACT: (export / CONTRACT).read_bytes(), PHOTO: make_photo()}
        if contract.channel.name == "gaussian":
            files[NORMAL_TABLE] = read_file(export, contract.file(NORMAL_TABLE))
    as_app(phone, "mkdir", "-p", FOLDER)
    with tempfile.TemporaryDirectory(prefix="sfumato-phone-") as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.write_bytes(content)
            path.chmod(0o644)
            phone.push(path, f"{config.staging}/{name}")
            as_app(phone, "cp", f"{config.staging}/{name}", f"{FOLDER}/{name}")


def clean_up(phone: Phone, config: PhoneConfig) -> None:
    """Leave nothing behind."""
    as_app(phone, "rm", "-rf", FOLDER, RESULT)
    phone.shell("rm", "-rf", config.staging)


def as_app(phone: Phone, *words: str) -> None:
    """Run a command as the app, in its folder."""
    phone.shell("run-as", PACKAGE, *words)


def measure(
    phone: Phone, subject: Subject, delegate: str, threads: int, config: PhoneConfig, *, photo: bool
) -> PhoneResult:
    """One configuration.

    Raises:
        PhoneGoneError: the phone is gone.
        SfumatoError: the activity is missing, crashed, took too long, failed, or measured something else.
    """
    as_app(phone, "rm", "-f", RESULT)
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
    said = phone.shell(*start_command(extras), limit=limit, check=False)
    if wrong := next((line for line in said.splitlines() if re.match(r"Error|.*Exception", line)), None):
        raise SfumatoError(f"the benchmark activity cannot be started: {wrong.strip()}")
    result = wait_for(phone, str(extras["id"]), limit, config.poll)
    if result.status == "failed":
        raise SfumatoError(f"the app: {result.error or 'no reason given'}")
    if result.sha256 != subject.facts()["sha256"]:
        raise SfumatoError(f"the app measured another file (sha256 {result.sha256[:16]}...)")
    return with_delegation(result, phone.shell("logcat", "-d", "-s", "tflite:V", check=False))


def wait_for(phone: Phone, key: str, limit: float, poll: float) -> PhoneResult:
    """The result of this run, as soon as it is there."""
    until = time.monotonic() + limit
    while True:
        # Asked before the file is looked for: an app that ends after writing must not look like one that crashed.
        alive = bool(phone.shell("pidof", PACKAGE, check=False).strip())
        content = phone.read("run-as", PACKAGE, "cat", RESULT)
        if content.startswith(b"{"):
            result = parse_result(content)
            if result.id == key:
                return result
        if not alive:
            raise SfumatoError(f"the app crashed: {crash_reason(phone)}")
        if time.monotonic() > until:
            raise SfumatoError(f"no result after {limit:.0f} s")
        time.sleep(poll)


def crash_reason(phone: Phone) -> str:
    """The exception or signal in the log of crashes."""
    log = phone.shell("logcat", "-b", "crash", "-d", "-t", "200", check=False)
    found = CRASHES.findall(log)
    return found[0].strip() if found else "its log says nothing"


def with_delegation(result: PhoneResult, log: str) -> PhoneResult:
    """Fill in from the runtime's own log what the app could not know: the nodes a delegate took, and its partitions."""
    lines = LOG_LINE.findall(log)
    if result.delegated_nodes is not None or not lines:
        return result
    taken, nodes, partitions = map(int, lines[-1])
    return result.model_copy(update={"nodes": nodes, "delegated_nodes": taken, "partitions": partitions})


def make_row(subject: Subject, delegate: str, threads: int, result: PhoneResult) -> Row:
    """Our row from the app's result."""
    runs = np.array(result.runs_ns) / 1e6
    facts = {**subject.facts(), **({"nodes": result.nodes} if result.nodes is not None else {})}
    p50, p90, p99 = (float(np.percentile(runs, percent)) for percent in (50, 90, 99))
    same = (
        result.output_sha256 == output_digest(open_model(subject.content)) if result.output_sha256 else None
    )
    notes = (
        ()
        if result.foreground
        else ("the app was not in the foreground all the time: keep the phone unlocked",)
    )
    return Row(
        **facts,
        runtime=result.runtime,
        delegate="xnnpack" if delegate == "cpu" else delegate,
        threads=threads,
        delegated_nodes=result.delegated_nodes,
        partitions=result.partitions,
        init_ms=result.init_ms,
        first_ms=result.first_ms,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        runs=len(runs),
        round_p50_ms=tuple(float(np.median(part)) for part in np.array_split(runs, 10))
        if len(runs) >= 10
        else (),
        peak_kb=result.peak_kb,
        sustained=windows(result),
        thermal=(result.thermal.before, result.thermal.after),
        gmac_per_s=facts["macs"] / 1e6 / p50,
        output_sha256=result.output_sha256,
        same_as_host=same,
        valid=result.foreground,
        notes=notes,
    )


def windows(result: PhoneResult) -> tuple[Window, ...]:
    """The seconds of sustained running."""
    found = result.sustained.windows if result.sustained is not None else ()
    return tuple(
        Window(runs=w.runs, p50_ms=w.p50_ns / 1e6, p90_ms=w.p90_ns / 1e6, thermal=w.thermal) for w in found
    )


def make_stages(found: PhoneStages) -> list[Stage]:
    """The steps between photo and upload."""
    lists = {name.removesuffix("_ns"): np.array(values) / 1e6 for name, values in found if values}
    return [
        Stage(
            name=name,
            p50_ms=float(np.percentile(times, 50)),
            p90_ms=float(np.percentile(times, 90)),
            runs=len(times),
        )
        for name, times in lists.items()
    ]
