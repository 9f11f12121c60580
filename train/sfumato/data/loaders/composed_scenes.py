"""Scenes composed from two data sets: a picture of one on the left or right, one of the other on the other side.

The room behind them is that of the drawn scenes. Every picture is used once, or with a larger `count` those of the smaller data
set several times; scenes that share one are in one split. So a face of the training split is in no other, and persons who are
told apart stay in one split.

The place of the object is known, so a mask of it can be asked for: `place`, with the classes nothing and object.

Usage: `sfumato data inspect scenes,objects=cifar10:CIFAR,faces=utkface:UTKFace,size=128 --keep label --hide race`
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.core.mask_file import to_cells
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.loaders.drawn_room import ROOM_CHANCES, draw_room
from sfumato.data.masks import asked_masks
from sfumato.data.source import Pictures, Pixels, Source
from sfumato.data.spec import Spec

PATCH = 0.46
"""Side of a patch over the shorter side of the scene: two of them fit beside each other wherever they stand."""
PRESENCE = Attribute(name="presence", classes=("no", "yes"))
PLACE = "place"
"""The mask of a scene: where the object is."""
_PLACES = 5


@dataclass(frozen=True, kw_only=True)
class ComposedScenes:
    """Scenes that are put together when they are read; row i of everything belongs to scene i."""

    objects: Pictures
    faces: Pictures
    present: Ints
    """(N,) 1 where the face is shown."""
    chances: NDArray[np.float64]
    """(N, `_PLACES` + `ROOM_CHANCES`) in [0, 1)."""

    @property
    def names(self) -> Sequence[str]:
        """(N,) the names of both pictures."""
        return [f"{one} + {other}" for one, other in zip(self.objects.names, self.faces.names, strict=True)]

    def fingerprint(self) -> Iterator[str]:
        """Whatever decides a pixel of either picture, and where they stand."""
        yield "composed"
        yield from self.objects.fingerprint()
        yield from self.faces.fingerprint()
        yield self.present.tobytes().hex()
        yield self.chances.tobytes().hex()

    def take(self, rows: Ints) -> "ComposedScenes":
        """Only these scenes."""
        return ComposedScenes(
            objects=self.objects.take(rows),
            faces=self.faces.take(rows),
            present=self.present[rows],
            chances=self.chances[rows],
        )

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Put some together; one whose object or face cannot be read comes back as that error."""
        side = round(PATCH * min(height, width))
        part = slice(rows.start, rows.stop)
        rooms = draw_room(self.chances[part, _PLACES:], height, width)
        out: list[Pixels | DataError] = []
        pairs = zip(self.objects.read(rows, side, side), self.faces.read(rows, side, side), strict=True)
        for row, room, (thing, face) in zip(rows, rooms, pairs, strict=True):
            if isinstance(thing, DataError) or isinstance(face, DataError):
                out.append(thing if isinstance(thing, DataError) else face)
                continue
            (down, across), (face_down, face_across) = self.corners(row, height, width)
            if self.present[row]:
                room[face_down : face_down + side, face_across : face_across + side] = face
            room[down : down + side, across : across + side] = thing
            out.append(room)
        return out

    def corners(self, row: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Top and left of the object in a scene of this size, and of the face, also where it is not shown."""
        side = round(PATCH * min(height, width))
        swap, *places = self.chances[row, :_PLACES]
        left, right = (width // 2 - side, width - width // 2 - side)
        tops = [int(place * (height - side + 1)) for place in places[:2]]
        steps = [int(places[2] * (left + 1)), width // 2 + int(places[3] * (right + 1))]
        if swap < 0.5:
            steps.reverse()
        return (tops[0], steps[0]), (tops[1], steps[1])


@dataclass(frozen=True, kw_only=True)
class PlaceMasks:
    """Where the object of each scene is; row i belongs to scene i."""

    scenes: ComposedScenes
    cell: int
    """Side of a cell in pixels: where the object stands depends on the size of the scene in pixels."""
    classes: tuple[str, ...] = ("nothing", "object")

    @property
    def names(self) -> Sequence[str]:
        """(N,) those of the scenes."""
        return self.scenes.names

    def fingerprint(self) -> Iterator[str]:
        """Whatever decides where objects stand."""
        yield f"places {self.cell}"
        yield self.scenes.chances.tobytes().hex()
        yield from self.scenes.names

    def take(self, rows: Ints) -> "PlaceMasks":
        """Only these scenes."""
        return replace(self, scenes=self.scenes.take(rows))

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Class numbers (height, width, 3) of cells."""
        tall, wide = height * self.cell, width * self.cell
        side, out = round(PATCH * min(tall, wide)), []
        for row in rows:
            (down, across), _ = self.scenes.corners(row, tall, wide)
            mask = np.zeros((tall, wide), dtype=np.uint8)
            mask[down : down + side, across : across + side] = 1
            out.append(np.repeat(to_cells(mask, (height, width), 2)[..., None], 3, axis=2))
        return out


def compose(objects: Source, faces: Source, spec: Spec, present: float, count: int | None) -> Source:
    """Pair the pictures of two sources at random.

    Args:
        objects: what is to be recognised.
        faces: who stands beside it; their identity decides the splits.
        spec: its seed pairs and places them.
        present: share of the scenes that show the face.
        count: scenes, at most as many as the larger source has pictures; None makes as many as the smaller one allows.

    Raises:
        DataError: both name an attribute alike, one of them is called `presence`, or there are not enough pictures.
    """
    cells = asked_masks(spec)
    asked = tuple(Attribute(name=PLACE, classes=PlaceMasks.classes) for name in cells if name == PLACE)
    names = [one.name for one in (*objects.attributes, PRESENCE, *faces.attributes, *asked)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"objects and faces both have an attribute {twice[0]!r}: rename it in one of them")
    sizes = [len(one.pictures.names) for one in (objects, faces)]
    count = min(sizes) if count is None else count
    if count > max(sizes):
        raise DataError(f"option count={count}: the larger of both sources has {max(sizes)} pictures")
    chance = np.random.Generator(np.random.PCG64(np.random.SeedSequence(spec.seed).spawn(1)[0]))
    orders = [np.resize(chance.permutation(size), count) for size in sizes]
    things, people = (one.take(order) for one, order in zip((objects, faces), orders, strict=True))
    shown = (chance.random(count) < present).astype(np.int64)
    scenes = ComposedScenes(
        objects=things.pictures,
        faces=people.pictures,
        present=shown,
        chances=chance.random((count, _PLACES + ROOM_CHANCES)),
    )
    return replace(
        things,
        pictures=scenes,
        attributes=(*things.attributes, PRESENCE, *people.attributes, *asked),
        labels={
            **things.labels,
            "presence": shown,
            **people.labels,
            **{one.name: np.zeros(count, dtype=np.int64) for one in asked},
        },
        masks={one.name: PlaceMasks(scenes=scenes, cell=cells[one.name]) for one in asked},
        size=(128, 128),
        official=None,
        identity=people.identity,
        together=orders[int(np.argmin(sizes))] if count > min(sizes) else None,
        skipped=(*things.skipped, *people.skipped),
    )
