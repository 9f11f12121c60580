"""Ten minutes of a still scene: what an attacker who puts all uploads together learns, with scenes and without.

Real photos of the data set become still scenes: noise of the camera, a lamp that flickers, light that drifts. Each scene has
many frames. Without scenes every frame is a draw; with scenes (`sfumato.runtime.scenes`) the first of each is. The attacker
has the phone's model, knows every candidate photo and the camera's noise, and weighs candidates by the likelihood of all bits
that it received, as the audit's posterior does. The second part says how often frames of
one scene part and different photos merge.

python -m studies.still_scenes EXPORT --people 200 --frames 600 --json still-scenes.json
python -m studies.still_scenes EXPORT --film door.mp4 --frames 6000 --json film.json     # a film for `sfumato watch`
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from studies.run_command import run_command
from studies.two_uploads.likelihood import Learnt, learnt

from sfumato.core.errors import UsageError
from sfumato.core.provenance import provenance
from sfumato.data import Split
from sfumato.data.intervals import wilson
from sfumato.export.artifact import ExportArtifact
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.scenes import SceneConfig, Scenes, block_means, differences

SCHEMA = "sfumato-still-scenes/1"
SIMULATED = 32
"""Frames of a candidate photo that the attacker simulates: the mean of their maps is what it expects."""
TOLERANCES = (5.0, 10.0, 20.0, 30.0, 40.0)
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Light:
    """What changes from frame to frame of a still scene."""

    noise: float = 6.0
    """Standard deviation of a pixel of the model's size, in levels."""
    flicker: float = 0.05
    """Of a lamp, at random from frame to frame, at most."""
    drift: float = 0.05
    """Of the light, once up and once down over all frames, at most."""
    shift: int = 0
    """Pixels of the model's size by which the camera shakes, at most."""


CONDITIONS = {
    "noise 6, light 10 %": Light(),
    "noise 12, light 20 %": Light(noise=12, flicker=0.1, drift=0.1),
    "noise 6, light 10 %, shaken by a pixel": Light(shift=1),
}


def film(photo: Pixels, count: int, light: Light, rng: np.random.Generator) -> Iterator[Pixels]:
    """Frames of a still scene that shows a photo (H, W, planes)."""
    for number in range(count):
        shown = photo
        if light.shift:
            down, right = rng.integers(-light.shift, light.shift + 1, 2)
            edges = ((light.shift,) * 2, (light.shift,) * 2, (0, 0))
            padded = np.pad(photo, edges, mode="edge")
            top, left = light.shift + down, light.shift + right
            shown = padded[top : top + photo.shape[0], left : left + photo.shape[1]]
        lit = (
            1 + rng.uniform(-light.flicker, light.flicker) + light.drift * np.sin(2 * np.pi * number / count)
        )
        seen = shown * np.float32(lit) + light.noise * rng.standard_normal(photo.shape, dtype=np.float32)
        yield np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def bytes_q(phone: PhoneModel, frame: Pixels) -> Pixels:
    """The bytes q of one frame, flat."""
    return phone.parameters(frame)["p"].reshape(-1)


@dataclass(frozen=True)
class Received:
    """What the service received of every scene: how many uploads, and how many of them had each bit set."""

    uploads: NDArray[np.int64]
    """(N,)."""
    ones: NDArray[np.float32]
    """(N, D)."""
    bits: Numbers
    """(N,): sum of the exact rates."""


