"""Answer mode, version 1: what travels is the code word of the phone's own decision, and nothing near it.

The local network gives one int8 score per class of every kept attribute, in the order of the contract. From there on, integers
alone; the same few lines exist in Kotlin and JavaScript and give the same bytes (docs/contract.md, "Answer"):

- decision: per attribute the best class, the runner-up and their distance in int8 steps; of equal scores the first counts;
- without a table the word is the best classes as a number of mixed radix, the first attribute most significant;
- with a table (the randomised answer) the decision falls into one of finitely many states, and two bytes of keyed noise choose
  the word by the state's row of cumulative counts;
- the word travels as one byte (two for more than 256 words), or as an image that a cloud network can read.

There are N = product of the class counts words, so no photo tells more than log2 N bits, whatever computed the scores.

    decision = decide(scores, (9, 2))
    word = draw(table, state(decision, (9, 2), margins), noise[:2])     # or plain_word(decision, (9, 2)) without a table
    content = word_bytes(int(word), 18)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError, SfumatoError

IMAGE_CODE = 1
"""Version of `word_image`."""
TABLE = "answer_table.bin"
"""The file in which exports with a randomised answer carry their table."""
MOST_WORDS = 65536
TOTAL = 65536
"""What the cumulative counts of a row end with: as many as there are values of two noise bytes."""
NOISE_BYTES = 2
GRID = 4
"""The code word's image is 4 x 4 cells for each of three colours."""

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Decision:
    """What the phone decided on one photo or on a batch; each array is (..., A) for A kept attributes."""

    first: Numbers
    """The best class."""
    second: Numbers
    """The best of the others."""
    margin: Numbers
    """Distance of their scores in int8 steps, 0 .. 255."""


def word_count(classes: Sequence[int]) -> int:
    """N: how many words the kept attributes with these class counts have.

    >>> word_count((9, 2))
    18

    Raises:
        SfumatoError: an attribute with fewer than two classes, none at all, or more words than two bytes hold.
    """
    if not classes or min(classes) < 2:
        raise SfumatoError(f"answer mode needs attributes of at least two classes, not {list(classes)}")
    words = math.prod(classes)
    if words > MOST_WORDS:
        raise SfumatoError(
            f"the kept attributes have {words} combinations; answer mode has {MOST_WORDS} words at most: keep fewer"
        )
    return words


def state_count(classes: Sequence[int], margins: Sequence[int]) -> int:
    """How many rows the table of a randomised answer has.

    >>> state_count((3, 2), (10,))
    48
    """
    return math.prod(count * (count - 1) * (len(margins) + 1) for count in classes)


def decide(scores: NDArray[np.int8], classes: Sequence[int]) -> Decision:
    """Best class, runner-up and margin of every kept attribute.

    Args:
        scores: int8, (..., S) with S the sum of `classes`: the scores of the attributes one after the other.
        classes: class count of each attribute, every one at least 2.

    Raises:
        SfumatoError: another type or number of scores.
    """
    if scores.dtype != np.int8 or scores.shape[-1] != sum(classes):
        raise SfumatoError(f"a decision needs {sum(classes)} int8 scores, not {scores.dtype} {scores.shape}")
    found = []
    for part in np.split(scores.astype(np.int64), np.cumsum(classes)[:-1], axis=-1):
        first = part.argmax(-1, keepdims=True)
        rest = part.copy()
        np.put_along_axis(rest, first, -1000, axis=-1)  # below every int8
        second = rest.argmax(-1, keepdims=True)
        best, other = (np.take_along_axis(part, place, axis=-1) for place in (first, second))
        found.append((first, second, best - other))
    return Decision(*(np.concatenate(arrays, axis=-1) for arrays in zip(*found, strict=True)))


def plain_word(decision: Decision, classes: Sequence[int]) -> Numbers:
    """The word (...) of a decision without a table: its best classes in mixed radix, the first most significant."""
    return _mixed(decision.first, classes)


def state(decision: Decision, classes: Sequence[int], margins: Sequence[int]) -> Numbers:
    """The row (...) of the table that a decision falls into.

    Args:
        decision: of `decide`.
        classes: class count of each attribute.
        margins: increasing positive int8 steps; a margin lies in bin b if it reaches b of them.
    """
    counts, bins = np.asarray(classes), len(margins) + 1
    place = decision.second - (decision.second > decision.first)  # among the classes other than the best
    reached = np.searchsorted(np.asarray(margins, dtype=np.int64), decision.margin, side="right")
    each = (decision.first * (counts - 1) + place) * bins + reached
    return _mixed(each, [count * (count - 1) * bins for count in classes])


