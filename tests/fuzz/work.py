"""Damaged label tables, runs, checkpoints, ledgers and key files, for `tests.fuzz.bundle`.

    case = table_cases(export, 0)
    case(17)            # raises a SfumatoError of one line, or the table was read as it was written

Tensors and entries are also changed with their hash or seal mended: an unmended one is refused unread.
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from PIL import Image
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from tests.fuzz.mutation import SPECIAL, STRANGE, mutate, mutate_json, replace_file

from sfumato.audit.report import training_curves
from sfumato.audit.schema import read_audit
from sfumato.core.files import read_object, write_json
from sfumato.data import open_dataset
from sfumato.data.loaders.folder import load_folder
from sfumato.data.registry import load_source, parse_spec
from sfumato.runtime.keyed_noise import read_key
from sfumato.runtime.ledger import Draw, Ledger
from sfumato.server.auth import Tokens
from sfumato.training import checkpoint
from sfumato.training.answer import CHECKPOINT, AnswerTrainer
from sfumato.training.clean import make_cloud
from sfumato.training.config import TrainConfig, read_config, read_toml
from sfumato.training.log import TrainingLog
from sfumato.training.run import load_run
from sfumato.training.started import STARTED, changed, record
from sfumato.training.trainer import CoTrainer

KEY = bytes(range(32))


class Files:
    """The files of a folder, of which one is another for a moment.

    Args:
        folder: it is put back as it was after every change.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        self.contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    @contextmanager
    def changed(self, **contents: bytes | str) -> Iterator[None]:
        """Other bytes in some files, or a word of `SPECIAL`: no file at all."""
        try:
            for name, content in contents.items():
                if isinstance(content, str):
                    replace_file(self.folder / name, content)
                else:
                    (self.folder / name).write_bytes(content)
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        for path in sorted(self.folder.rglob("*"), reverse=True):
            name = path.relative_to(self.folder).as_posix()
            if path.is_symlink() or (not path.is_dir() and name not in self.contents):
                path.unlink()
            elif path.is_dir() and not any(one.startswith(f"{name}/") for one in self.contents):
                shutil.rmtree(path)
        for name, content in self.contents.items():
            path = self.folder / name
            if path.exists() and not path.is_file():
                path.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o600)


def scratch(folder: Path, name: str) -> Path:
    """A new folder beside the export, in the scratch folder of `fuzz`."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))


ROWS = 24
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
CELLS = ("", " ", "\0", '"', '""', "'", "NA", "nan", "1e999", "é", "e\u0301", "\u200b", "=1+1", "x" * 10_000)


def table_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Label tables in every encoding and separator: whole ones are read as they were written, others or refused."""
    photos = scratch(folder, "photos")
    for number in range(ROWS):
        Image.new("RGB", (16, 16), (9 * number, 0, 0)).save(photos / f"{number:02d}.png")
    mood, size = ("heiß", "kühl"), ("S", "M", "L")
    header = ["file", "mood", "size", "age"]
    rows = [[f"{n:02d}.png", mood[n % 2], size[n % 3], str(n)] for n in range(ROWS)]
    labels = {"mood": [row[1] for row in rows], "size": [row[2] for row in rows]}

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/tables/{number}")
        kind, cells = rng.randrange(5), [list(row) for row in (header, *rows)]
        if kind == 1:
            for _ in range(rng.choice((1, 2, 8))):
                row = rng.choice(cells)
                row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif kind == 2:
            row = rng.choice(cells)
            row[:] = rng.choice(([], row[:-1], row * 2, [*row, ""], [*row, *row * 5000]))
        elif kind == 3:
            cells = rng.choice(([], cells[:1], cells * 2, cells * 400, cells[1:], [cells[0], *cells]))
        separator, end = rng.choice(",;\t|"), rng.choice(("\n", "\r\n", "\r"))
        quote = rng.choice(("", '"'))
        lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in cells]
        content = end.join([*lines, ""]).encode(rng.choice(ENCODINGS), "replace")
        if kind == 4:
            content = mutate(content, rng)
        (photos / "labels.csv").write_bytes(content)
        spec = f"folder:{photos}" + rng.choice(("", ",bins=age:4", ",bins=age:0-9,10-", ",bins=size:2"))
        source = load_source(spec) if kind else load_folder(parse_spec(f"folder:{photos}"))
        names = {one.name: one.classes for one in source.attributes}
        for name, found in source.labels.items():
            assert len(found) == len(source.pictures.names)
            assert found.min() >= -1
            assert found.max() < len(names[name])
        if kind == 0:
            assert list(source.pictures.names) == [row[0] for row in rows]
            for name, values in labels.items():
                assert [names[name][at] for at in source.labels[name]] == values

    return case