def receive(
    phone: PhoneModel, photos: Pixels, counts: tuple[int, ...], seed: int, watch: Callable[[str], None]
) -> tuple[dict[str, Received], list[int]]:
    """Uploads of every scene after so many frames without scenes, and after the last with them.

    Returns:
        What was received, by a name; and the draws of each scene with scenes.
    """
    names = [f"{count} frame(s)" for count in counts]
    size = bytes_q(phone, photos[0]).size
    ones = {name: np.zeros((len(photos), size), np.float32) for name in [*names, "scenes"]}
    bits = {name: np.zeros(len(photos)) for name in ones}
    draws: list[int] = []
    for index, photo in enumerate(photos):
        rng = np.random.default_rng([seed, index])
        scenes, sums, told, drawn = Scenes[None](), np.zeros(size, np.int64), 0.0, 0
        for number, frame in enumerate(film(photo, counts[-1], Light(), rng), start=1):
            parameters = phone.parameters(frame)
            q = parameters["p"].reshape(-1)
            sums += rng.integers(0, 256, size, dtype=np.uint8) < q
            rate = phone.rate_bits(frame, parameters)
            told += rate
            if number in counts:
                ones[f"{number} frame(s)"][index] = sums
                bits[f"{number} frame(s)"][index] = told
            if scenes.find(frame) is None:
                scenes.begin(frame, None)
                drawn += 1
                ones["scenes"][index] += rng.integers(0, 256, size, dtype=np.uint8) < q
                bits["scenes"][index] += rate
        draws.append(drawn)
        if index % 20 == 19:
            watch(f"{index + 1} of {len(photos)} scenes")
    uploads = {name: np.full(len(photos), count) for name, count in zip(names, counts, strict=True)}
    uploads["scenes"] = np.array(draws)
    return {name: Received(uploads[name], ones[name], bits[name]) for name in ones}, draws


def expected(phone: PhoneModel, photos: Pixels, seed: int) -> Numbers:
    """(N, D): probability of every bit of a candidate's upload, as the attacker simulates it; never 0 or 1."""
    found = []
    for index, photo in enumerate(photos):
        rng = np.random.default_rng([seed, index, 1])
        maps = [bytes_q(phone, frame) for frame in film(photo, SIMULATED, Light(), rng)]
        found.append(np.mean(maps, axis=0))
    chances: Numbers = np.clip(np.stack(found), 0.25, 255.75) / 256
    return chances


def weigh(received: Received, chances: Numbers) -> Learnt:
    """What the likelihood of all received bits tells about which photo it is."""
    zeros = received.uploads[:, None] - received.ones
    logs = received.ones @ np.log(chances).T + zeros @ np.log1p(-chances).T
    return learnt(logs)


