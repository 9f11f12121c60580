"""`sfumato bench phone --no-app`: models on the CPU of any ARM64 phone with adb, without building an app.

The guest of `bench arm` goes to a folder of its own on the phone, with its loader and libraries, because Android's C library
is another one. It runs there, and the folder is removed whatever happens. A phone that is gone keeps it until the next run.

    results = bench_without_app(choose(devices(), None), subjects, NoAppConfig(threads=(1, 4)))
"""

import itertools
import math
import shlex
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

import numpy as np

from sfumato.bench.arm.counting import named, read_outputs
from sfumato.bench.arm.toolbox import LITERT, LOADER, Toolbox, open_toolbox
from sfumato.bench.phone import benchmark_model
from sfumato.bench.phone.adb import Phone, PhoneGoneError, PhoneSilentError, last_line
from sfumato.bench.phone.config import NoAppConfig
from sfumato.bench.phone.device import Heat, describe, read_heat
from sfumato.bench.phone.measurement import time_fields
from sfumato.bench.results import Failure, Measurement, Results, ToolTimes, Window
from sfumato.bench.standard import digest, output_digest, standard_input
from sfumato.bench.subjects import Subject
from sfumato.core.errors import SfumatoError
from sfumato.core.files import sha256
from sfumato.core.provenance import provenance
from sfumato.runtime.interpreter import open_model

ABI = "arm64-v8a"
MEASURED = "CPU of LiteRT {} with a glibc loader, without the app; not NNAPI, GPU or NPU"
GRACE_S = 30
"""Seconds that adb is given beyond the guest's own limit."""
ENDED_ITSELF = 128 + signal.SIGALRM
"""Exit status of a guest that reached its limit."""


Found = TypeVar("Found")


@dataclass(frozen=True)
class GuestTimes:
    """What the guest printed."""

    init_ns: int
    first_ns: int
    runs_ns: tuple[int, ...]
    sustained_ns: tuple[int, ...]
    peak_kb: int | None


