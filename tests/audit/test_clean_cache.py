"""The store of clean references: what a hit depends on, that it changes no bit, and what leaves the store."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.audit.conftest import SmallArtifact, dataset, noise_only
from tests.fixtures.forks import fork
from torch import Tensor, nn
from typer.testing import CliRunner

from sfumato.audit import audit, clean_cache
from sfumato.audit.attack_data import AttackData, AttackSplit, build_attack_data
from sfumato.audit.attacks import clean, provider
from sfumato.audit.attacks.fit import Recipe, fit
from sfumato.audit.clean_cache import Kept, clean_reference, key, load, make_room, save, switched_off
from sfumato.audit.cross_fitting import rotate
from sfumato.audit.plan import DEFAULT
from sfumato.audit.predictions import Prediction
from sfumato.audit.schema import Audit
from sfumato.cli.main import app
from sfumato.core.errors import UsageError

GIVEN = Callable[[str], AttackData]
RECIPE = Recipe(attack="clean", architecture="cnn", lr=1e-3, epochs=2, patience=2, batch_size=64, clean=True)
GROUP = ("tone",)
WHOLE = 10**9


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own; where entries lie in it."""
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / clean_cache.FOLDER


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that were trained, not found."""
    found: list[Recipe] = []

    def counted(*parts: Any) -> list[Prediction]:
        found.append(parts[-1])
        return fit(*parts)

    monkeypatch.setattr(clean, "fit", counted)
    return found


def fresh(data: AttackData, **changes: Any) -> AttackData:
    """The same data, without the networks that earlier tests trained on it."""
    return replace(data, networks={}, from_store=[], **changes)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())  # a console wraps


def same(first: list[Prediction], second: list[Prediction]) -> bool:
    """Whether predictions are equal to the bit."""

    def plain(one: Prediction) -> dict[str, Any]:
        return {**vars(one), "validation": one.validation.tobytes(), "test": one.test.tobytes()}

    return [plain(one) for one in first] == [plain(one) for one in second]


def dotted(split: AttackSplit, row: int, value: int = 0) -> AttackSplit:
    """A split with one other pixel."""
    pixels = split.pixels[:].copy()
    pixels[row, 0, 0, 0] ^= 1 + value
    return replace(split, pixels=pixels)


def flipped(split: AttackSplit, row: int = 0) -> AttackSplit:
    """A split with one other label."""
    tone = split.labels["tone"].copy()
    tone[row] = 1 - tone[row]
    return replace(split, labels={**split.labels, "tone": tone})


def turned(split: AttackSplit) -> AttackSplit:
    """The same photos and labels in another order."""
    order = np.arange(split.images)[::-1]
    rows = np.concatenate([order + copy * split.images for copy in range(split.copies)])
    return replace(
        split, pixels=split.pixels[rows], labels={name: value[rows] for name, value in split.labels.items()}
    )


def plainly(split: AttackSplit) -> AttackSplit:
    """The pixels of a split read out; what they are made of is not known any more."""
    return replace(split, pixels=split.pixels[:])


PLAIN: dict[str, Callable[[AttackData], AttackData]] = {
    "a pixel of the attacker": lambda data: replace(data, train=dotted(data.train, 3)),
    "a pixel of a copy": lambda data: replace(data, train=dotted(data.train, data.train.images + 3)),
    "a pixel of validation": lambda data: replace(data, validation=dotted(data.validation, 3)),
    "a pixel of test": lambda data: replace(data, test=dotted(data.test, 3)),
    "the order of the attacker": lambda data: replace(data, train=turned(data.train)),
    "the order of test": lambda data: replace(data, test=turned(data.test)),
    "splits in other roles": lambda data: replace(data, validation=data.test, test=data.validation),
    "a label of the attacker": lambda data: replace(data, train=flipped(data.train)),
    "a label of validation": lambda data: replace(data, validation=flipped(data.validation)),
    "a label of test": lambda data: replace(data, test=flipped(data.test)),
    "the number of classes": lambda data: replace(data, classes={**data.classes, "tone": 3}),
    "the seed": lambda data: replace(data, seed=1),
}
"""Another data set, other splits or another seed, told by the contents alone."""


def test_other_data_or_another_seed_is_another_key(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    data = fresh(data, train=plainly(data.train))
    keys = {what: key(change(data), GROUP, [RECIPE], 1, clean.start) for what, change in PLAIN.items()}
    keys["nothing"] = key(data, GROUP, [RECIPE], 1, clean.start)
    assert len(set(keys.values())) == len(keys)
    assert key(replace(data, rate=data.rate + 1), GROUP, [RECIPE], 1, clean.start) == keys["nothing"]


def test_every_setting_of_the_plan_is_another_key(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    further: dict[str, Any] = {
        "attack": "probe",
        "architecture": "linear",
        "lr": 2e-3,
        "epochs": 3,
        "patience": 3,
        "batch_size": 32,
        "clean": False,
    }
    assert set(further) == set(vars(RECIPE)), "a setting of a recipe is not tried here"
    recipes = [[RECIPE], *([replace(RECIPE, **{name: value})] for name, value in further.items())]
    keys = [key(data, GROUP, one, 1, clean.start) for one in [*recipes, [RECIPE, recipes[1][0]]]]
    keys.append(key(data, GROUP, [RECIPE], 2, clean.start))
    keys.append(key(data, ("shape",), [RECIPE], 1, clean.start))
    keys.append(key(data, ("tone", "shape"), [RECIPE], 1, clean.start))
    keys.append(key(data, ("shape", "tone"), [RECIPE], 1, clean.start))
    assert len(set(keys)) == len(keys)


def test_folds_copies_and_sizes_are_other_keys_and_channels_are_not(make: Any) -> None:
    """Through the front door: attack data of whole artifacts."""
    artifact = make("noise")

    def of(one: Any, copies: int = 2, seed: int = 0) -> str:
        return key(build_attack_data(one, GROUP, copies=copies, seed=seed), GROUP, [RECIPE], 1, clean.start)

    first = of(artifact)
    assert of(make("planted")) == of(make("identity")) == first, "the same photos behind another channel"
    fold = rotate(artifact, 3)[1]
    smaller = replace(artifact.dataset, images=artifact.dataset.images[:, ::2, ::2].copy())
    sizes = type(artifact)(
        artifact.folder, smaller, lambda images: {"p": torch.full((len(images), 3, 8, 8), 0.5)}
    )
    others = [of(fold), of(artifact, copies=3), of(artifact, copies=4), of(artifact, seed=1), of(sizes)]
    assert len({first, *others}) == 6
    moved = build_attack_data(artifact, GROUP, copies=4, seed=0)
    pixels: Any = moved.train.pixels
    pixels.moved[-1, 0] += 1
    assert key(moved, GROUP, [RECIPE], 1, clean.start) not in others, "a copy that is shifted otherwise"


def test_arithmetic_and_version_are_other_keys(attack_data: GIVEN, monkeypatch: pytest.MonkeyPatch) -> None:
    data = attack_data("noise")
    keys = [key(data, GROUP, [RECIPE], 1, clean.start)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        keys.append(key(data, GROUP, [RECIPE], 1, clean.start))
    finally:
        torch.set_num_threads(threads)
    with monkeypatch.context() as one:
        one.setattr(clean_cache, "VERSION", clean_cache.VERSION + 1)
        keys.append(key(data, GROUP, [RECIPE], 1, clean.start))
    with monkeypatch.context() as one:
        one.setattr(torch, "__version__", "9.9.9")
        keys.append(key(data, GROUP, [RECIPE], 1, clean.start))
    with monkeypatch.context() as one:
        one.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "none")
        keys.append(key(data, GROUP, [RECIPE], 1, clean.start))
    assert len(set(keys)) == len(keys)
    assert key(data, GROUP, [RECIPE], 1, clean.start) == keys[0]


class Backwards(torch.autograd.Function):
    """The same value, another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