def errors(photos: Pixels, frames: int, seed: int) -> dict[str, Any]:
    """How often frames of one scene part, different photos merge, and a change is not seen."""
    config = SceneConfig()
    means = np.stack([block_means(photo, config.grid) for photo in photos])
    rng = np.random.default_rng([seed, 3])

    def apart(first: Pixels, now: Pixels) -> float:
        blocks = [block_means(one, config.grid) for one in (first, now)]
        return float(differences(blocks[0][None], blocks[1], config.light)[0])

    rows: dict[str, Numbers] = {}
    some = photos[:: max(1, len(photos) // 100)][:100]
    for name, light in CONDITIONS.items():
        found = []
        for photo in some:
            first, *others = film(photo, frames, light, rng)
            found += [apart(first, other) for other in others]
        rows[f"one scene, {name}"] = np.array(found)
    for part in (2, 4, 8):
        side, found = photos.shape[1] // part, []
        for photo in photos:
            changed, other = photo.copy(), photos[rng.integers(len(photos))]
            top, left = rng.integers(0, photos.shape[1] - side + 1, 2)
            changed[top : top + side, left : left + side] = other[top : top + side, left : left + side]
            found.append(apart(photo, changed))
        rows[f"a part of another photo, 1/{part} of the side"] = np.array(found)
    pairs = [np.delete(differences(means, now, config.light), index) for index, now in enumerate(means)]
    rows["two photos"] = np.concatenate(pairs)
    return {
        name: {
            "pairs": len(found),
            "within": {
                f"{tolerance:g}": {
                    "share": float((found <= tolerance).mean()),
                    "interval": wilson(float((found <= tolerance).sum()), len(found)),
                }
                for tolerance in TOLERANCES
            },
        }
        for name, found in rows.items()
    }


def run_study(
    artifact: ExportArtifact, *, people: int, frames: int, seed: int, watch: Callable[[str], None]
) -> dict[str, Any]:
    """All figures for one export.

    Raises:
        UsageError: not two levels of dither, or too few photos.
    """
    channel = artifact.contract.channel
    if artifact.contract.answer is not None or (channel.name, channel.bits) != ("dither", 1):
        raise UsageError("the attack is for uploads of two levels (dither, --levels 2)")
    images, _ = artifact.dataset.subset(Split.TEST, [])
    if not 2 <= people <= len(images):
        raise UsageError(f"--people {people}: there are {len(images)} test photos, and 2 are needed")
    photos = np.ascontiguousarray(images[:people])
    counts = (*(count for count in (1, 10, 100) if count < frames), frames)
    received, draws = receive(artifact.phone, photos, counts, seed, watch)
    chances = expected(artifact.phone, photos, seed)
    rows = []
    for name, one in received.items():
        watch(f"attack: {name}")
        rows.append(
            {
                "received": name,
                "uploads": float(one.uploads.mean()),
                "bits": float(one.bits.mean()),
                "learnt": asdict(weigh(one, chances)),
            }
        )
    watch("errors of the scene key")
    assert artifact.phone.digest is not None
    return {
        "schema": SCHEMA,
        "contract": artifact.phone.digest.hex(),
        "people": people,
        "frames": frames,
        "seed": seed,
        "scenes": asdict(SceneConfig()),
        "draws": {"mean": float(np.mean(draws)), "most": max(draws), "of_one": draws.count(1)},
        "ceiling_bits": float(np.log2(people)),
        "rows": rows,
        "errors": errors(np.ascontiguousarray(images[:600]), min(frames, 100), seed),
        "provenance": provenance(),
    }


def write_film(path: Path, photo: Pixels, frames: int, seed: int) -> None:
    """A film in H.264, ten frames a second: a photo, three times as large, in ten minutes where `frames` is 6,000."""
    import av

    light, rng = Light(noise=10), np.random.default_rng(seed)
    with av.open(str(path), "w") as out:
        track: Any = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        large = photo.repeat(3, 0).repeat(3, 1)
        track.height, track.width, track.pix_fmt = large.shape[0], large.shape[1], "yuv420p"
        for frame in film(large, frames, light, rng):
            out.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(track.encode())


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Of a run with two levels of dither.")],
    people: Annotated[int, typer.Option(help="Still scenes: test photos of the data set.")] = 200,
    frames: Annotated[
        int, typer.Option(min=2, help="Of every scene; at one a second 600 are ten minutes.")
    ] = 600,
    seed: Annotated[int, typer.Option(help="Of cameras, lamps and draws.")] = 0,
    film: Annotated[
        Path | None, typer.Option(help="Write a film of the first test photo there, and nothing else.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there.")] = None,
) -> None:
    """Attack uploads of still scenes, with scenes and without, and measure the errors of the scene key."""
    from sfumato.core.console import note, show, table
    from sfumato.core.files import write_json
    from sfumato.export.artifact import load_export

    artifact = load_export(export, indices=False)
    if film is not None:
        images, _ = artifact.dataset.subset(Split.TEST, [])
        write_film(film, np.ascontiguousarray(images[0]), frames, seed)
        note(f"wrote {film}")
        return
    results = run_study(artifact, people=people, frames=frames, seed=seed, watch=note)
    if json is not None:
        write_json(json, results)
        note(f"wrote {json}")
    rows = [
        (
            row["received"],
            f"{row['uploads']:.2f}",
            f"{row['bits']:.1f}",
            f"{row['learnt']['bits']:.2f}",
            f"{100 * row['learnt']['first']:.1f}",
        )
        for row in results["rows"]
    ]
    columns = (
        "what was received",
        "uploads",
        "bits, at most",
        "bits learnt",
        "photo first, %",
    )
    show(table(f"{people} still scenes", columns, rows))


if __name__ == "__main__":
    run_command(command)
