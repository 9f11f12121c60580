"""Answer mode against the slow obvious computation."""

import math

import numpy as np
import pytest

from sfumato.core.errors import DataError, SfumatoError
from sfumato.runtime.answer import (
    decide,
    draw,
    plain_word,
    read_image,
    read_table,
    read_word,
    state,
    state_count,
    table_bytes,
    word_bits,
    word_bytes,
    word_count,
    word_image,
)

KINDS = [(2,), (3,), (9,), (2, 3), (4, 2, 3)]
WORDS = (2, 3, 5, 18, 256, 257, 1000, 65536)


def slow_decision(scores: list[int], classes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(first, second, margin) per attribute, by sorting."""
    found, at = [], 0
    for count in classes:
        part = scores[at : at + count]
        first, second = sorted(range(count), key=lambda i: (-part[i], i))[:2]
        found.append((first, second, part[first] - part[second]))
        at += count
    return found


def slow_state(found: list[tuple[int, int, int]], classes: tuple[int, ...], margins: list[int]) -> int:
    """The place of a decision in the list of all, made by counting them out."""
    every: list[tuple[tuple[int, int, int], ...]] = [()]
    for count in classes:
        digits = [
            (first, second, reached)
            for first in range(count)
            for second in range(count)
            if second != first
            for reached in range(len(margins) + 1)
        ]
        every = [(*before, digit) for before in every for digit in digits]
    wanted = tuple(
        (first, second, sum(step <= margin for step in margins)) for first, second, margin in found
    )
    return every.index(wanted)


@pytest.mark.parametrize("classes", KINDS)
@pytest.mark.parametrize("margins", [[], [1], [3, 40, 255]])
def test_decisions_words_and_states(classes: tuple[int, ...], margins: list[int]) -> None:
    random = np.random.default_rng(len(classes))
    ordinary = random.integers(-128, 128, (40, sum(classes)))
    ties = random.integers(-1, 1, (40, sum(classes)))  # most scores are equal
    ends = random.choice([-128, 127], (40, sum(classes)))  # margins of 0 and 255
    scores = np.concatenate([ordinary, ties, ends]).astype(np.int8)
    decision = decide(scores, classes)
    words, states = plain_word(decision, classes), state(decision, classes, margins)
    for row, values in enumerate(scores.tolist()):
        found = slow_decision(values, classes)
        assert (
            list(zip(decision.first[row], decision.second[row], decision.margin[row], strict=True)) == found
        )
        names = [""]
        for count in classes:
            names = [f"{name} {i}" for name in names for i in range(count)]
        assert names[words[row]] == "".join(f" {first}" for first, _, _ in found)
        assert states[row] == slow_state(found, classes, margins) < state_count(classes, margins)
        single = decide(scores[row], classes)
        assert state(single, classes, margins) == states[row]


def test_draws_have_exactly_the_counts_of_the_table() -> None:
    random = np.random.default_rng(3)
    counts = random.multinomial(65536, random.dirichlet(np.ones(3) / 2, 12)[0], 12)
    counts[0], counts[1], counts[2] = (65536, 0, 0), (0, 0, 65536), (0, 65536, 0)
    table = counts.cumsum(1).astype(np.uint32)
    every = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)
    for row in range(12):
        words = draw(table, np.full(65536, row), every)
        assert np.bincount(words, minlength=3).tolist() == counts[row].tolist()
        # The smallest noise gives the first word that can be drawn, the largest the last.
        assert words[0] == np.flatnonzero(counts[row])[0]
        assert words[-1] == np.flatnonzero(counts[row])[-1]
    assert draw(table, np.array(1), np.array([255, 255], np.uint8)) == 2


def test_a_table_is_checked() -> None:
    table = np.array([[100, 65536], [65536, 65536]], dtype=np.uint32)
    assert np.array_equal(read_table(table_bytes(table), (2,), []), table)
    assert table_bytes(table)[:4] == bytes([100, 0, 0, 0])
    with pytest.raises(SfumatoError, match="has 15 bytes"):
        read_table(table_bytes(table)[:-1], (2,), [])
    with pytest.raises(SfumatoError, match="has 16 bytes"):
        read_table(table_bytes(table), (2,), [5])
    for wrong in ([[100, 65535], [0, 65536]], [[65537, 65536], [0, 65536]]):
        with pytest.raises(SfumatoError, match="do not rise"):
            read_table(table_bytes(np.array(wrong, dtype=np.uint32)), (2,), [])


@pytest.mark.parametrize("words", WORDS)
def test_words_as_bytes(words: int) -> None:
    for word in {0, 1, words // 2, words - 1}:
        content = word_bytes(word, words)
        assert list(content) == ([word] if words <= 256 else [word // 256, word % 256])
        assert read_word(content, words) == word
    for word in (-1, words):
        with pytest.raises(SfumatoError, match=f"no word {word}"):
            word_bytes(word, words)
    size = len(word_bytes(0, words))
    if words < 256**size:
        with pytest.raises(DataError, match=f"no word {words}: this model has the words 0 to {words - 1}"):
            read_word(words.to_bytes(size, "big"), words)
    for wrong in (b"", bytes(size + 1), bytes(1 if size == 2 else 2)):
        with pytest.raises(DataError, match="bytes; this model takes"):
            read_word(wrong, words)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (18, 21), (112, 64)])
def test_words_as_images(words: int, height: int, width: int) -> None:
    bits = max(1, math.ceil(math.log2(words)))
    assert word_bits(words) == bits
    for word in {0, words // 3, words - 1}:
        image = word_image(word, words, height, width)
        digits = f"{word:0{bits}b}"
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        votes: list[list[int]] = [[] for _ in range(bits)]
        for y in range(height):
            for x in range(width):
                for colour in range(3):
                    cell = ((y * 4 // height) * 4 + x * 4 // width) * 3 + colour
                    assert image[y, x, colour] == int(digits[cell % bits])
                    votes[cell % bits].append(int(image[y, x, colour]))
        # Every bit is shown, and whoever averages the cells reads the word again.
        assert "".join(str(round(sum(seen) / len(seen))) for seen in votes) == digits
        assert read_image(image, words) == word
    with pytest.raises(SfumatoError, match="no word"):
        word_image(words, words, height, width)


def test_bad_input_is_refused() -> None:
    with pytest.raises(SfumatoError, match="needs 5 int8 scores"):
        decide(np.zeros(4, np.int8), (2, 3))
    with pytest.raises(SfumatoError, match="needs 2 int8 scores"):
        decide(np.zeros(2, np.float32), (2,))
    assert word_count((256, 256)) == 65536
    with pytest.raises(SfumatoError, match="65792 combinations; answer mode has 65536 words at most"):
        word_count((256, 257))
    for wrong in ((), (1,), (3, 1)):
        with pytest.raises(SfumatoError, match="at least two classes"):
            word_count(wrong)


@pytest.mark.parametrize("words", WORDS)
def test_an_image_that_shows_more_than_a_word_is_refused(words: int) -> None:
    image = word_image(words - 1, words, 32, 48)
    for place in np.random.default_rng(1).integers(0, image.size, 50):
        changed = image.copy()
        changed.reshape(-1)[place] ^= 1
        with pytest.raises(DataError, match=f"none of the {words} code words"):
            read_image(changed, words)
    if words < 2 ** word_bits(words):  # the image of a word that does not exist
        with pytest.raises(DataError, match="code words"):
            read_image(word_image(words, 2 ** word_bits(words), 32, 48), words)
