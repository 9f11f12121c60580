"""`sfumato train`: train what the phone and the cloud compute, in picture mode or in answer mode."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.core.options import names
from sfumato.core.strengths import read_strengths

if TYPE_CHECKING:
    from sfumato.training.config import TrainConfig

MODES = ("auto", "answer", "picture")
ASKS_FOR_PICTURES = (
    "bits",
    "max_drop",
    "beyond",
    "leak",
    "objective",
    "channel",
    "levels",
    "gray",
    "subsample",
    "gates",
    "dial",
    "prior",
    "reference",
    "frozen_cloud",
    "local",
)
"""Options that only picture mode has."""
OF_RUN: dict[str, Any] = {"out": "", "processes": 1, "accelerator": "auto"}
"""Options that decide no result, so the configuration does not hold them; their defaults."""


def command(
    data: Annotated[
        str | None, typer.Option(help="Data SPEC, for example synthetic or utkface:PATH,size=64.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Attributes the cloud shall recognise, comma separated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    hide: Annotated[
        str | None, typer.Option(help="Attributes it shall not recognise, comma separated.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="picture (a perturbed picture is uploaded), answer (the code word of the phone's own answer), or auto: "
            "whichever the question needs. Without it: auto, or picture where options of picture mode are given."
        ),
    ] = None,
    equal_odds: Annotated[
        float | None,
        typer.Option(
            help="Answer mode: draw the answer so that no word is likelier by more than this for any value of --hide."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with any of these options and all further settings; options given here go first."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="medical: settings and warnings for medical pictures (docs/medical.md); options and --config go first."
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print a commented file for --config with what is given, and end."
        ),
    ] = False,
    objective: Annotated[str | None, typer.Option(help="literal, rate or suppress.")] = None,
    channel: Annotated[str | None, typer.Option(help="dither or gaussian.")] = None,
    levels: Annotated[int | None, typer.Option(help="Levels of the dither channel: 2, 4 or 16.")] = None,
    gray: Annotated[
        bool | None,
        typer.Option(
            "--gray/--no-gray",
            help="Levels in Gray code: more bits and a clearer picture (docs/decisions/0035).",
        ),
    ] = None,
    subsample: Annotated[
        int | None,
        typer.Option(help="A sample of the upload stands for this many pixels a side: 1, 2 or 4."),
    ] = None,
    gates: Annotated[
        bool | None,
        typer.Option(
            "--gates/--no-gates", help="Let the phone close blocks of 8x8 pixels, which are not sent."
        ),
    ] = None,
    dial: Annotated[
        str | None,
        typer.Option(
            help="Weaker strengths that the phone's user may choose, 64,32: the cloud learns to read them too."
        ),
    ] = None,
    bits: Annotated[float | None, typer.Option(help="Target: mean rate of an upload in bits.")] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="What bits are measured against: uniform, or autoregressive, which predicts each bit from those before it."
        ),
    ] = None,
    reference: Annotated[str | None, typer.Option(hidden=True)] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Target: points of desired accuracy that may be lost.")
    ] = None,
    beyond: Annotated[
        float | None, typer.Option(help="Target: bits an upload may tell beyond the phone's own decision.")
    ] = None,
    leak: Annotated[
        str | None,
        typer.Option(
            help="Target: what may be found of hidden attributes, race:0.05,gender:0.1bits; a NAG or bits."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of co-training.")] = None,
    local: Annotated[
        str | None, typer.Option(help="module:factory of a phone network of your own; ours without.")
    ] = None,
    cloud: Annotated[
        str | None,
        typer.Option(
            help="resnet, lite0, timm:NAME, torchvision:NAME, each with options, or module:factory of your own."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of the cloud network in training: float32, or bfloat16 where the processor has it."
        ),
    ] = None,
    frozen_cloud: Annotated[
        str | None,
        typer.Option(
            help="A cloud network that cannot change: clean (the one trained on clean images), NAME.onnx or module:factory."
        ),
    ] = None,
    class_order: Annotated[
        str | None,
        typer.Option(
            help="Of --frozen-cloud NAME.onnx: the order of its classes, male,female or gender=male,female;hat=yes,no."
        ),
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(help="Of --frozen-cloud NAME.onnx: what it takes, 0..1, 0..255, -1..1 or imagenet."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    processes: Annotated[
        int | None, typer.Option(help="CPU processes that share each batch; by default one.")
    ] = None,
    accelerator: Annotated[str | None, typer.Option(help="auto, cpu or cuda; by default auto.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the run's card as JSON.")] = False,
) -> None:
    """Train on a data set what the phone and the cloud compute."""
    given = {
        "data": data,
        "keep": None if keep is None else names(keep),
        "hide": None if hide is None else names(hide),
        "objective": objective,
        "channel": channel,
        "levels": levels,
        "gray": gray,
        "subsample": subsample,
        "gates": gates,
        "dial": None if dial is None else read_strengths(dial),
        "bits": bits,
        "prior": prior,
        "reference": reference,  # the old name of prior
        "max_drop": max_drop,
        "beyond": beyond,
        "leak": leak,
        "epochs": epochs,
        "local": local,
        "cloud": cloud,
        "precision": precision,
        "frozen_cloud": frozen_cloud,
        "class_order": class_order,
        "input_range": input_range,
        "seed": seed,
        "equal_odds": equal_odds,
        "mode": mode,
        "out": out,
        "processes": processes,
        "accelerator": accelerator,
    }
    plan = make_plan(
        {name: value for name, value in given.items() if value is not None}, config, print_config, preset
    )
    if print_config:
        typer.echo(plan.to_toml())
        return
    from sfumato.training.start import by_torchrun

    if not by_torchrun():  # there all find out together, or some would wait for the one that cannot begin
        plan.check(resume=resume, overwrite=overwrite)

    from sfumato.core.console import emit_json, note
    from sfumato.training import train
    from sfumato.training.presets import warnings

    for line in warnings(plan.config):
        note(line)
    out = plan.out
    run = train(
        plan.config,
        out,
        resume=resume,
        overwrite=overwrite,
        processes=plan.processes,
        accelerator=plan.accelerator,
        auto=plan.mode == "auto",
    )
    if by_torchrun() and os.environ["RANK"] != "0":
        return  # the first process speaks for all
    card = run.card
    if json_:
        emit_json(card)
        return
    show_answer(card, out) if run.mode == "answer" else show_picture(card, out)
    if not card["goal_met"]:
        note("the goal was not reached within these epochs: train longer (--epochs) or relax it")
    note(f"next: sfumato audit {out}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a command line and its file ask for."""

    config: "TrainConfig"
    mode: str
    """One of `MODES`; the configuration holds `picture` for `auto`, which decides later."""
    out: Path
    processes: int
    accelerator: str

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Whatever can be said before torch is imported and data are read: seconds, and for a large set minutes.

        Raises:
            SfumatoError: a device that is not here, a folder that is taken, an attribute that is not known.
        """
        from sfumato.data.registry import check_names
        from sfumato.training.start import check_devices, check_free

        check_devices(self.accelerator, self.processes)
        check_free(self.out, resume=resume, overwrite=overwrite)
        check_names(self.config.data, self.config.keep, self.config.hide)

    def to_toml(self) -> str:
        """The file that asks for the same."""
        from sfumato.training.config import to_toml

        more = {
            "mode": self.mode,
            "out": str(self.out),
            "accelerator": self.accelerator,
            "processes": self.processes,
        }
        comments = {
            "mode": "picture (a perturbed picture is uploaded), answer (the code word of the phone's own answer), or auto: "
            "whichever the question needs.",
            "out": "Folder of the run.",
            "accelerator": "auto, cpu or cuda.",
            "processes": "CPU processes that share each batch.",
        }
        return to_toml(self.config, more, comments)


PLACEHOLDERS = {"data": "synthetic", "keep": ["smiling"], "out": "runs/mine"}
"""What `--print-config` writes where nothing is given."""


def make_plan(
    given: Mapping[str, Any], file: Path | None, template: bool = False, preset: str | None = None
) -> Plan:
    """The options of a command line over those of a file; an option that is not given leaves the file's as it is.

    Args:
        given: option -> value, those alone that were given.
        file: TOML, of --config.
        template: fill in what is missing, for a file to be edited.
        preset: whose settings stand below both; None: that of the file, if it names one.

    Raises:
        UsageError: unknown, contradictory or missing options.
    """
    from sfumato.core.errors import UsageError, unknown
    from sfumato.training.config import make_config, read_toml

    base = read_toml(file) if file is not None else {}
    asked = {**base, **given}
    if preset is not None:
        from sfumato.training.presets import settings

        base = {**settings(preset, asked), **base}
    values = {**(PLACEHOLDERS if template else {}), **base, **given}
    for name in PLACEHOLDERS:
        if not values.get(name):
            raise UsageError(f"--{name} is missing: give it here, or as a key of a file for --config")
    of_run = {name: values.pop(name, default) for name, default in OF_RUN.items()}
    for name, value in of_run.items():
        if not isinstance(value, (int, float) if name == "processes" else (str, Path)):
            raise UsageError(
                f"{name} is {value!r}, where {'a number' if name == 'processes' else 'a text'} belongs"
            )
    mode = values.pop("mode", None)
    if mode is None:
        mode = default_mode(asked, file)
    if mode not in MODES:
        raise UsageError(unknown("mode", mode, MODES))
    own = {name: value for name, value in values.items() if name in given or name not in base}
    kept = {name: value for name, value in base.items() if name in values and name not in own}
    if mode != "auto":
        own["mode"] = mode
    return Plan(config=make_config(own, kept), mode=mode, **{**of_run, "out": Path(of_run["out"])})


def default_mode(given: Mapping[str, Any], config: Path | None) -> str:
    """The mode where nothing says it.

    >>> default_mode({"bits": 8}, None), default_mode({"equal_odds": 0.02}, None), default_mode({"epochs": 9}, None)
    ('picture', 'answer', 'auto')
    """
    if isinstance(given.get("equal_odds"), (int, float)):  # up to 0.2 a table had this name
        return "answer"
    picture = any(given.get(name) is not None for name in ASKS_FOR_PICTURES)
    return "picture" if picture or config is not None else "auto"


def show_picture(card: Mapping[str, Any], out: Path) -> None:
    """Print accuracy, rate and leaks of a run in picture mode."""
    from sfumato.core.console import note, show, table
    from sfumato.core.leak_limits import read_leaks

    bound = card["autoregressive_bits"]
    show(
        table(
            f"{out}: {card['rate_bits']:.1f} bits an image"
            + ("" if bound is None else f", at most {bound:.1f} against the autoregressive prior"),
            ("kept attribute", "clean", "through the channel"),
            accuracies(card),
        )
    )
    if limits := read_leaks(card["config"].get("leak", "")):
        leaks = card["best_epoch"].get("val_leak", {})
        asked = ", ".join(
            f"{name} {limit.show(leaks[name]) if name in leaks else 'not measured'} ({limit.show(limit.most)} asked for)"
            for name, limit in limits.items()
        )
        note(f"what the adversaries of training find on validation: {asked}; the audit trains fresh ones")
    if points := card.get("nearest"):
        rows = [
            (
                str(one["epoch"]),
                f"{100 * one['val_accuracy']:.1f} %",
                f"{one['val_rate_bits']:.1f}",
                *(limit.show(one["val_leak"][name]) for name, limit in limits.items()),
            )
            for one in points
        ]
        figure = "credit" if card.get("guess_error") or card.get("guess_iou") else "accuracy"
        titles = ("epoch", figure, "bits", *limits)
        show(table("the goals were not met together; the nearest epochs, on validation", titles, rows))


def show_answer(card: Mapping[str, Any], out: Path) -> None:
    """Print accuracy, what a word tells, and the leak of a run in answer mode."""
    from sfumato.core.console import show, table

    told = card["told"]
    title = f"{out}: one of {card['words']} words, at most {told['most_bits']:.2f} bits of any photo"
    show(
        table(
            f"{title} ({told['entropy_bits']:.2f} on average)",
            ("kept attribute", "clean", "answered"),
            accuracies(card),
        )
    )
    rows = [
        (
            name if leak["declared"] else f"{name} (undeclared)",
            f"{100 * leak['label_only']:.1f} %",
            f"{100 * leak['accuracy']:.1f} %",
            f"{leak['label_bits']:.3f}",
            f"{leak['information_bits']:.3f}",
        )
        for name, leak in card["leak"].items()
    ]
    if rows:
        titles = ("attribute", "guess: true answer", "guess: word", "bits: true answer", "bits: word")
        show(table("what the true answer and the word tell of everything else", titles, rows))


def accuracies(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of attribute, clean accuracy and accuracy of the uploads; of numbers mean absolute errors, of masks IoU."""
    from sfumato.core.reports import credit_text

    desired, worst, usual = card["desired_accuracy"], card.get("guess_error", {}), card.get("guess_iou", {})

    def title(name: str) -> str:
        if name in usual:
            return f"{name} (a guess: {credit_text(usual[name], mask=True)})"
        return name if name not in worst else f"{name} (a guess: error {worst[name]:.3g})"

    return [
        (
            title(name),
            credit_text(card["clean_accuracy"][name], worst.get(name), mask=name in usual),
            credit_text(right, worst.get(name), mask=name in usual),
        )
        for name, right in desired.items()
    ]