def strange_tensors(content: bytes, rng: random.Random) -> bytes:
    """A file of tensors that was damaged; or other tensors under the right hash."""
    if rng.random() < 0.3:
        return mutate(content, rng)
    tensors = from_bytes(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        name = rng.choice(sorted(tensors))
        value, kind = tensors[name], rng.randrange(7)
        if kind == 0:
            del tensors[name]
        elif kind == 1:
            tensors[rng.choice(["x", "", name + ".y", "é" * 300])] = value.clone()
        elif kind == 2:
            tensors[name] = value.flatten()[: rng.choice((0, 1, 2))].clone()
        elif kind == 3:
            tensors[name] = torch.zeros(rng.choice(((), (0,), (1000,), (1, 2, 3, 4, 5), (3000, 3000))))
        elif kind == 4:
            tensors[name] = value.to(rng.choice((torch.float64, torch.int64, torch.bool, torch.uint8)))
        elif value.is_floating_point():
            tensors[name] = torch.full_like(value, rng.choice((float("nan"), float("inf"), 1e38, 0.0)))
        if not tensors:
            break
    return to_bytes(tensors, metadata={checkpoint.DIGEST: checkpoint.digest_of(tensors)})


def made_run(folder: Path, run: Path) -> tuple[TrainConfig, Callable[[], AnswerTrainer | CoTrainer]]:
    """A run of the export's own configuration with a checkpoint of one epoch; a maker of trainers that go on from it.

    It is trained on fewer images, and in picture mode it is finished: its best epoch is the first.
    """
    given = read_config(folder / "audit" / "config.json")
    base = given.data.split(",")[0]
    data = f"{base},count=600,size=16" if base == "synthetic" else given.data
    config = given.model_copy(update={"data": data, "batch_size": 64})
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    fabric = Fabric(accelerator="cpu", devices=1)
    clean = make_cloud(config, dataset)
    kind = AnswerTrainer if config.mode == "answer" else CoTrainer

    def trainer() -> AnswerTrainer | CoTrainer:
        return kind(config, dataset, clean, run, fabric)

    first = trainer()
    log = TrainingLog(run)
    log.write(first.run_epoch())
    first.save()
    write_json(run / "config.json", config.model_dump(mode="json"))
    record(run, config, dataset, auto=False)
    card = {
        **read_object(folder / "audit" / "card.json"),
        "schema": "sfumato-run/2",
        "dataset": {"id": dataset.id},
        "best_epoch": first.best_record,
    }
    write_json(run / "card.json", card)
    if isinstance(first, CoTrainer):
        checkpoint.save_module(first.best.local, run / "local.safetensors")
        checkpoint.save_module(first.best.cloud, run / "cloud.safetensors")
    return config, trainer


EPOCHS = 0.3
"""Share of the checkpoints from which an epoch is trained: it takes a second."""


def checkpoint_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Checkpoints that were damaged, or hold other things under the right hash: refused, or training goes on."""
    run = scratch(folder, "run")
    config, trainer = made_run(folder, run)
    place = run / (CHECKPOINT if config.mode == "answer" else "checkpoint")
    files = Files(place)
    number_of = files.contents["latest"].split()[0].decode()
    state, tensors = f"{number_of}/{checkpoint.STATE}", f"{number_of}/{checkpoint.TENSORS}"

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/checkpoints/{number}")
        kind, contents = rng.randrange(8), files.contents
        new: dict[str, bytes | str] = {}
        if kind == 1:
            new = {rng.choice(sorted(contents)): rng.choice(SPECIAL)}
        elif kind == 2:
            name = rng.choice(sorted(contents))
            new = {name: mutate(contents[name], rng)}
        elif kind <= 4 and kind:
            content = mutate_json(contents[state], rng)
            digest = hashlib.sha256(content).hexdigest().encode()
            new = {state: content, "latest": number_of.encode() + b" " + digest + b"\n"}
        elif kind:
            new = {tensors: strange_tensors(contents[tensors], rng)}
        with files.changed(**new):
            found = trainer()
            assert found.epoch == 1 or kind
            if rng.random() < EPOCHS:
                epoch = found.run_epoch()
                found.save()
                assert epoch["epoch"] + 1 == found.epoch
                assert found.best_record

    return case


def run_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Files of a run that are damaged, strange, or no files: every reader of the run says so, or reads a sound one."""
    run = scratch(folder, "run")
    config, _ = made_run(folder, run)
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    shutil.rmtree(run / (CHECKPOINT if config.mode == "answer" else "checkpoint"))
    (run / "run.toml").write_text('keep = ["skin"]\nepochs = 4\n[answer]\nbins = 2\n', encoding="utf-8")
    if (folder / "audit.json").exists():
        shutil.copy(folder / "audit.json", run)
    files = Files(run)

    def read_log() -> None:
        training_curves(run / "metrics.jsonl")
        TrainingLog(run).drop_after("cotrain", 1)

    readers: dict[str, Callable[[], object]] = {
        "config.json": lambda: load_run(run),
        "card.json": lambda: load_run(run),
        "metrics.jsonl": read_log,
        "run.toml": lambda: read_toml(run / "run.toml"),
        STARTED: lambda: changed(run, config, dataset, auto=False),
    }
    if config.mode == "picture":
        readers |= dict.fromkeys(("local.safetensors", "cloud.safetensors"), readers["card.json"])
    if "audit.json" in files.contents:
        readers["audit.json"] = lambda: read_audit(run / "audit.json")

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/runs/{number}")
        name = rng.choice(sorted(readers))
        content = files.contents[name]
        if rng.random() < 0.2:
            new: bytes | str = rng.choice(SPECIAL)
        elif name.endswith(".json"):
            new = mutate_json(content, rng)
        else:
            new = strange_tensors(content, rng) if name.endswith(".safetensors") else mutate(content, rng)
        with files.changed(**{name: new}):
            readers[name]()

    return case


def ledger_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Ledgers, device keys and tokens that were damaged. A ledger that is read has every entry, and repair always helps."""
    place = scratch(folder, "device")
    path, key, tokens = place / "key.ledger", place / "key", place / "tokens"
    key.write_text(KEY.hex() + "\n", encoding="ascii")
    tokens.write_text("app 0123456789abcdef\nother fedcba9876543210\n", encoding="ascii")
    ledger = Ledger(path, KEY)
    ledger.set_limit("*", day=100, total=None)
    for number in range(5):
        ledger.spend("photos.example", Draw(bytes([number]) * 16, 1.5 + number))
    for name in (key, tokens):
        name.chmod(0o600)
    files, whole = Files(place), ledger.account("photos.example").total
    lines = [json.loads(line.rpartition(b" ")[0]) for line in files.contents[path.name].splitlines()]

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/ledgers/{number}")
        kind = rng.randrange(6)
        name = rng.choice(sorted(files.contents))
        if kind == 0:
            new: dict[str, bytes | str] = {name: rng.choice(SPECIAL)}
        elif kind == 1:
            new = _resealed(path, lines, rng)
        else:
            new = {name: mutate(files.contents[name], rng)}
        with files.changed(**new):
            if name == key.name:
                read_key(key)
            elif name == tokens.name:
                Tokens.read(tokens)
            try:
                _check_ledger(path, whole if kind != 1 else None)
            finally:
                if path.is_file() and not path.is_symlink():
                    Ledger(path, KEY).repair()
                    _check_ledger(path, None)

    return case


def _resealed(path: Path, lines: list[Any], rng: random.Random) -> dict[str, bytes | str]:
    """The ledger with strange values in it, sealed with the right key."""
    entries = [dict(line) for line in lines]
    entry = rng.choice(entries[1:])
    entry[rng.choice(sorted(entry))] = rng.choice(STRANGE)
    with tempfile.TemporaryDirectory() as made:
        other = Path(made) / path.name
        ledger = Ledger(other, KEY)
        with ledger._log.held():
            ledger._log.append(entries[1:])
        return {one.name: one.read_bytes() for one in (other, other.with_name(other.name + ".anchor"))}


def _check_ledger(path: Path, whole: Any) -> None:
    ledger = Ledger(path, KEY)
    for account in ledger.accounts():
        json.dumps(account.to_json())
        if whole is not None:
            assert account.total == whole
    (refusal,) = ledger.spend_many("photos.example", [Draw(bytes(16), 1.5)])
    assert refusal is None or str(refusal)
