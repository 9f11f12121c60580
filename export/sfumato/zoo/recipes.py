"""How each entry of the wheel's zoo is made: the question, the data and the settings of training.

    recipe = create("spoken-digits")
    recipe.command, recipe.steps

Each takes minutes of one core. Of the digits the page of results has a run of twice as many epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sfumato.core.errors import UsageError, unknown

PLAN = "quick"
"""Of the audit. In answer mode leaks are counted, so a longer plan would change the clean references alone."""
VARIANTS = ("int8",)
"""What ships: the model of phones. The others are made from local.onnx by the same command without this choice."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One entry, before it is made."""

    name: str
    question: str
    takes: Literal["photo", "recording"]
    data: str
    """SPEC; a path is the name of `folder`."""
    keep: tuple[str, ...]
    hide: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of training, as in a file for `--config`."""
    folder: str | None = None
    """Has to lie in the folder that `--data` names; None: the data are drawn."""
    title: str
    licence: str
    """Of the data."""
    source: str
    networks: str = "Apache-2.0"
    """Licence of what is made. Whether weights are an adaptation of their data is not settled: where the data ask that
    adaptations are shared alike, the networks are."""

    @property
    def options(self) -> dict[str, Any]:
        """Fields of a `TrainConfig`."""
        return {
            "data": self.data,
            "keep": self.keep,
            "hide": self.hide,
            "mode": "answer",
            **self.settings,
        }

    @property
    def command(self) -> str:
        """What makes it again."""
        where = "" if self.folder is None else " --data FOLDER"
        return f"sfumato zoo make {self.name}{where} --out {self.name}"

    @property
    def steps(self) -> tuple[str, ...]:
        """The same in three commands, and the file that the first one reads."""
        hide = f" --hide {','.join(self.hide)}" if self.hide else ""
        settings = ", ".join(f"{key} = {value}" for key, value in self.settings.items())
        return (
            f"sfumato train --data {self.data} --keep {','.join(self.keep)}{hide} --mode answer "
            f"--config {self.name}.toml --out run",
            f"sfumato export run --variants {','.join(VARIANTS)} --allow-missed-goal --out export",
            f"sfumato audit export --attacks {PLAN}",
            f"# {self.name}.toml: {settings}",
        )


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="drawn-faces",
            question="Is the drawn face smiling? Not: skin tone, glasses, hair.",
            takes="photo",
            data="synthetic,count=9000",
            keep=("smiling",),
            hide=("skin", "glasses", "hair"),
            settings={"clean_epochs": 8, "pretrain_epochs": 16, "epochs": 28},
            title="Drawn faces: sfumato draws them itself",
            licence="Apache-2.0, as sfumato",
            source="sfumato.data.loaders.synthetic; no person is shown",
        ),
        Recipe(
            name="spoken-digits",
            question="Which digit is spoken? Not: who speaks.",
            takes="recording",
            data="spoken:spoken_digits",
            keep=("digit",),
            hide=("speaker",),
            settings={"clean_epochs": 6, "pretrain_epochs": 12, "epochs": 6},
            folder="spoken_digits",
            title="Free Spoken Digit Dataset: 3,000 recordings of six speakers",
            licence="CC BY-SA 4.0",
            networks="CC BY-SA 4.0",
            source="Jackson and others, https://github.com/Jakobovski/free-spoken-digit-dataset",
        ),
        Recipe(
            name="grocery-kinds",
            question="What kind of grocery is in the photo, of 43? Nothing else has labels that an audit could attack.",
            takes="photo",
            data="folder:groceries5k,size=64",
            keep=("kind",),
            settings={"clean_epochs": 6, "pretrain_epochs": 12, "epochs": 6},
            folder="groceries5k",
            title="Grocery Store Dataset, reduced to 128x128: 5,421 photos of 81 products",
            licence="MIT",
            source="Klasson, Zhang and Kjellstrom, WACV 2019, https://github.com/marcusklasson/GroceryStoreDataset",
        ),
    )
}


def create(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


def data_place(recipe: Recipe, data: Path | None) -> Path | None:
    """Where training runs; None: anywhere, the data are drawn.

    Raises:
        UsageError: the data set's folder is not there.
    """
    if recipe.folder is None:
        return None
    place = (Path() if data is None else data).absolute()
    if not (place / recipe.folder).is_dir():
        raise UsageError(
            f"{recipe.name} is made from {recipe.title} ({recipe.source}): give --data with the folder in which its folder "
            f"{recipe.folder!r} lies, which {place} does not hold"
        )
    return place
