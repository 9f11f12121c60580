"""The restorer: what it reads of an upload, that it starts as the upload, and that the network behind it stays."""

import pytest
import torch
from torch import Tensor, nn

from sfumato.channels.dither import Dither, interpolated
from sfumato.models.cloud import answer, create_cloud, inner_network
from sfumato.models.restorer import Restorer, RestoringReader
from sfumato.models.shortlist import ShortlistReader

CHANNELS = [Dither(2), Dither(4, gray=True), Dither(2, subsample=2), Dither(16, gray=True, subsample=4)]


def uploads(channel: Dither, count: int = 3, size: int = 32) -> Tensor:
    """Drawn as a phone draws them, from even odds."""
    torch.manual_seed(4)
    side = channel.subsample
    p = torch.full((count, channel.outputs["p"], size // side, size // side), 0.5)
    return channel.sample({"p": p}, torch.rand_like(p))


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_it_starts_as_the_upload_itself(channel: Dither) -> None:
    upload = uploads(channel)
    assert torch.equal(Restorer(channel).eval()(upload), upload)


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_every_sample_and_every_bit_reaches_the_picture(channel: Dither) -> None:
    """Turning over one bit of one sample changes the restored picture beyond what is added to the upload there."""
    torch.manual_seed(5)
    restorer = Restorer(channel).eval()
    nn.init.normal_(restorer.last.weight)
    upload = uploads(channel, count=1)
    before = restorer(upload) - upload
    side = channel.subsample
    drawn = upload[..., side // 2 :: side, side // 2 :: side]
    for row, column, colour in ((0, 0, 0), (3, 5, 1), (drawn.shape[2] - 1, drawn.shape[3] - 1, 2)):
        for level in range(channel.levels):
            changed = drawn.clone()
            changed[0, colour, row, column] = level / (channel.levels - 1)
            if torch.equal(changed, drawn):
                continue
            other = interpolated(changed, side)
            assert not torch.allclose(restorer(other) - other, before, atol=1e-5)


def test_a_slope_reaches_the_phone() -> None:
    channel = Dither(4, gray=True, subsample=2)
    p = torch.full((2, 6, 16, 16), 0.5, requires_grad=True)
    restorer = Restorer(channel)
    nn.init.normal_(restorer.last.weight)
    restorer(channel.sample({"p": p}, torch.rand(2, 6, 16, 16))).square().sum().backward()
    assert p.grad is not None
    assert (p.grad != 0).float().mean() > 0.9


def test_readers_are_looked_through() -> None:
    channel = Dither(2, subsample=2)
    network = create_cloud("resnet", {"skin": 4}, size=(32, 32)).eval()
    restoring = RestoringReader(network, channel).eval()
    nn.init.normal_(restoring.restorer.last.weight, 0, 0.1)
    listing = ShortlistReader(restoring, channel, {"skin": 4}, (32, 32)).eval()
    assert inner_network(listing) is inner_network(restoring) is inner_network(network) is network
    upload = uploads(channel)
    logits, features = answer(restoring, upload)
    wanted, seen = answer(network, restoring.restorer(upload))
    assert features is not None
    assert seen is not None
    assert torch.equal(features, seen)
    assert torch.equal(logits["skin"], wanted["skin"])
    assert torch.equal(restoring(upload)["skin"], wanted["skin"])
    through, _ = answer(listing, upload)
    assert torch.equal(through["skin"], restoring(listing.picture(upload))["skin"])
