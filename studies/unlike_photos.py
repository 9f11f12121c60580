"""How well photos unlike the training data are told: by the picture itself, and by a network's scores (docs/decisions/0027).

python -m studies.unlike_photos synthetic,count=3000,size=32
python -m studies.unlike_photos utkface:UTKFace,size=48,limit=4000 --run RUN    # a run of answer mode on the same data
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.data import Split, open_dataset
from sfumato.data.contingency import cross_counts, mutual_information
from sfumato.runtime.familiar import ALARMS, fit
from sfumato.training.run import AnswerRun, load_run

Images = NDArray[np.uint8]
Measure = Callable[[Images], NDArray[np.float64]]
"""Pictures (N, H, W, 3) -> how unlike each is, (N,)."""
COUNT = 300
BARS = np.array(np.meshgrid([255, 0], [255, 0], [255, 0], indexing="ij"), np.uint8).reshape(3, 8).T


def strange(photos: Images) -> dict[str, Images]:
    """Pictures (N, H, W, 3) that no model of faces is made for: walls, test patterns, and the photos, stretched."""
    rng, (count, height, width, _) = np.random.default_rng(0), photos.shape
    walls = np.tile(rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), (1, height, width, 1))
    lit = walls + rng.normal(0, 6, walls.shape) + np.linspace(-25, 25, width)[:, None]
    stretched = []
    for photo in photos:
        times, image = int(rng.choice([2, 3])), Image.fromarray(photo)
        if rng.random() < 0.5:
            left = (width * times - width) // 2
            image = image.resize((width * times, height)).crop((left, 0, left + width, height))
        else:
            top = (height * times - height) // 2
            image = image.resize((width, height * times)).crop((0, top, width, top + height))
        stretched.append(np.asarray(image))
    return {
        "walls": walls,
        "lit, grainy walls": np.clip(lit, 0, 255).astype(np.uint8),
        "test patterns": np.stack([pattern(number % 4, height, width, rng) for number in range(count)]),
        "stretched": np.stack(stretched),
        "upside down": photos[:, ::-1],
    }


def pattern(kind: int, height: int, width: int, rng: np.random.Generator) -> Images:
    """Bars, squares, a ramp or noise, (H, W, 3)."""
    if kind == 0:
        bars = np.roll(BARS, int(rng.integers(8)), axis=0)[np.arange(width) * 8 // width]
        return np.tile(bars, (height, 1, 1))
    if kind == 1:
        side = int(rng.integers(1, 9))
        squares = (np.arange(height)[:, None] // side + np.arange(width) // side) % 2 * 255
        return np.repeat(squares.astype(np.uint8)[..., None], 3, axis=2)
    if kind == 2:
        ramp = np.linspace(0, 255, width).astype(np.uint8)
        return np.tile(ramp[None, :, None], (height, 1, 3))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def score_measures(run: AnswerRun) -> dict[str, Measure]:
    """The larger, the less sure the phone's network is; by its int8 scores of the first kept attribute."""
    count = next(iter(run.local.classes.values()))

    def scores(images: Images) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.sort(run.scores(images)[:, :count].astype(np.float64), axis=1)
        return found * run.scale[0]

    return {
        "largest score": lambda images: -scores(images)[:, -1],
        "margin": lambda images: scores(images)[:, -2] - scores(images)[:, -1],
        "energy": lambda images: -np.log(np.exp(scores(images)).sum(1)),
    }


def entropy(share: float) -> float:
    """Of a flag that is raised for this share, in bits."""
    return float(-sum(p * np.log2(p) for p in (share, 1 - share) if p > 0))


def main() -> None:
    """Print the table of a data set, and what the flag would cost if it left the phone."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("data", metavar="SPEC")
    options.add_argument("--run", type=Path, help="of answer mode, on the same data")
    given = options.parse_args()
    data = open_dataset(given.data)
    part = {split: np.array(data.images[rows]) for split, rows in data.splits.items()}
    ordinary = np.concatenate([part[Split.DEFENDER], part[Split.VALIDATION]])
    limits, test = fit(ordinary), part[Split.TEST]
    measures: dict[str, tuple[Measure, float]] = {"the picture itself": (limits.distances, limits.limit)}
    if given.run is not None:
        run = load_run(given.run)
        assert isinstance(run, AnswerRun)
        for name, measure in score_measures(run).items():
            bound = np.quantile(measure(part[Split.VALIDATION]), 1 - ALARMS, method="higher")
            measures[name] = measure, float(bound)
    odd = strange(test[:COUNT])
    print("| measure | false alarms | " + " | ".join(odd) + " |")
    for name, (measure, limit) in measures.items():
        found = [float((measure(images) > limit).mean()) for images in (test, *odd.values())]
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in found) + " |")
    flag = (limits.distances(test) > limits.limit).astype(np.int64)
    print(
        f"the flag's entropy: {entropy(float(flag.mean())):.3f} bits a photo; what it tells, and chance would:"
    )
    for name, attribute in data.attributes.items():
        count = len(attribute.classes)
        labels = data.labels[name][data.splits[Split.TEST]]
        told = mutual_information(cross_counts(flag, labels, (2, count)))
        print(f"  {name}: {told:.4f} ({(count - 1) / (2 * len(flag) * np.log(2)):.4f})")


if __name__ == "__main__":
    main()
