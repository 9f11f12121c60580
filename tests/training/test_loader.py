"""The variations of training images: where they may go and what they must leave alone."""

import torch

from sfumato.core.seeding import seed_everything
from sfumato.data import Split, open_dataset
from sfumato.training.config import Augmentation
from sfumato.training.loader import Batches, augment
from sfumato.training.pretrain import mix


def test_augmented_images_keep_shape_range_and_seed() -> None:
    images = torch.rand(8, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    seed_everything("a")
    first = augment(images)
    seed_everything("a")
    assert torch.equal(first, augment(images))
    assert first.shape == images.shape
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, augment(images))


def test_without_reach_only_the_mirror_is_left() -> None:
    still = Augmentation(turn=0, scale=0, contrast=0, brightness=0, shift=0)
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = augment(images, still)
    same = (made - images).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (made - images.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert bool((same ^ mirrored).all())
    assert 16 < int(same.sum()) < 48


def test_only_mirrored_batches_are_images_or_their_mirrors() -> None:
    dataset = open_dataset("synthetic,size=16,count=600", keep=("skin",))
    batches = Batches(dataset, Split.DEFENDER, ("skin",), 32)
    known = {image.tobytes() for image in dataset.images} | {i[:, ::-1].tobytes() for i in dataset.images}
    seed_everything(1)
    seen = [image for batch in batches.epoch(only_mirror=True) for image in batch.images]
    pixels = [(image.permute(1, 2, 0) * 255).round().byte().numpy() for image in seen]
    assert all(one.tobytes() in known for one in pixels)
    originals = {image.tobytes() for image in dataset.images}
    assert 0.3 < sum(one.tobytes() in originals for one in pixels) / len(pixels) < 0.7
    assert seen[0].stride()[0] == 1, "channels-last in memory"


def test_a_mark_moves_no_further_than_allowed() -> None:
    images = torch.zeros(256, 3, 64, 64)
    images[:, :, 31:33, 31:33] = 1.0
    made = augment(images).mean(1)
    weight = made.sum((1, 2))
    place = torch.arange(64.0)
    rows = (made.sum(2) * place).sum(1) / weight
    columns = (made.sum(1) * place).sum(1) / weight
    for centre in (rows, columns):
        assert (centre - 31.5).abs().max() < 64 / 16 + 0.6
        assert (centre - 31.5).abs().max() > 2  # it does move


def test_mixtures_lie_between_their_images() -> None:
    images = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)] * 8)
    mixed = mix(images)
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    per_image = mixed.flatten(1)
    assert torch.allclose(per_image.amin(1), per_image.amax(1))
    assert ((per_image[:, 0] > 0.05) & (per_image[:, 0] < 0.95)).any()
