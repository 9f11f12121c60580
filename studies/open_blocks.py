"""What the open blocks of a gated network tell about the person beside the object, before anything in them is looked at.

Every test scene is made twice, with the person and without; nothing else differs. So a pixel that differs belongs to the
person, and a block that opens on such a pixel shows some of them.

python -m studies.open_blocks RUN|EXPORT        # trained on scenes
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from studies.run_command import run_command

from sfumato.audit.artifact import Artifact, load
from sfumato.core.errors import DataError, UsageError
from sfumato.data import Split
from sfumato.data.intervals import wilson
from sfumato.data.loaders.composed_scenes import ComposedScenes
from sfumato.data.loaders.synthetic import Drawn
from sfumato.data.registry import load_source
from sfumato.data.source import Pictures
from sfumato.data.spec import Spec

BLOCK = 8
CHUNK = 64
LEAST = 1 / 512
"""A probability below half of the shipped byte's smallest step: such a bit is 0 for certain."""
FOLDS = 5

Booleans = NDArray[np.bool_]
Images = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class OpenBlocks:
    """What was found, of `scenes` test scenes that were made with and without the person."""

    scenes: int
    open_with: float
    """Mean share of open blocks where the person is shown."""
    open_without: float
    on_the_person: float
    """Share of the scenes in which a block opens on the person."""
    on_the_person_interval: tuple[float, float]
    others_open: float
    """Share of the scenes in which other blocks are open than without the person."""
    auc_of_number: float
    """Presence from the number of open blocks."""
    auc_of_places: float
    """Presence from which blocks are open: a random forest, cross-validated, both pictures of a scene in one fold."""


def study(artifact: Artifact, count: int) -> OpenBlocks:
    """Make test scenes with and without the person and compare the open blocks.

    Args:
        artifact: a run or an export of a network with gates.
        count: scenes, at most all of the test split.

    Raises:
        UsageError: it was not trained on scenes, its network has no gates, or scenes were left out of the data set.
    """
    kind = Spec.kind_of(artifact.dataset.spec)
    if kind != "scenes":
        raise UsageError(
            f"{artifact.folder} was trained on {kind}: only scenes can be made without the person"
        )
    if not getattr(artifact.channel, "gates", False):
        raise UsageError(f"{artifact.folder} has no gates: every block of its uploads is open")
    rows = artifact.dataset.splits[Split.TEST][:count]
    shown, hidden = (scenes(artifact, rows, person=person) for person in (True, False))
    differ = blocks((shown != hidden).any(3))
    with_person, without = (open_blocks(artifact, images) for images in (shown, hidden))
    n = len(rows)
    on_person = (with_person & differ).any((1, 2))
    both = np.concatenate([with_person, without]).reshape(2 * n, -1)
    present, scene = np.repeat([1, 0], n), np.tile(np.arange(n), 2)
    forest = RandomForestClassifier(300, min_samples_leaf=5, random_state=0)
    told = cross_val_predict(
        forest, both, present, groups=scene, cv=GroupKFold(FOLDS), method="predict_proba"
    )
    number = float(roc_auc_score(present, both.sum(1)))
    return OpenBlocks(
        scenes=n,
        open_with=float(with_person.mean()),
        open_without=float(without.mean()),
        on_the_person=float(on_person.mean()),
        on_the_person_interval=wilson(int(on_person.sum()), n),
        others_open=float((with_person != without).any((1, 2)).mean()),
        auc_of_number=max(number, 1 - number),
        auc_of_places=float(roc_auc_score(present, told[:, 1])),
    )


def scenes(artifact: Artifact, rows: NDArray[np.int64], *, person: bool) -> Images:
    """Those scenes (n, H, W, 3) of the data set, all with the person or all without; everything else is as it was."""
    data = artifact.dataset
    pictures = load_source(data.spec).pictures
    if len(pictures.names) != len(data):
        raise UsageError(
            f"{len(pictures.names) - len(data)} scenes were left out: which is which is not known"
        )
    present = np.full(len(data), int(person))
    if isinstance(pictures, ComposedScenes):
        changed: Pictures = replace(pictures, present=present)
    else:
        assert isinstance(pictures, Drawn), "the other kind of scenes"
        changed = replace(pictures, factors={**pictures.factors, "presence": present})
    read = changed.take(rows).read(range(len(rows)), *data.size)
    made = np.stack([one for one in read if not isinstance(one, DataError)])
    assert len(made) == len(rows), "the data set holds pictures that can be read alone"
    same = data.labels["presence"][rows] == person
    assert (made[same] == data.images[rows[same]]).all(), "the scenes are not those of the data set"
    return made


def open_blocks(artifact: Artifact, images: Images) -> Booleans:
    """Which blocks of the uploads of images (n, H, W, 3) are open, (n, H / 8, W / 8)."""
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    sent = [artifact.parameters(part)["p"].amax(1).numpy() >= LEAST for part in parts]
    return blocks(np.concatenate(sent))


def blocks(pixels: Booleans) -> Booleans:
    """(n, H, W) -> whether any pixel of a block is set, (n, H / 8, W / 8)."""
    n, height, width = pixels.shape
    tiled: Booleans = pixels.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK).any((2, 4))
    return tiled


def rows_of(found: OpenBlocks) -> Mapping[str, str]:
    """The figures as a table has them."""
    low, high = found.on_the_person_interval
    return {
        "scenes, each with and without the person": f"{found.scenes:,}",
        "open blocks with the person, without": f"{100 * found.open_with:.1f} %, {100 * found.open_without:.1f} %",
        "a block opens on the person": f"{100 * found.on_the_person:.1f} % ({100 * low:.1f} - {100 * high:.1f})",
        "other blocks open than without the person": f"{100 * found.others_open:.1f} %",
        "AUC of presence from the number of open blocks": f"{found.auc_of_number:.3f}",
        "AUC of presence from which blocks are open": f"{found.auc_of_places:.3f}",
    }


def command(
    artifact: Annotated[Path, typer.Argument(metavar="RUN|EXPORT", help="Trained on scenes, with gates.")],
    count: Annotated[int, typer.Option(min=100, help="Test scenes, at most.")] = 2000,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the figures there.")] = None,
) -> None:
    """Which blocks a network with gates opens, with the person and without, and what that alone tells."""
    from sfumato.core.console import note, show, table
    from sfumato.core.files import write_json
    from sfumato.core.provenance import provenance

    loaded = load(artifact)
    found = study(loaded, count)
    show(table(f"open blocks of {artifact.name} ({loaded.kind})", ("", ""), list(rows_of(found).items())))
    if out is not None:
        write_json(out, {**asdict(found), "provenance": provenance()})
        note(f"wrote {out}")


if __name__ == "__main__":
    run_command(command)