def draw(table: NDArray[np.uint32], row: Numbers, noise: Bytes) -> Numbers:
    """The word (...) for each row (...) of the table: how many of its cumulative counts do not exceed the noise.

    Args:
        table: of `read_table`, (states, words).
        row: of `state`.
        noise: the first two keystream bytes, (..., 2), read as a little-endian number.
    """
    u = noise[..., 0].astype(np.int64) | noise[..., 1].astype(np.int64) << 8
    words: Numbers = (table[row] <= u[..., None]).sum(-1)
    return words


def read_table(content: bytes, classes: Sequence[int], margins: Sequence[int]) -> NDArray[np.uint32]:
    """The table (states, words) of `answer_table.bin`, little-endian cumulative counts out of 65,536.

    Raises:
        SfumatoError: another size, or a row that does not rise to 65,536.
    """
    shape = state_count(classes, margins), word_count(classes)
    if len(content) != 4 * math.prod(shape):
        raise SfumatoError(
            f"{TABLE} has {len(content)} bytes; {shape[0]} states x {shape[1]} words need others"
        )
    table = np.frombuffer(content, dtype="<u4").reshape(shape)
    if (table[:, 1:] < table[:, :-1]).any() or (table[:, -1] != TOTAL).any():
        raise SfumatoError(f"{TABLE}: a row's counts do not rise to {TOTAL}")
    return table.astype(np.uint32)


def table_bytes(table: NDArray[np.uint32]) -> bytes:
    """What `read_table` reads."""
    return table.astype("<u4").tobytes()


def word_size(words: int) -> int:
    """Bytes that a word takes on its way: 1 up to 256 words, else 2."""
    return 1 if words <= 256 else 2


def word_bytes(word: int, words: int) -> bytes:
    """A word as it travels, most significant byte first.

    >>> word_bytes(17, 18), word_bytes(256, 257)
    (b'\\x11', b'\\x01\\x00')

    Raises:
        SfumatoError: there are only `words` words.
    """
    return _checked(word, words).to_bytes(word_size(words), "big")


def read_word(content: bytes, words: int) -> int:
    """The word of `word_bytes`.

    Raises:
        DataError: another length, or a word that does not exist.
    """
    if len(content) != word_size(words):
        raise DataError(f"the word has {len(content)} bytes; this model takes {word_size(words)}")
    word = int.from_bytes(content, "big")
    if word >= words:
        raise DataError(f"there is no word {word}: this model has the words 0 to {words - 1}")
    return word


def word_bits(words: int) -> int:
    """n: bits that tell the words apart.

    >>> [word_bits(words) for words in (2, 3, 256, 257, 65536)]
    [1, 2, 8, 9, 16]
    """
    return (words - 1).bit_length()


def word_image(word: int, words: int, height: int, width: int) -> Bytes:
    """The word as levels (height, width, 3), 0 or 1: an upload of dither with one bit that carries nothing else.

    Each colour is a 4 x 4 grid of cells, cell row `floor(4 y / height)` and cell column `floor(4 x / width)`. Cell
    `(row * 4 + column) * 3 + colour` shows bit `cell mod n` of the word, bit 0 the most significant of n.

    Raises:
        SfumatoError: there are only `words` words.
    """
    bits = word_bits(words)
    digits = _checked(word, words) >> np.arange(bits - 1, -1, -1) & 1
    cells = digits[np.arange(GRID * GRID * 3) % bits].astype(np.uint8).reshape(GRID, GRID, 3)
    rows, columns = (np.arange(size) * GRID // size for size in (height, width))
    levels: Bytes = cells[rows[:, None], columns]
    return levels


def read_image(levels: Bytes, words: int) -> int:
    """The word of `word_image`; levels (H, W, 3).

    Raises:
        DataError: the image shows anything else than a word.
    """
    bits = word_bits(words)
    height, width, _ = levels.shape
    word = 0
    for cell in range(bits):  # each bit is shown by the cell of its own number
        row, column = divmod(cell // 3, GRID)
        sample = levels[-(-row * height // GRID), -(-column * width // GRID), cell % 3]
        word = 2 * word + int(sample)
    if word >= words or not np.array_equal(levels, word_image(word, words, height, width)):
        raise DataError(f"the image is none of the {words} code words of this model")
    return word


def _checked(word: int, words: int) -> int:
    if not 0 <= word < words:
        raise SfumatoError(f"there is no word {word}: this model has the words 0 to {words - 1}")
    return word


def _mixed(digits: Numbers, bases: Sequence[int]) -> Numbers:
    """Digits (..., A) as numbers (...), the first digit most significant."""
    number = np.zeros(digits.shape[:-1], dtype=np.int64)
    for place, base in enumerate(bases):
        number = number * base + digits[..., place]
    return number
