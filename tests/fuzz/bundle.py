"""Fuzzing: damaged, hostile and strange files against everything that reads them.

    python -m tests.fuzz EXPORT --count 2000

Every file must give a correct result or one line that says what is wrong: no crash, no other exception, no hang beyond 5
seconds, no memory beyond 1 GB. Cases run in a process of their own that tells how each ended; if it dies or falls silent, that
case has crashed or hangs, and a new process goes on with the next. A case is its number: `--first 17 --count 1` repeats one.
Kinds: models and cloud networks (with the contract's hash mended, since an unmended one is refused unread), contracts,
pictures, files of an export that are strange JSON or no files at all (pipes, devices, links, folders), requests to a service
and photos to a gateway (`wire`), label tables, runs, checkpoints, ledgers and key files (`work`).
"""

import argparse
import contextlib
import importlib
import json
import os
import queue
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tests.fuzz.mutation import (
    BOMBS,
    PICTURES,
    SPECIAL,
    mutate_contract,
    mutate_json,
    mutate_model,
    mutate_network,
    mutate_picture,
    replace_file,
)
from tests.fuzz.running import RUNNING, end_all

from sfumato.core.console import emit_json, show, table
from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_object, write_json
from sfumato.core.onnx_session import open_session
from sfumato.core.provenance import provenance
from sfumato.runtime.contract import DIGESTS, FILE, read_contract, read_file
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import decode_png
from sfumato.runtime.verification import check_answers, inspect_model, run_onnx_sandboxed, try_model
from sfumato.server.model import CloudModel
from sfumato.training.config import read_config

SECONDS = 5.0
MEGABYTES = 1000.0
PATIENCE = 300.0
"""Seconds of silence after which a case counts as hanging for good. Shorter ones are measured by the processor's time,
since the machine may be busy."""
KEY = bytes(32)

Outcome = Literal["correct", "refused", "wrong", "crash", "hang", "too slow", "too much memory"]
GOOD: tuple[Outcome, ...] = ("correct", "refused")


@dataclass(frozen=True)
class Case:
    """How one file was taken."""

    kind: str
    number: int
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0
    """Of the processor."""
    megabytes: float = 0.0
    """Largest memory of the process so far."""


def model_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Changed models whose hash was mended: checked as `verify` checks them, then run once more."""
    contract = read_contract(folder)
    contents = [read_file(folder, contract.file(model.file)) for model in contract.models]

    def case(number: int) -> None:
        model = contract.models[number % len(contents)]
        changed = mutate_model(contents[number % len(contents)], random.Random(f"{seed}/models/{number}"))
        inspect_model(changed, contract, model)
        try_model(changed, contract, model)

    return case


def contract_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Changed contracts beside a sound model: refused, or a model that works."""
    content = (folder / FILE).read_bytes()
    contract = read_contract(folder)
    image = np.zeros((*contract.size, 3), dtype=np.uint8)
    bundle = Path(tempfile.mkdtemp(prefix="contract-", dir=folder.parent))  # the scratch folder of `fuzz`
    shutil.copy(folder / contract.model("int8").file, bundle)

    def case(number: int) -> None:
        changed = mutate_contract(content, random.Random(f"{seed}/contracts/{number}"))
        (bundle / FILE).write_bytes(changed)
        upload = PhoneModel.load(bundle).perturb(image, key=KEY)
        assert upload.levels.shape == image.shape

    return case


