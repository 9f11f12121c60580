"""The variations of training images: where they may go and what they must leave alone."""

import itertools
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.core.errors import DataError
from sfumato.core.seeding import seed_everything
from sfumato.data import Split, open_dataset
from sfumato.training import loader
from sfumato.training.config import Augmentation
from sfumato.training.loader import Batch, Batches, ahead, augment_batch, mix, vary_light


def augment(images: torch.Tensor, reach: Augmentation = loader.DEFAULTS, **options: bool) -> torch.Tensor:
    """Images that have no masks."""
    return augment_batch(images, {}, reach, **options)[0]


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


def test_recordings_are_neither_mirrored_nor_turned() -> None:
    """A bright column on the left, a bright row on top: they move a little, and never to the other side."""
    images = torch.zeros(64, 3, 32, 64)
    images[:, :, :2], images[:, :, :, :4] = 0.5, 1.0
    still = Augmentation(shift=0.0, scale=0.0, contrast=0.0, brightness=0.0)
    seed_everything("sound")
    assert torch.allclose(augment(images, still, mirrored=False, turned=False), images, atol=1e-5)
    moved = augment(images, mirrored=False, turned=False)
    assert (moved[:, 0, 16].argmax(1) < 16).all()
    assert not torch.allclose(moved, images, atol=0.1)
    seed_everything("sound")
    assert (augment(images)[:, 0, 16, 40:].max(1).values > 0.9).any()  # photos are

    dataset = open_dataset("synthetic,size=16,count=600", keep=("skin",))
    batches = Batches(replace(dataset, sound=True, mirrored=False), Split.DEFENDER, ("skin",), 8)
    seed_everything(0)
    shown = next(batches.epoch(only_mirror=True)).images
    seed_everything(0)
    assert torch.equal(shown, batches.load(dataset_rows(batches)).images)


def test_where_left_and_right_decide_no_picture_is_mirrored() -> None:
    """Bright on the left: mirrored it were bright on the right. Turned it may be."""
    given = open_dataset("synthetic,size=16,count=600,mirror=no", keep=("skin",))
    assert not given.mirrored
    assert "mirror=no" in given.spec
    assert not given.sound
    images = np.zeros_like(given.images)
    images[:, :, :8] = 255
    batches = Batches(replace(given, images=images), Split.DEFENDER, ("skin",), 32)
    seed_everything(0)
    for only_mirror in (False, True):
        for batch in batches.epoch(only_mirror=only_mirror):
            assert (batch.images[..., :8].mean((1, 2, 3)) > batch.images[..., 8:].mean((1, 2, 3))).all()
    first = next(batches.epoch()).images
    assert any(not torch.equal(image[:, 0], image[:, -1]) for image in first), "they are turned"
    with pytest.raises(DataError, match=r"mirror='never' must be yes or no"):
        open_dataset("synthetic,mirror=never", keep=("skin",))


def dataset_rows(batches: Batches) -> torch.Tensor:
    """The images of the first batch of an epoch under the seed that is set."""
    return torch.from_numpy(batches.dataset.splits[batches.split].copy())[batches.places()[0]]


def test_the_first_images_of_a_seed_stay_the_same() -> None:
    """Whole numbers, which no processor moves; with others an interrupted run would go on with other images."""
    taken: list[list[int]] = []

    class Recording(Batches):
        def load(self, indices: torch.Tensor) -> Batch:
            taken.append(indices.tolist())
            return super().load(indices)

    seed_everything(0, "cotrain", 1)
    dataset = open_dataset("synthetic,size=16,count=600", keep=("skin",))
    next(Recording(dataset, Split.DEFENDER, ("skin",), 8).epoch())
    assert taken == [[518, 54, 120, 262, 206, 318, 106, 398]], "on a processor nothing is loaded ahead"