def bench_without_app(
    phone: Phone,
    subjects: Sequence[Subject],
    config: NoAppConfig,
    *,
    tool: Path | None = None,
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Measure models on a phone's CPU.

    Args:
        phone: which.
        subjects: the models.
        config: how.
        tool: LiteRT's `benchmark_model` for Android, run beside the guest in every configuration; None leaves it out.
        watch: called with the name of each configuration as it begins.

    Raises:
        SfumatoError: the phone is no ARM64, the guest cannot be built, or the phone was gone before anything was measured.
    """
    device = describe(phone)
    if device["properties"]["abi"] != ABI:
        abi = device["properties"]["abi"] or "unknown"
        raise SfumatoError(f"the phone {phone.serial} has the ABI {abi}: --no-app runs on {ABI} alone")
    toolbox = open_toolbox(watch)
    what = MEASURED.format(config.runtime)
    watch(what)
    heat = read_heat(phone)
    if heat.source is None:
        watch("the phone does not say how warm it is")
    rows: list[Measurement] = []
    failures: list[Failure] = []
    try:
        with borrowed_folder(phone, config.folder, watch):
            send(phone, toolbox, subjects, config, tool)
            for subject, threads in itertools.product(subjects, config.threads):
                title = f"{subject.name} {subject.variant}, cpu, {threads} threads"
                watch(title)
                row = attempt(phone, title, partial(measure, phone, subject, threads, config), failures)
                if row is None:
                    continue
                rows.append(row)
                if tool is not None:
                    title += f", {benchmark_model.PROGRAM}"
                    run = partial(run_tool, phone, subject, threads, config, tool)
                    rows[-1] = row.model_copy(
                        update={"benchmark_model": attempt(phone, title, run, failures)}
                    )
    except (PhoneGoneError, PhoneSilentError) as error:
        if not rows:
            raise
        failures.append(Failure(what="everything after that", reason=str(error)))
    return Results(
        target="phone",
        environment={
            **provenance(),
            **device,
            "measured": what,
            "runtime": named(config.runtime),
            "libc": toolbox.packages["libc6 (arm64)"],
            "heat": heat.source,
        },
        rows=tuple(rows),
        failures=tuple(failures),
        settings=config.model_dump(mode="json"),
    )


def attempt(phone: Phone, what: str, work: Callable[[], Found], failures: list[Failure]) -> Found | None:
    """What the work gives; None where it failed, which is written down.

    Raises:
        PhoneGoneError: the phone is gone.
        PhoneSilentError: it does not answer.
    """
    try:
        return work()
    except (PhoneGoneError, PhoneSilentError):
        raise
    except SfumatoError as error:
        phone.require(error)
        failures.append(Failure(what=what, reason=str(error)))
        return None


@contextmanager
def borrowed_folder(phone: Phone, folder: str, watch: Callable[[str], None]) -> Iterator[None]:
    """A folder of ours on the phone, removed at the end, with whatever still runs in it."""
    clear(phone, folder)  # a run whose phone was gone may have left it
    ended = False
    try:
        phone.shell("mkdir", folder)
        yield
        ended = True
    finally:
        try:
            clear(phone, folder)
        except SfumatoError as error:
            if ended:  # otherwise another line already says what is wrong
                watch(f"{folder} is left on the phone ({error}): the next run removes it")


def clear(phone: Phone, folder: str) -> None:
    """End the program that runs in the folder, and remove it.

    Raises:
        SfumatoError: it is still there, or the phone is gone.
    """
    name = shlex.quote(folder)
    # The number may by now be that of another process: its command line tells.
    end = f'pid=$(cat {name}/pid) && grep -qF {name} "/proc/$pid/cmdline" && kill -9 "$pid"'
    done = phone.script(f"{{ {end}; }} 2>/dev/null; rm -rf {name}", limit=GRACE_S)
    if done.returncode:
        raise SfumatoError(
            f"{folder} cannot be removed from the phone: {last_line(done.stderr or done.stdout)}"
        )


def send(
    phone: Phone, toolbox: Toolbox, subjects: Sequence[Subject], config: NoAppConfig, tool: Path | None
) -> None:
    """Put guest, libraries, models and their inputs into the folder."""
    files = toolbox.phone_files(config.runtime)
    if tool is not None:
        files[benchmark_model.PROGRAM] = tool
    with tempfile.TemporaryDirectory(prefix="sfumato-phone-") as scratch:
        for subject in subjects:
            (entry,) = open_model(subject.content).inputs.values()
            for name, content in (
                (model_file(subject), subject.content),
                (input_file(subject), standard_input(entry).tobytes()),
            ):
                files[name] = Path(scratch) / name
                files[name].write_bytes(content)
        for name, path in files.items():
            phone.push(path.resolve(), f"{config.folder}/{name}")
    programs = [name for name in (LOADER, "guest", benchmark_model.PROGRAM) if name in files]
    phone.shell("chmod", "755", *(f"{config.folder}/{name}" for name in programs))


def model_file(subject: Subject) -> str:
    """Its name on the phone."""
    return f"{subject.id}.tflite"


def input_file(subject: Subject) -> str:
    """The name of its input on the phone."""
    return f"{subject.id}.input"


def measure(phone: Phone, subject: Subject, threads: int, config: NoAppConfig) -> Measurement:
    """One model with so many threads.

    Raises:
        SfumatoError: the guest failed, took too long, or printed something else.
    """
    before = read_heat(phone)
    times = run_guest(phone, subject, threads, config)
    after = read_heat(phone)
    made = outputs_digest(phone.read("cat", f"{config.folder}/outputs"))
    return Measurement(
        **subject.facts(),
        app=False,
        runtime=named(config.runtime),
        delegate="xnnpack",
        threads=threads,
        init_ms=times.init_ns / 1e6,
        first_ms=times.first_ns / 1e6,
        **time_fields(times.runs_ns, subject),
        peak_kb=times.peak_kb,
        sustained=windows(times.sustained_ns, config.sustained),
        **heat_fields(before, after),
        output_sha256=made,
        same_as_host=made == output_digest(open_model(subject.content)),
        notes=(MEASURED.format(config.runtime),),
    )


def heat_fields(before: Heat, after: Heat) -> dict[str, Any]:
    """The fields of a row."""
    return {"thermal": (before.status, after.status), "celsius": (before.celsius, after.celsius)}


def run_guest(phone: Phone, subject: Subject, threads: int, config: NoAppConfig) -> GuestTimes:
    """Run the guest in the folder, under its own loader."""
    limit = math.ceil(config.patience + config.seconds + config.sustained)
    files = [f"./{LITERT}", model_file(subject), input_file(subject), "outputs"]
    numbers = [threads, config.warmup, config.runs, config.seconds, config.sustained, limit]
    loader = [f"./{LOADER}", "--library-path", config.folder, "./guest"]
    done = in_folder(phone, [*loader, "time", *files, *map(str, numbers)], config, limit + GRACE_S)
    if done.returncode == ENDED_ITSELF:
        raise SfumatoError(f"no result after {limit} s")
    if done.returncode:
        reason = last_line(done.stderr) or last_line(done.stdout) or "no reason given"
        raise SfumatoError(f"the program on the phone failed (exit {done.returncode}): {reason}")
    return parse_times(done.stdout.decode("utf-8", "replace"))


def in_folder(
    phone: Phone, words: Sequence[str], config: NoAppConfig, limit: float
) -> CompletedProcess[bytes]:
    """Run a program in the folder; its process number lies there, so that it can be ended."""
    # A library that the phone would load first is one of Android's.
    start = f"cd {shlex.quote(config.folder)} && unset LD_PRELOAD LD_LIBRARY_PATH && rm -f outputs && echo $$ > pid"
    return phone.script(f"{start} && exec {shlex.join(words)}", limit=limit)


def parse_times(text: str) -> GuestTimes:
    """Read what the guest printed.

    Raises:
        SfumatoError: it is not all there.

    >>> parse_times("init_ns 5\\nfirst_ns 4\\nrun_ns 3\\nrun_ns 2\\npeak_kb -1\\ndone\\n").runs_ns
    (3, 2)
    """
    found: dict[str, list[int]] = {}
    *lines, last = text.split("\n")[:-1] or [""]
    for line in lines:
        name, _, value = line.strip().partition(" ")
        if value.lstrip("-").isdecimal():
            found.setdefault(name, []).append(int(value))
    names = ("init_ns", "first_ns", "run_ns", "peak_kb")
    if last.strip() != "done" or not all(name in found for name in names):
        raise SfumatoError(f"the program on the phone was cut short: its last line is {last.strip()[:60]!r}")
    peak = found["peak_kb"][0]
    return GuestTimes(
        init_ns=found["init_ns"][0],
        first_ns=found["first_ns"][0],
        runs_ns=tuple(found["run_ns"]),
        sustained_ns=tuple(found.get("sustained_ns", ())),
        peak_kb=peak if peak >= 0 else None,
    )


def windows(runs_ns: Sequence[int], seconds: int) -> tuple[Window, ...]:
    """Runs without a pause, by the second; how warm it was meanwhile is not known."""
    runs = np.array(runs_ns, dtype=np.int64)
    second = np.minimum((runs.cumsum() - runs) // 1_000_000_000, max(seconds - 1, 0))
    parts = [runs[second == index] for index in range(seconds)]
    return tuple(
        Window(
            runs=len(part),
            p50_ms=float(np.percentile(part, 50)) / 1e6,
            p90_ms=float(np.percentile(part, 90)) / 1e6,
            thermal=None,
        )
        for part in parts
        if len(part)
    )


def outputs_digest(content: bytes) -> str:
    """SHA-256 over all outputs, in the order of their names.

    Raises:
        SfumatoError: the file was not the guest's.
    """
    try:
        outputs = read_outputs(content)
    except ValueError:
        raise SfumatoError(
            f"the outputs cannot be read back from the phone: {last_line(content)[:100]}"
        ) from None
    return digest(outputs)


def run_tool(phone: Phone, subject: Subject, threads: int, config: NoAppConfig, tool: Path) -> ToolTimes:
    """LiteRT's tool in the same configuration.

    Raises:
        SfumatoError: it failed, or printed no times.
    """
    words = benchmark_model.arguments(
        model_file(subject), threads=threads, warmup=config.warmup, runs=config.runs, seconds=config.seconds
    )
    limit = config.patience + 2 * config.seconds + GRACE_S
    done = in_folder(phone, [f"./{benchmark_model.PROGRAM}", *words], config, limit)
    text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    if done.returncode:
        reason = benchmark_model.last_words(text)
        raise SfumatoError(f"{benchmark_model.PROGRAM} failed (exit {done.returncode}): {reason}")
    return benchmark_model.parse_output(text, sha256=sha256(tool))