def network_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Changed cloud networks whose hash was mended, as `verify` and `serve` take them: refused, or run here too."""
    contract = read_contract(folder)
    content = read_file(folder, contract.file("cloud.onnx"))

    def case(number: int) -> None:
        changed = mutate_network(content, random.Random(f"{seed}/networks/{number}"))
        run_onnx_sandboxed(changed, "cloud.onnx", lambda session: check_answers(session, contract))
        check_answers(open_session(changed, name="cloud.onnx"), contract)

    return case


def file_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """One file of an export that is strange JSON or no file: every reader of it says so, and none waits."""
    readers: dict[str, Callable[[Path], object]] = {
        FILE: read_contract,
        DIGESTS: read_contract,
        "cloud.onnx": CloudModel.load,
        "local_int8.tflite": PhoneModel.load,
        "vectors.json": lambda bundle: read_object(bundle / "vectors.json"),
        "audit/config.json": lambda bundle: read_config(bundle / "audit" / "config.json"),
        "audit/card.json": lambda bundle: read_object(bundle / "audit" / "card.json"),
    }
    contents = {name: (folder / name).read_bytes() for name in readers}

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/files/{number}")
        name = rng.choice(list(readers))
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            bundle = Path(shutil.copytree(folder, Path(made) / "export"))
            path = bundle / name
            if not name.endswith(".json") or rng.random() < 0.4:
                replace_file(path, rng.choice(SPECIAL))
            else:
                path.write_bytes(mutate_json(contents[name], rng))
            readers[name](bundle)

    return case


def picture_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """First the bombs, then pictures of every kind, damaged or not: refused, or a whole upload."""
    model = PhoneModel.load(folder)
    height, width = model.contract.size
    kinds, bombs = list(PICTURES), list(BOMBS.values())

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/pictures/{number}")
        whole = number < len(bombs)
        content = bombs[number]() if whole else mutate_picture(kinds[number % len(kinds)], rng)
        upload = model.perturb(content, key=KEY)
        found = decode_png(upload.content, height=height, width=width, bits=model.contract.channel.bits)
        assert np.array_equal(found, upload.levels)

    return case


def later(module: str, name: str) -> Callable[[Path, int], Callable[[int], None]]:
    """A maker of cases whose module is imported when it is used: the others start sooner."""

    def make(folder: Path, seed: int) -> Callable[[int], None]:
        cases: Callable[[int], None] = getattr(importlib.import_module(module), name)(folder, seed)
        return cases

    return make


KINDS: dict[str, Callable[[Path, int], Callable[[int], None]]] = {
    "models": model_cases,
    "networks": network_cases,
    "contracts": contract_cases,
    "files": file_cases,
    "pictures": picture_cases,
    "requests": later("tests.fuzz.wire", "request_cases"),
    "photos": later("tests.fuzz.wire", "photo_cases"),
    "tables": later("tests.fuzz.work", "table_cases"),
    "checkpoints": later("tests.fuzz.work", "checkpoint_cases"),
    "runs": later("tests.fuzz.work", "run_cases"),
    "ledgers": later("tests.fuzz.work", "ledger_cases"),
}

WEIGHTS = {"networks": 5, "photos": 5, "checkpoints": 6, "models": 6}
"""How many cases of these kinds come on ten of the others: they start processes, wait, or train."""


def run_case(kind: str, number: int, case: Callable[[int], None]) -> Case:
    """Run one case in this process."""
    (started, _), outcome, detail = spent(), "correct", ""
    try:
        case(number)
    except SfumatoError as error:
        detail = str(error)
        outcome = "refused" if detail and "\n" not in detail else "wrong"
    except Exception as error:  # the point of it all: nothing else may escape
        outcome, detail = "wrong", f"{type(error).__name__}: {error}"
    seconds, megabytes = spent()
    seconds -= started
    if outcome in GOOD and megabytes > MEGABYTES:
        outcome = "too much memory"
    elif outcome in GOOD and seconds > SECONDS:
        outcome = "too slow"
    return Case(kind, number, outcome, detail[:300], round(seconds, 3), round(megabytes, 1))  # type: ignore[arg-type]


def spent() -> tuple[float, float]:
    """Processor seconds so far and largest memory in MB, of this process, those it has waited for, and its services."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in both)
    # Linux hands ru_maxrss on through fork and exec: of this process it would be the largest size of whoever started it.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")] or [both[0].ru_maxrss]
    largest = max(own[0], both[1].ru_maxrss) * 1024 / 1e6
    alive = [service for service in RUNNING if service.alive]  # that one has died is told by its client
    seconds += sum(service.cpu_seconds for service in alive)
    return seconds, max(largest, *(service.peak_mb * 2**20 / 1e6 for service in alive), 0.0)


def child(folder: Path, kind: str, numbers: Sequence[int], seed: int) -> None:
    """The process that does the work: one line of JSON a case."""
    try:
        case = KINDS[kind](folder, seed)
        for number in numbers:
            print(json.dumps(asdict(run_case(kind, number, case))), flush=True)
    finally:
        end_all()


def fuzz(folder: Path, kind: str, numbers: range, *, seed: int = 0) -> Iterator[Case]:
    """Run cases of a kind in a process that may die; yields each as it is done.

    Raises:
        SfumatoError: the export itself cannot be read.
    """
    PhoneModel.load(folder)
    left = numbers
    with tempfile.TemporaryDirectory(prefix="sfumato-fuzz-") as scratch:
        bundle = Path(scratch) / "export"
        shutil.copytree(folder, bundle)
        while left:
            for case in _run_child(bundle, kind, left, seed):
                yield case
                left = range(case.number + 1, numbers.stop)


