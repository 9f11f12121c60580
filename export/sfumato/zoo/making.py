"""Make an entry of the zoo again: train, export, audit, pack.

    made = make("spoken-digits", Path("digits"), data=Path("datasets"))
    made.entry.figures, made.differences

Below `out` are `run`, `export`, `audit` and `zoo`. What is finished is not done again; the same call goes on after an
interruption. Training runs inside the folder that holds the data, so that their path is a name and no place of this machine.
"""

from collections.abc import Callable
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sfumato.audit import audit
from sfumato.audit.runner import Watch, silent
from sfumato.audit.schema import Audit
from sfumato.core.console import note
from sfumato.core.files import check_place, only_process
from sfumato.export.pipeline import export
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.training.config import make_config
from sfumato.training.runner import train
from sfumato.zoo.index import Entry, shipped_index
from sfumato.zoo.packing import AUDIT, pack
from sfumato.zoo.recipes import PLAN, VARIANTS, Recipe, create, data_place


@dataclass(frozen=True)
class Made:
    """An entry that was made, beside the one of the wheel."""

    entry: Entry
    zoo: Path
    shipped: Entry | None
    """Of the same name, in the wheel."""

    @property
    def same_data(self) -> bool | None:
        """Whether both saw the same pictures, labels and splits; None: the wheel has no such entry."""
        return None if self.shipped is None else self.shipped.data.digest == self.entry.data.digest

    @property
    def differing_files(self) -> tuple[str, ...] | None:
        """Files whose bytes are not those of the wheel."""
        if self.shipped is None:
            return None
        there = {file.name: file.sha256 for file in self.shipped.files}
        here = {file.name: file.sha256 for file in self.entry.files}
        return tuple(name for name in sorted({*there, *here}) if there.get(name) != here.get(name))


def make(
    name: str | Recipe,
    out: str | Path,
    *,
    data: Path | None = None,
    into: Path | None = None,
    signer: Ed25519PrivateKey | None = None,
    watched: Callable[[Callable[[Watch], Audit]], Audit] = lambda work: work(silent),
) -> Made:
    """Train, export and audit an entry, and put it into a zoo.

    Args:
        name: of the entry, or a recipe of one's own.
        out: folder for everything that is made.
        data: the folder in which the data set's own folder lies; None: the current one.
        into: the zoo; None: `out`/zoo.
        signer: signs the zoo's index.
        watched: runs the audit and shows how far it is.

    Raises:
        UsageError: no such entry, or its data are not there.
        SfumatoError: as `train`, `export`, `audit` and `pack`.
    """
    recipe = name if isinstance(name, Recipe) else create(name)
    out = Path(out).absolute()
    zoo = out / "zoo" if into is None else Path(into).absolute()
    place = data_place(recipe, data)
    check_place(out)
    with only_process(out), nullcontext() if place is None else chdir(place):
        run, bundle, found = out / "run", out / "export", out / "audit" / AUDIT
        trained = train(make_config(recipe.options), run, resume=True)
        if not newer(bundle / CONTRACT, run / "card.json"):
            export(trained, bundle, variants=VARIANTS, overwrite=True, allow_missed_goal=True)
        if not newer(found, bundle / CONTRACT):
            watched(
                lambda watch: audit(
                    bundle, PLAN, out=found.parent, resume=True, command=recipe.command, watch=watch
                )
            )
        entry = pack(recipe, bundle, found, zoo, signer=signer)
    shipped = next((one for one in shipped_index().entries if one.name == entry.name), None)
    made = Made(entry, zoo, shipped)
    if made.same_data is False:
        note(f"the data here are not those of the wheel's {entry.name}: figures cannot be compared")
    return made


def newer(path: Path, other: Path) -> bool:
    """Whether a result is there and was made after what it was made from."""
    return path.exists() and path.stat().st_mtime_ns >= other.stat().st_mtime_ns