class Odd(nn.Module):
    """A cloud network that computes something else from the same weights."""

    def __init__(self, cloud: nn.Module, how: str) -> None:
        super().__init__()
        self.cloud, self.how = cloud, how

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.how == "always" or self.how == ("training" if self.training else "evaluation"):
            x = 1 - x
        out: dict[str, Tensor] = self.cloud(x)
        if self.how == "gradient":
            out = {name: Backwards.apply(value) for name, value in out.items()}  # type: ignore[no-untyped-call]
        return out


def test_a_network_that_starts_otherwise_is_another_key(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    clouds = [Odd(data.cloud, how) for how in ("", "always", "training", "evaluation", "gradient")]
    other = Odd(type(data.cloud)({"shape": 2}, widths=(8, 8, 16)), "")
    other.load_state_dict(clouds[0].state_dict())
    digests = [key(replace(data, cloud=one), GROUP, [RECIPE], 1, provider.start) for one in [*clouds, other]]
    assert digests[-1] == digests[0], "the same network, made again"
    weight = next(other.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(9.0))
    digests[-1] = key(replace(data, cloud=other), GROUP, [RECIPE], 1, provider.start)
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("run", [clean.train, clean.finetune])
def test_a_hit_is_equal_to_the_bit_behind_any_channel(
    attack_data: GIVEN, store: Path, trained: list[Recipe], run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores of photos, and those of uploads, which the network computes anew each time."""
    recipe = replace(RECIPE, architecture="finetune" if run is clean.finetune else "cnn")
    data = [fresh(attack_data(kind)) for kind in ("planted", "planted", "noise")]
    before = torch.get_rng_state()
    with switched_off():
        without = [run(one, GROUP, recipe) for one in (data[0], fresh(data[2]))]
    assert not store.exists()
    kept = run(data[0], GROUP, recipe)
    assert len(trained) == 3
    assert said(capsys) == ""
    again, behind = run(data[1], GROUP, recipe), run(data[2], GROUP, recipe)
    assert len(trained) == 3
    assert same(without[0], kept)
    assert same(kept, again)
    assert same(without[1], behind), "uploads are those of the artifact"
    assert not same(behind[1:], kept[1:])
    assert torch.equal(torch.get_rng_state(), before)
    assert data[1].from_store == data[2].from_store == [f"clean {recipe.architecture} on tone"]
    assert said(capsys).count("from the store of clean references") == 2
    for first, second in itertools.pairwise([data[0].networks, data[1].networks]):
        for one, other in zip(first.values(), second.values(), strict=True):
            assert not other.training
            for a, b in zip(one.parameters(), other.parameters(), strict=True):
                assert torch.equal(a, b)
                assert a.stride() == b.stride(), "other kernels would round otherwise"
                assert a.requires_grad == b.requires_grad


def test_a_copy_of_another_cloud_network_is_trained(
    attack_data: GIVEN, store: Path, trained: list[Recipe]
) -> None:
    data, recipe = fresh(attack_data("noise")), replace(RECIPE, architecture="finetune")
    clean.finetune(data, GROUP, recipe)
    clean.finetune(data, GROUP, recipe)
    assert len(trained) == 1
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = type(data.cloud)({"shape": 2}, widths=(8, 8, 16))
    clean.finetune(fresh(data, cloud=other.eval()), GROUP, recipe)
    assert len(trained) == 2
    clean.train(data, GROUP, recipe=replace(RECIPE, architecture="linear"))
    assert len(trained) == 3
    assert len(list(store.glob("*.pt"))) == 3


def test_a_whole_audit_says_the_same_without_with_and_from_the_store(
    make: Any, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rounds, a copy of the cloud network, and probes that start from a clean network: all that reads the store."""
    monkeypatch.setattr(clean, "LARGE", 1)
    plan = DEFAULT.model_copy(
        update={
            "attacks": ("floor", "clean", "probe", "provider"),
            "probes": ("linear",),
            "clean_probes": ("cnn", "linear"),
            "clean_rounds": 2,
            "rounds": 2,
            "survivors": 0,
            "epochs": 2,
            "provider_epochs": 2,
            "clean_epochs": 2,
            "steps": 1,
            "clean_steps": 1,
            "copies": 3,
            "prior_steps": 1,
            "control": False,
            "compose": False,
        }
    )

    def figures(result: Audit) -> dict[str, Any]:
        return {**result.to_json(), "seconds": 0, "date": "", "provenance": {}}

    artifact = make("clean")
    with switched_off():
        without = audit(artifact, plan, out=tmp_path / "a", folds=2)
    assert not store.exists()
    kept = audit(artifact, plan, out=tmp_path / "b", folds=2)
    assert len(list(store.glob("*.pt"))) == 4, "two folds of two references"
    found = audit(artifact, plan, out=tmp_path / "c", folds=2)
    assert figures(without) == figures(kept) == figures(found)
    one = "clean cnn, linear on tone", "clean finetune on tone"
    sources = [each.provenance["clean_references_from_store"] for each in (without, kept, found)]
    assert sources[:2] == [[], []]
    assert set(one) == set(sources[2])
    assert "clean finetune on tone: from the store" in (tmp_path / "c" / "report.html").read_text("utf-8")
    assert "from the store" not in (tmp_path / "b" / "report.html").read_text("utf-8")


def test_a_damaged_entry_is_trained_again_and_said(
    attack_data: GIVEN, store: Path, trained: list[Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    data, recipe = fresh(attack_data("noise")), replace(RECIPE, architecture="linear")
    right = clean.train(data, GROUP, recipe)
    (path,) = store.glob("*.pt")
    whole = path.read_bytes()
    digest = path.stem
    middle = (
        whole.index(right[0].test.tobytes()) + 100
    )  # a score, which torch alone would read as another number
    for number, damaged in enumerate(
        [
            b"",
            b"no entry",
            whole[:-1],
            whole[: len(whole) // 2],
            whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        ]
    ):
        path.write_bytes(damaged)
        assert same(clean.train(data, GROUP, recipe), right)
        assert len(trained) == number + 2
        assert "is damaged or not yours alone, so it is trained again" in said(capsys)
        assert path.read_bytes() == whole, "it is whole again"
    # An entry under the name of another is none.
    clean.train(fresh(data, seed=1), GROUP, recipe)
    (other,) = (found for found in store.glob("*.pt") if found.stem != digest)
    other.replace(path)
    before = len(trained)
    assert same(clean.train(data, GROUP, recipe), right)
    assert len(trained) == before + 1


def test_no_flipped_bit_changes_what_is_read(attack_data: GIVEN, store: Path) -> None:
    data = fresh(attack_data("noise"))
    recipe = replace(RECIPE, architecture="linear", epochs=1)
    right = clean.train(data, GROUP, recipe)[:1]
    (path,) = store.glob("*.pt")
    whole = path.read_bytes()
    digest = key(data, GROUP, [recipe], 1, clean.start)
    for place in range(7, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        found = load(path, digest, data, GROUP, [recipe], clean.start)
        assert found is None or same(found.predictions, right)


@pytest.mark.skipif(os.name == "nt", reason="files have no such owners there")
def test_what_others_may_write_is_not_read(
    attack_data: GIVEN, store: Path, trained: list[Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    data = fresh(attack_data("noise"))
    clean.train(data, GROUP, RECIPE)
    (path,) = store.glob("*.pt")
    path.chmod(0o666)
    clean.train(data, GROUP, RECIPE)
    assert len(trained) == 2
    assert "not yours alone" in said(capsys)


def test_an_entry_holds_scores_and_weights_and_no_photo(attack_data: GIVEN, store: Path) -> None:
    data = fresh(attack_data("noise"))
    clean.train(data, GROUP, RECIPE)
    (path,) = store.glob("*.pt")
    found = torch.load(path, weights_only=True)
    assert set(found) == {"key", "recipe", "weights", "predictions"}
    (one,) = found["predictions"]
    arrays = {name: value.shape for name, value in one.items() if isinstance(value, Tensor)}
    assert arrays == {"validation": (200, 2), "test": (500, 2)}
    scores = 8 * 2 * (200 + 500)
    weights = sum(value.nbytes for value in found["weights"].values())
    assert path.stat().st_size < scores + weights + 20_000


def train_three(words: Sequence[str]) -> None:
    """What one of two processes does that use a store at once: clean attackers of three recipes, from small data.

    Args:
        words: files; it makes the first when it is ready, and begins when the second is there.
    """
    ready, begin = map(Path, words)
    data = build_attack_data(SmallArtifact(Path("."), dataset(), noise_only), ("tone",), copies=2, seed=0)
    ready.touch()
    while not begin.exists():
        time.sleep(0.001)
    for epochs in (1, 2, 3):
        one = clean.train(data, ("tone",), replace(RECIPE, architecture="linear", epochs=epochs, patience=9))
        print(one[0].test.sum().hex(), one[1].test.sum().hex())
    print(len(data.from_store))


def test_two_processes_at_once_make_one_entry_of_each(tmp_path: Path) -> None:
    go, store = tmp_path / "go", tmp_path / "store"

    def begin(name: str) -> ForkServerProcess:
        words = [str(tmp_path / f"{name} is ready"), str(go)]
        return fork(
            train_three, words, said=tmp_path / f"{name}.txt", environment={"SFUMATO_CACHE": str(store)}
        )

    def lines(name: str) -> list[str]:
        return (tmp_path / f"{name}.txt").read_text(encoding="utf-8").splitlines()

    processes = [begin(name) for name in ("one", "two")]
    deadline = time.monotonic() + 240
    while not all((tmp_path / f"{name} is ready").exists() for name in ("one", "two")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go.touch()
    for process in processes:
        process.join(240)
    later = begin("later")
    later.join(240)
    names = ("one", "two", "later")
    assert [one.exitcode for one in (*processes, later)] == [0, 0, 0], [lines(name) for name in names]
    one, two, last = ([line for line in lines(name) if line[0].isdigit()] for name in names)
    assert last[-1] == "3", "all from the store"
    assert one[:3] == two[:3] == last[:3], "the same figures, whoever trained"
    for name in names:
        assert "damaged" not in "".join(lines(name))
    assert len(list((store / clean_cache.FOLDER).iterdir())) == 3, "no scratch file stays"


class Hidden(nn.Module):
    """A network whose state_dict does not hold all of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.shift = network, 0.0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.training:
            self.shift += 1.0
        return {name: value + self.shift for name, value in self.network(x).items()}


def test_a_network_that_its_weights_do_not_bring_back_is_not_kept(
    attack_data: GIVEN, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = fresh(attack_data("noise"))

    def start(*parts: Any) -> nn.Module:
        return Hidden(clean.start(*parts))

    def train() -> Kept:
        network = start(data, GROUP, RECIPE)
        return Kept(RECIPE, network, fit(network, data, GROUP, RECIPE))

    for _ in range(2):
        clean_reference(data, GROUP, [RECIPE], 1, start, train)
        assert "not kept for the next audit" in said(capsys)
    assert not store.exists() or not list(store.iterdir())
    assert data.from_store == []


@pytest.mark.parametrize(
    ("where", "arguments"),
    [
        ("sfumato.audit.audit", ["audit", "run"]),
        ("sfumato.compare.runner.compare", ["compare", "--data", "synthetic", "--keep", "a", "--out", "o"]),
    ],
)
def test_no_cache_is_an_option_of_both_commands(
    where: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """The commands up to the point where they call the audit; there the store is off, or on."""
    kept = Kept(RECIPE, nn.Identity(), [])
    off: list[bool] = []

    def look(*_: Any, **__: Any) -> None:
        try:
            nothing: Any = None  # without a store nobody looks at the data
            off.append(clean_reference(nothing, GROUP, [RECIPE], 1, nothing, lambda: kept) is kept)
        except AttributeError:
            off.append(False)
        raise UsageError("seen")

    monkeypatch.setattr(where, look)
    for options in ([], ["--no-cache"], []):
        CliRunner().invoke(app, [*arguments, *options])
    assert off == [False, True, False]


def test_a_cache_that_cannot_be_written_costs_no_audit(
    attack_data: GIVEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "file" / "cache"))
    data = fresh(attack_data("noise"))
    assert len(clean.train(data, GROUP, RECIPE)) == 2
    assert "not kept for the next audit, cannot write" in said(capsys)


def entry(data: AttackData, name: str, age: int, bound: int = WHOLE) -> Path:
    """An entry that was used so many hours ago."""
    path = clean_cache.folder() / f"{name}.pt"
    recipe = replace(RECIPE, architecture="linear")
    with torch.random.fork_rng():
        network = clean.start(data, GROUP, recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert save(path, name, Kept(recipe, network, []), data, GROUP, [recipe], clean.start, bound) == ""
    when = 1_700_000_000 - 3600 * age
    os.utime(path, (when, when))
    return path


def test_what_was_used_longest_ago_leaves_first(
    attack_data: GIVEN, store: Path, trained: list[Recipe]
) -> None:
    """There is room for three: the one that was just read stays, though it was written first."""
    data, recipe = fresh(attack_data("noise")), replace(RECIPE, architecture="linear")
    clean.train(data, GROUP, recipe)
    (first,) = store.glob("*.pt")
    os.utime(first, (1_600_000_000, 1_600_000_000))
    others = [entry(data, name, age) for name, age in (("b", 5), ("c", 7))]
    clean.train(fresh(data), GROUP, recipe)
    assert len(trained) == 1
    room = sum(path.stat().st_size for path in (first, *others)) + 1
    entry(data, "d", 1, bound=room)
    assert {path.name for path in store.iterdir()} == {first.name, "b.pt", "d.pt"}


def test_other_files_stay(attack_data: GIVEN, store: Path) -> None:
    entry(fresh(attack_data("noise")), "a", 1)
    (store / "notes.txt").write_bytes(bytes(10_000))
    size = (store / "a.pt").stat().st_size
    assert make_room(size) == 0
    assert make_room(size - 1) == size
    assert [path.name for path in store.iterdir()] == ["notes.txt"]


def test_the_bound_comes_from_the_environment(
    attack_data: GIVEN,
    store: Path,
    trained: list[Recipe],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = fresh(attack_data("noise"))
    assert clean_cache.limit() == 2 * 10**9
    monkeypatch.setenv("SFUMATO_REFERENCES_GB", "0")
    clean.train(data, GROUP, RECIPE)
    assert not store.exists()
    monkeypatch.setenv("SFUMATO_REFERENCES_GB", "1e-6")
    clean.train(data, GROUP, RECIPE)
    assert "more than SFUMATO_REFERENCES_GB allows" in said(capsys)
    assert not list(store.iterdir())
    monkeypatch.setenv("SFUMATO_REFERENCES_GB", "0.5")
    clean.train(data, GROUP, RECIPE)
    assert len(trained) == 3
    clean.train(data, GROUP, RECIPE)
    assert len(trained) == 3
    monkeypatch.setenv("SFUMATO_REFERENCES_GB", "0")
    clean.train(data, GROUP, RECIPE)
    assert len(trained) == 4, "none is read either"


@pytest.mark.parametrize("wrong", ["-1", "much", "inf", "nan"])
def test_a_bound_that_is_none_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_REFERENCES_GB", wrong)
    with pytest.raises(UsageError, match="SFUMATO_REFERENCES_GB"):
        clean_cache.limit()
