"""Uploads that are entries of a public book: against the book listed entry by entry, in floating point."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from sfumato.core.errors import DataError, SfumatoError, UsageError
from sfumato.export.artifact import load_export
from sfumato.export.index_encoding import read_encoding
from sfumato.export.pipeline import export
from sfumato.runtime import index_code
from sfumato.runtime.contract import FILE, parse_contract
from sfumato.runtime.index_code import IndexCode
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import index_cases
from sfumato.training.run import Run

CODES = [
    IndexCode(1, 4, 3, 9, False, 1, 4),
    IndexCode(2, 3, 6, 12, True, 1, 6),
    IndexCode(2, 3, 6, 13, True, 2, 5),
    IndexCode(3, 1, 6, 12, False, 2, 10),
]


def mixed(step: int, register: int) -> int:
    """The hash in Python's own integers."""
    x = step << 16 | register
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def entry(code: IndexCode, number: int) -> list[list[int]]:
    """The planes of each pixel, y * width + x, of an entry of the book: from its number as text, one step at a time."""
    pixels = code.height * code.width
    digits, found = "0" * code.memory + format(number, f"0{code.bits}b"), [[0]] * pixels
    apart = next(n for n in itertools.count(math.ceil(5 * pixels / 8)) if math.gcd(n, pixels) == 1)
    for step in range(pixels):
        start, end = (code.bits * more // pixels for more in (step, step + 1))
        value = mixed(step, int(digits[start : code.memory + end], 2)) >> (32 - code.planes)
        found[step * apart % pixels] = [value >> plane & 1 for plane in range(code.planes)]
    return found


def law(code: IndexCode, q: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probability of every entry: P(z) / Q(z), Q the same for all, to the code's power."""
    p = q.reshape(-1, code.planes) / 256
    if code.gray:
        p[q.reshape(-1, code.planes) == 255] = 1
    books = np.array([entry(code, number) for number in range(2**code.bits)])
    weights = np.where(books == 1, p, 1 - p).prod((1, 2)) ** code.power
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def probabilities(code: IndexCode, seed: int = 0) -> NDArray[np.uint8]:
    """Neither too sure: of weights that are a millionth of others integers keep no more than that they are small."""
    shape = (code.height, code.width, code.planes)
    return np.random.default_rng(seed).integers(60, 196, shape, dtype=np.uint8)


def number(code: IndexCode, index: bytes) -> int:
    return int.from_bytes(index, "big") >> 8 * code.size - code.bits


@pytest.mark.parametrize("code", CODES, ids=str)
def test_draws_follow_the_weights_of_the_listed_book(code: IndexCode) -> None:
    q, count = probabilities(code), 4000
    noise = np.random.default_rng(1).integers(0, 256, (count, code.noise_bytes), dtype=np.uint8)
    drawn = code.draw_many(np.broadcast_to(q, (count, *q.shape)), noise)
    seen = np.bincount([number(code, index) for index in drawn], minlength=2**code.bits)
    expected = count * law(code, q)
    often = expected > 5
    seen, expected = (np.append(each[often], each[~often].sum()) for each in (seen, expected))
    statistic = ((seen - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    assert len(seen) > 20
    assert chi2.sf(statistic, len(seen) - 1) > 0.01


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_bits_told_are_those_of_the_listed_book(code: IndexCode) -> None:
    shares = law(code, probabilities(code))
    exact = code.exact_bits(probabilities(code))
    assert exact == pytest.approx(code.bits + (shares * np.log2(shares)).sum(), abs=0.02)
    # Coins: every entry is as likely, and its number tells nothing. Certain samples: never more than the bits of the book.
    coins = np.full_like(probabilities(code), 128)
    assert code.exact_bits(coins) == pytest.approx(0, abs=1e-3)
    assert code.exact_bits(np.full_like(coins, 255)) <= code.bits


@pytest.mark.parametrize("code", CODES, ids=str)
def test_every_entry_is_read_as_it_is_listed(code: IndexCode) -> None:
    depth = code.planes // 3
    for chosen in range(2**code.bits):
        content = (chosen << 8 * code.size - code.bits).to_bytes(code.size, "big")
        levels = code.levels(content).reshape(-1, 3)
        for found, planes in zip(levels, entry(code, chosen), strict=True):
            for colour, level in enumerate(found.tolist()):
                drawn = planes[colour::3]
                bits = [sum(drawn[: at + 1]) % 2 for at in range(depth)] if code.gray else drawn
                assert level == int("".join(map(str, bits)), 2)


def slow_draw(code: IndexCode, q: NDArray[np.uint8], noise: NDArray[np.uint8]) -> bytes:
    """The draw as the contract says it, one register after the other, in Python's own numbers."""
    steps, states = code.height * code.width, 2**code.memory
    apart = next(n for n in itertools.count(math.ceil(5 * steps / 8)) if math.gcd(n, steps) == 1)
    ends = [code.bits * step // steps for step in range(steps + 1)]
    weights = []
    for step in range(steps):
        found = [1.0]
        for plane in range(code.planes):
            byte = int(q.reshape(steps, code.planes)[step * apart % steps, plane])
            one = min(max(256 if code.gray and byte == 255 else byte, 0.25), 255.75) / 256
            found = [weight * (1 - one) for weight in found] + [weight * one for weight in found]
        weights.append([weight * weight for weight in found] if code.power == 2 else found)

    def each(step: int, state: int) -> list[float]:
        bits = ends[step + 1] - ends[step]
        registers = [state + states * i for i in range(2**bits)]
        return [
            sums[step][register >> bits] * weights[step][mixed(step, register) >> (32 - code.planes)]
            for register in registers
        ]

    def choose(among: list[float], number: int) -> int:
        u = int(noise[2 * number]) + 256 * int(noise[2 * number + 1])
        *_, total = itertools.accumulate(among)
        reached = itertools.accumulate(among)
        return next(i for i, sum_ in enumerate(reached) if sum_ > u * total / 65536)

    sums = [[1.0] + [0.0] * (states - 1)]
    for step in range(steps):
        added = []
        for state in range(states):
            *_, total = itertools.accumulate(each(step, state))
            added.append(total)
        unit = 2.0 ** -math.frexp(max(added))[1]
        sums.append([one * unit for one in added])
    state, index = choose(sums[-1], 0), 0
    for step in reversed(range(steps)):
        bits = ends[step + 1] - ends[step]
        register = state + states * choose(each(step, state), steps - step)
        index |= (register % 2**bits) << (code.bits - ends[step + 1])
        state = register >> bits
    return (index << 8 * code.size - code.bits).to_bytes(code.size, "big")


@pytest.mark.parametrize(
    "code", [*CODES, IndexCode(5, 4, 6, 47, True, 2, 7), IndexCode(3, 5, 6, 60, True, 1, 4)], ids=str
)
@pytest.mark.parametrize("spread", [5, 60, 300])
def test_many_draws_at_once_are_the_slow_draws_one_by_one(
    code: IndexCode, spread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_code, "TOGETHER", 3)  # seven are three batches, the last of one
    rng, shape = np.random.default_rng(spread), (7, code.height, code.width, code.planes)
    q = np.clip(rng.normal(128, spread, shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (7, code.noise_bytes), dtype=np.uint8)
    drawn = code.draw_many(q, noise)
    assert drawn == [slow_draw(code, *pair) for pair in zip(q, noise, strict=True)]
    assert drawn == [code.draw(*pair) for pair in zip(q, noise, strict=True)]
    assert np.array_equal(code.levels_of_many(drawn), [code.levels(index) for index in drawn])


def test_ways_that_do_not_fit_into_the_cache_give_the_same_index(monkeypatch: pytest.MonkeyPatch) -> None:
    code = IndexCode(5, 4, 6, 77, True, 2, 7)
    rng = np.random.default_rng(2)
    q = rng.integers(0, 256, (5, 5, 4, 6), dtype=np.uint8)
    noise = rng.integers(0, 256, (5, code.noise_bytes), dtype=np.uint8)
    expected = code.draw_many(q, noise)
    for cached in (1, 5 * 128 * 3):
        monkeypatch.setattr(index_code, "CACHED", cached)
        assert code.draw_many(q, noise) == expected


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_law_of_a_draw_is_that_of_the_listed_book(code: IndexCode) -> None:
    q = np.stack([probabilities(code, seed) for seed in range(3)])
    bits, means = code.exact_law(q)
    books = np.array([entry(code, number) for number in range(2**code.bits)])
    for one, told, mean in zip(q, bits, means, strict=True):
        assert told == pytest.approx(code.exact_bits(one))
        expected = np.einsum("n,npk->pk", law(code, one), books)
        assert np.abs(mean.reshape(expected.shape) - expected).max() < 1e-3
    p = code.chances(q).reshape(3, -1, code.planes)
    listed = [np.where(books == 1, one, 1 - one).prod((1, 2)) for one in p]
    for power in (1, 2):
        expected = [np.log((weights**power).sum()) for weights in listed]
        assert code.log_sums(code.chances(q), power) == pytest.approx(expected)
        assert code.log_sums(code.chances(q[:1]), power) == pytest.approx(expected[:1])


def test_other_lengths_and_numbers_beyond_the_book_are_refused() -> None:
    code = IndexCode(5, 4, 6, 47, True)
    good = bytes(5) + b"\xfe"
    assert code.levels(good).shape == (5, 4, 3)
    for content in (b"", good[:-1], good + b"\0"):
        with pytest.raises(DataError, match=f"the index has {len(content)} bytes; this model takes 6"):
            code.levels(content)
    with pytest.raises(DataError, match="not filled with zeros"):
        code.levels(bytes(5) + b"\x01")
    for q, noise in (((5, 4, 6), (40,)), ((4, 5, 6), (42,))):
        with pytest.raises(SfumatoError, match="and 42 noise bytes"):
            code.draw(np.zeros(q, np.uint8), np.zeros(noise, np.uint8))
    with pytest.raises(SfumatoError, match="and 42 noise bytes"):
        code.draw_many(np.zeros((2, 5, 4, 6), np.uint8), np.zeros((1, 42), np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [
        (5, 4, 6, 81, False),
        (5, 4, 6, 39, False),
        (5, 4, 12, 60, False),
        (1, 1, 3, 3, False),
        (5, 4, 6, 60, False, 3),
        (5, 4, 6, 60, False, 1, 3),
        (5, 4, 6, 60, False, 1, 11),
    ],
)
def test_a_book_that_cannot_be_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(SfumatoError, match="there is no index"):
        IndexCode(*wrong)


def test_cases_have_every_number_of_bits_a_step() -> None:
    taken = set()
    for case in index_cases():
        steps = case["height"] * case["width"]
        ends = [case["bits"] * step // steps for step in range(steps + 1)]
        taken |= {after - before for before, after in itertools.pairwise(ends)}
    assert taken == {1, 2, 3, 4}


def test_one_photo_and_key_have_one_index(
    index_export: Path, photo: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    model = PhoneModel.load(index_export)
    image = photo(*model.contract.size)
    first, again, other = (model.perturb(image, key=bytes([n]) * 32) for n in (1, 1, 2))
    assert first.content == again.content != other.content
    assert (first.encoding, len(first.content)) == ("index", 88)
    assert model.book is not None
    assert np.array_equal(first.levels, model.book.levels(first.content))
    assert 0 < first.rate_bits < 700
    assert len({model.perturb(image, key=None).content for _ in range(3)}) == 3
    with pytest.raises(UsageError, match="sends indices and nothing else"):
        model.perturb(image, key=None, encoding="image")


def test_an_export_without_a_book_has_no_indices(
    bundle: Path, photo: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    model = PhoneModel.load(bundle)
    with pytest.raises(UsageError, match="sends no indices"):
        model.perturb(photo(*model.contract.size), key=None, encoding="index")
    values = json.loads((bundle / FILE).read_text(encoding="utf-8"))
    assert "index" not in values
    assert values["sampler"] == 1
    assert "index" not in json.loads((bundle / "vectors.json").read_text(encoding="utf-8"))


def test_who_draws_no_indices_refuses_them(index_export: Path) -> None:
    with pytest.raises(SfumatoError, match="are indices, which only an audit draws: take a packed export"):
        load_export(index_export, indices=False)
    assert load_export(index_export).phone.book is not None


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "sampler of before": lambda v: v.update(sampler=1),
    "other encoding": lambda v: v["upload"].update(encoding="png"),
    "no book": lambda v: v.pop("index"),
    "gates": lambda v: (v["channel"].pop("subsample"), v["channel"].update(gates=True)),
    "too many bits": lambda v: v["index"].update(bits=16 * 16 * 4 + 1),
    "too few bits": lambda v: v["index"].update(bits=16 * 16 * 2 - 1),
    "another version": lambda v: v["index"].update(version=2),
    "another memory": lambda v: v["index"].update(memory=11),
    "another power": lambda v: v["index"].update(power=3),
    "unknown encoding": lambda v: v["upload"].update(encoding="text"),
    "unknown sampler": lambda v: v.update(sampler=3),
}


@pytest.mark.parametrize("name", WRONG)
def test_contracts_that_contradict_themselves_are_refused(index_export: Path, name: str) -> None:
    values = json.loads((index_export / FILE).read_text(encoding="utf-8"))
    assert parse_contract(json.dumps(values).encode()).index is not None
    WRONG[name](values)
    with pytest.raises(SfumatoError, match=FILE):
        parse_contract(json.dumps(values).encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "png",
        "index:",
        "index:x",
        "index:-1",
        "index:8:3",
        "index:8:1.5",
        "index:8:1:3",
        "packed:8",
        "index::1",
    ],
)
def test_other_encodings_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--encoding is packed or index"):
        read_encoding(text)


@pytest.mark.parametrize(
    ("name", "encoding", "more", "message"),
    [
        ("dither16", "index", {}, "2 or 4 levels"),
        ("gates", "index", {}, "without gates"),
        ("gaussian", "index", {}, "channel dither"),
        ("subsample", "index:1025", {}, "512 to 1,024 bits, not 1,025"),
        ("subsample", "index", {"points": (128, 64)}, "no points"),
        ("subsample", "index", {"variants": ["float32"]}, "variant int8"),
    ],
)
def test_runs_that_have_no_index_are_refused_before_anything_is_converted(
    make_run: Callable[[str], Run],
    tmp_path: Path,
    name: str,
    encoding: str,
    more: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        export(make_run(name), tmp_path / "out", encoding=encoding, **more)
    assert list(tmp_path.iterdir()) == []
