"""The phone's network and the cloud network of answer mode."""

import numpy as np
import pytest
import torch

from sfumato.channels import create
from sfumato.models.answer_network import AnswerNetwork
from sfumato.models.cost import cost
from sfumato.models.local import LocalNetwork
from sfumato.models.word_decoder import WordDecoder, word_bits, word_count
from sfumato.runtime import answer

CLASSES = {"gender": 2, "age": 5}


def test_the_scores_are_the_logits_of_the_local_networks_decision() -> None:
    torch.manual_seed(0)
    local = LocalNetwork(create("dither", levels=2), classes=(2, 5), size=(32, 48), centred=False).eval()
    network = AnswerNetwork(CLASSES, size=(32, 48)).eval()
    shared = {name: value for name, value in local.state_dict().items() if name in network.state_dict()}
    network.load_state_dict(shared)
    x = torch.rand(3, 3, 32, 48)
    assert local.decision is not None
    wanted = local.decision.logits(local.encoder(x)[-1])
    assert torch.equal(network.scores(x), wanted)
    assert wanted.shape == (3, 7, 1, 1)
    parts = network(x)
    assert torch.equal(torch.cat([parts["gender"], parts["age"]], dim=1), wanted.flatten(1))


def test_many_classes_cost_no_comparisons() -> None:
    """The hard argmax compares every pair of classes; answer mode needs none of that."""
    few, many = (cost(AnswerNetwork({"product": k}, size=(64, 64)), (3, 64, 64)) for k in (2, 81))
    assert many.parameters - few.parameters == 79 * (16 * 16 + 1)


@pytest.mark.parametrize(
    "classes", [{"a": 2}, {"a": 3}, {"a": 2, "b": 9}, {"a": 257}, {"a": 16, "b": 16, "c": 17}]
)
def test_every_word_is_read_back(classes: dict[str, int]) -> None:
    counts = list(classes.values())
    words = word_count(counts)
    assert words == answer.word_count(counts)
    assert word_bits(words) == answer.word_bits(words)
    table = torch.randn(words, sum(counts))
    decoder = WordDecoder(classes, table).eval()
    shown = list(range(words)) if words < 40 else [0, 1, words // 3, words - 2, words - 1]
    images = np.stack([answer.word_image(word, words, 32, 48) for word in shown])
    upload = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    assert decoder.index(upload).tolist() == shown
    assert torch.equal(torch.cat(list(decoder(upload).values()), dim=1), table[shown])


def test_an_index_that_is_no_word_gets_the_uniform_answer() -> None:
    decoder = WordDecoder({"a": 5}, torch.randn(5, 5)).eval()
    upload = torch.ones(1, 3, 16, 16)  # index 7 of three bits
    assert decoder.index(upload).tolist() == [7]
    assert torch.allclose(decoder(upload)["a"].exp(), torch.full((1, 5), 0.2))


def test_a_few_wrong_cells_change_nothing() -> None:
    decoder = WordDecoder({"a": 5}, torch.randn(5, 5)).eval()
    levels = answer.word_image(3, 5, 16, 16).copy()
    rng = np.random.default_rng(0)
    flipped = rng.random(levels.shape) < 0.2
    levels[flipped] = 1 - levels[flipped]
    assert decoder.index(torch.from_numpy(levels)[None].permute(0, 3, 1, 2).float()).tolist() == [3]