def _run_child(folder: Path, kind: str, numbers: range, seed: int) -> Iterator[Case]:
    """Cases until the process ends; its death or silence is the outcome of the case it was at."""
    command = [sys.executable, "-m", "tests.fuzz", str(folder), "--child", kind, "--seed", str(seed)]
    command += ["--first", str(numbers.start), "--count", str(len(numbers))]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # so that its services end with it, however it does
    )
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
    try:
        for number in numbers:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                yield Case(kind, number, "hang", f"no answer for {PATIENCE:.0f} s")
                return
            if not line:
                code = process.wait()
                if number == numbers.start and code > 0:
                    raise SfumatoError(f"the process for {kind} ended with code {code} before its first case")
                yield Case(kind, number, "crash", f"the process ended with code {code}")
                return
            yield Case(**json.loads(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read_lines(stream: Iterator[str], lines: "queue.Queue[str]") -> None:
    with contextlib.suppress(ValueError):  # the stream was closed under us
        for line in stream:
            lines.put(line)
    lines.put("")


FIGURES = ("kind", "cases", "correct", "refused", "bad", "slowest_s", "largest_mb")


def summary(cases: Sequence[Case]) -> list[tuple[Any, ...]]:
    """One row a kind, as `FIGURES` names them."""
    rows: list[tuple[Any, ...]] = []
    for kind in dict.fromkeys(case.kind for case in cases):
        of = [case for case in cases if case.kind == kind]
        count = Counter(case.outcome for case in of)
        bad = sum(number for outcome, number in count.items() if outcome not in GOOD)
        slowest, largest = max(case.seconds for case in of), max(case.megabytes for case in of)
        rows.append((kind, len(of), count["correct"], count["refused"], bad, slowest, largest))
    return rows


def numbers_of(kind: str, numbers: range, total: int | None) -> range:
    """The cases of a kind; of `total`, where it is given, its share and never less than that."""
    if total is None:
        return numbers
    weights = {name: WEIGHTS.get(name, 10) for name in KINDS}
    count = -(-total * weights[kind] // sum(weights.values()))
    return range(numbers.start, numbers.start + count)


def write_result(path: Path, cases: Sequence[Case], seed: int) -> None:
    """The table and every bad case, in a file."""
    rows = [dict(zip(FIGURES, row, strict=True)) for row in summary(cases)]
    bad = [asdict(case) for case in cases if case.outcome not in GOOD]
    found = {"schema": "sfumato-fuzz/2", "seed": seed, "provenance": provenance(), "kinds": rows, "bad": bad}
    write_json(path, found)


def main() -> None:
    """Parse, fuzz, print; exit code 1 if any case went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path, metavar="EXPORT")
    parser.add_argument("--count", type=int, default=2000, help="cases of each kind")
    parser.add_argument(
        "--total", type=int, help="cases of all kinds together, fewer of those that take long"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, help="one kind alone")
    parser.add_argument("--json", action="store_true", help="every case, as JSON")
    parser.add_argument("--out", type=Path, help="the table and every bad case, as JSON in a file")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    numbers, cases = range(given.first, given.first + given.count), list[Case]()
    try:
        if given.child:
            child(given.export, given.child, numbers, given.seed)
            return
        for kind in [given.only] if given.only else KINDS:
            cases += fuzz(given.export, kind, numbers_of(kind, numbers, given.total), seed=given.seed)
            if given.out:
                write_result(given.out, cases, given.seed)
    except SfumatoError as error:
        raise SystemExit(f"sfumato: {error}") from None
    if given.json:
        emit_json({"schema": "sfumato-fuzz/1", "seed": given.seed, "cases": [asdict(case) for case in cases]})
    else:
        columns = ("kind", "cases", "correct", "refused", "bad", "slowest, s", "largest, MB")
        rows = [(*row[:5], f"{row[5]:.2f}", f"{row[6]:.0f}") for row in summary(cases)]
        show(table(f"changed input against {given.export}", columns, rows))
    bad = [case for case in cases if case.outcome not in GOOD]
    for case in bad:
        print(f"{case.kind} {case.number}: {case.outcome}: {case.detail}", file=sys.stderr)
    if bad:
        raise SystemExit(1)