def test_augmented_images_are_those_of_the_slow_computation() -> None:
    """Pixel by pixel, bilinear, the border repeated; angle, scale, shift and contrast as written."""
    images = torch.rand(6, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    seed_everything("slow")
    found = augment(images)
    seed_everything("slow")
    angle, scale, side, right, down, contrast, brightness = (
        (reach * (2 * torch.rand(6) - 1)).tolist() for reach in (0.2, 0.12, 1.0, 2 / 16, 2 / 16, 0.3, 0.3)
    )
    for i, image in enumerate(images.double()):
        moved, sign = torch.empty_like(image), -1 if side[i] < 0 else 1
        for row, column in itertools.product(range(8), range(12)):
            x, y = (2 * column + 1) / 12 - 1, (2 * row + 1) / 8 - 1
            cosine, sine = (1 + scale[i]) * math.cos(angle[i]), (1 + scale[i]) * math.sin(angle[i])
            # A turn in pixels: a step down is 8 / 12 of a step across.
            u = sign * cosine * x - sine * y * 8 / 12 + right[i]
            v = sign * sine * x * 12 / 8 + cosine * y + down[i]
            across = min(max(((u + 1) * 12 - 1) / 2, 0), 11)
            along = min(max(((v + 1) * 8 - 1) / 2, 0), 7)
            a, b = int(across), int(along)
            p, q = across - a, along - b
            over, under = (
                (1 - p) * image[:, n, a] + p * image[:, n, min(a + 1, 11)] for n in (b, min(b + 1, 7))
            )
            moved[:, row, column] = (1 - q) * over + q * under
        middle = moved.mean()
        expected = ((moved - middle) * (1 + contrast[i]) + middle) * (1 + brightness[i])
        assert torch.allclose(found[i].double(), expected.clamp(0, 1), atol=1e-5), i


def test_colours_turn_and_stretch_about_grey() -> None:
    """By the rotation matrix about (1, 1, 1), image by image; a run without the two draws no further numbers."""
    images = 0.3 + 0.4 * torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    reach = Augmentation(contrast=0, brightness=0, saturation=0.3, hue=0.5)
    seed_everything("colours")
    found = vary_light(images, reach)
    seed_everything("colours")
    _, _, turn, stretch = (2 * torch.rand(5) - 1 for _ in range(4))
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    for i, image in enumerate(images.double()):
        colours = torch.linalg.matrix_exp(0.5 * turn[i].double() * axis) @ image.flatten(1)
        expected = colours.mean(0) + (1 + 0.3 * stretch[i]) * (colours - colours.mean(0))
        assert torch.allclose(found[i].double().flatten(1), expected.clamp(0, 1), atol=1e-5), i
    seed_everything("plain")
    vary_light(images)
    after = torch.rand(1)
    seed_everything("plain")
    torch.rand(2, 5)
    assert torch.equal(after, torch.rand(1))


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


def test_the_next_batch_is_loaded_while_this_one_is_used() -> None:
    started = [threading.Event() for _ in range(3)]

    def load(number: int) -> int:
        started[number].set()
        return number

    batches = ahead(load, range(3))
    assert next(batches) == 0
    assert started[1].wait(10), "nobody has asked for it yet"
    assert not started[2].is_set(), "and not the whole epoch: memory stays bounded"
    assert list(batches) == [1, 2]
    assert list(ahead(load, [])) == []


def test_an_error_in_loading_comes_where_its_batch_would_and_nobody_is_left_waiting() -> None:
    def load(number: int) -> int:
        if number == 2:
            raise OSError("the disk is gone")
        return number

    batches = ahead(load, itertools.count())
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    left = ahead(load, itertools.count())
    next(left)
    left.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_a_batch_is_announced_before_the_one_that_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel then reads it from the disk meanwhile."""
    events: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(loader, "announce", lambda images, rows: events.append(("announced", rows.tolist())))
    dataset = open_dataset("synthetic,size=16,count=600", keep=("skin",))
    for batch in Batches(dataset, Split.DEFENDER, ("skin",), 64).epoch():
        events.append(("worked on", batch.labels["skin"].tolist()))
    kinds = [kind for kind, _ in events]
    assert kinds == ["announced", *["announced", "worked on"] * (len(kinds) // 2 - 1), "worked on"]
    told = [rows for kind, rows in events if kind == "announced"]
    seen = [labels for kind, labels in events if kind == "worked on"]
    assert [dataset.labels["skin"][rows].tolist() for rows in told] == seen
