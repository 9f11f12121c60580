"""The cloud network of answer mode: reads the code word out of an upload and looks its answer up.

An upload of answer mode is a word, drawn as an image of 4 x 4 cells a colour (`sfumato.runtime.answer`). The decoder averages
over every cell, takes the majority of the cells that carry a bit, puts the bits together to the word's index and returns that
row of a table: the log-probability of every class given the word. There is nothing to train; it is a network so that the
service, which runs `cloud.onnx`, needs to know nothing about words.

    decoder = WordDecoder({"gender": 2}, table)         # table: (2, 2) log-probabilities
    logits = decoder(upload)["gender"]                  # upload: (B, 3, H, W), 0..1
"""

from collections.abc import Mapping, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 4
"""Cells a side, for each colour."""
CELLS = 3 * GRID**2


def word_count(classes: Sequence[int]) -> int:
    """N: one word for every combination of answers.

    >>> word_count([2, 5])
    10
    """
    return prod(classes)


def word_bits(words: int) -> int:
    """n: bits of a word, at least one.

    >>> [word_bits(words) for words in (2, 3, 4, 5, 65536)]
    [1, 2, 2, 3, 16]
    """
    return max(1, (words - 1).bit_length())


class WordDecoder(nn.Module):
    """Uploads in, log-probabilities of every kept attribute out.

    Args:
        classes: kept attribute -> number of classes.
        table: (N, S) log P(class | word), the classes of all attributes one after the other; None is filled in later, by
            `load_state_dict`.
    """

    table: Tensor
    shares: Tensor
    powers: Tensor

    def __init__(self, classes: Mapping[str, int], table: Tensor | None = None) -> None:
        super().__init__()
        self.classes = dict(classes)
        counts = list(classes.values())
        words = word_count(counts)
        bits = word_bits(words)
        # An index that is no word gets the uniform answer: whoever sends it learns nothing and breaks nothing.
        uniform = torch.cat([torch.full((count,), float(count)).log().neg() for count in counts])
        rows = uniform.repeat(2**bits, 1)
        if table is not None:
            rows[:words] = table
        self.register_buffer("table", rows)
        # Cell c, counted by row, column and colour, carries bit c mod n; a bit is the mean of its cells.
        carried = F.one_hot(torch.arange(CELLS) % bits, bits).float()
        self.register_buffer("shares", carried / carried.sum(0))
        self.register_buffer("powers", 2.0 ** torch.arange(bits - 1, -1, -1))

    def index(self, upload: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1, H and W multiples of 4 -> index of the word, (B,) int64; maybe N or more."""
        cells = F.adaptive_avg_pool2d(upload, GRID).permute(0, 2, 3, 1).flatten(1)
        return (((cells @ self.shares) > 0.5).to(self.powers.dtype) @ self.powers).long()

    def forward(self, upload: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in 0..1 -> log-probabilities per attribute, each (B, classes)."""
        rows = self.table[self.index(upload)]
        return dict(zip(self.classes, rows.split(list(self.classes.values()), dim=1), strict=True))
