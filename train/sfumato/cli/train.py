"""`sfumato train`: train what the phone and the cloud compute, in picture mode or in answer mode."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.core.options import names

MODES = ("auto", "answer", "picture")
ASKS_FOR_PICTURES = (
    "bits",
    "max_drop",
    "beyond",
    "objective",
    "channel",
    "levels",
    "prior",
    "reference",
    "frozen_cloud",
    "local",
)
"""Options that only picture mode has."""


def command(
    data: Annotated[str, typer.Option(help="Data SPEC, for example synthetic or utkface:PATH,size=64.")],
    keep: Annotated[str, typer.Option(help="Attributes the cloud shall recognise, comma separated.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    hide: Annotated[str, typer.Option(help="Attributes it shall not recognise, comma separated.")] = "",
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
    config: Annotated[Path | None, typer.Option(help="TOML file with further settings.")] = None,
    objective: Annotated[str | None, typer.Option(help="literal, rate or suppress.")] = None,
    channel: Annotated[str | None, typer.Option(help="dither or gaussian.")] = None,
    levels: Annotated[int | None, typer.Option(help="Levels of the dither channel: 2, 4 or 16.")] = None,
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
    epochs: Annotated[int | None, typer.Option(help="Epochs of co-training.")] = None,
    local: Annotated[
        str | None, typer.Option(help="module:factory of a phone network of your own; ours without.")
    ] = None,
    cloud: Annotated[str | None, typer.Option(help="resnet, or module:factory of your own.")] = None,
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
    processes: Annotated[int, typer.Option(help="CPU processes that share each batch.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the run's card as JSON.")] = False,
) -> None:
    """Train on a data set what the phone and the cloud compute."""
    from sfumato.core.console import emit_json, note
    from sfumato.core.errors import UsageError, unknown
    from sfumato.training import train
    from sfumato.training.config import make_config

    given: dict[str, Any] = {
        "objective": objective,
        "channel": channel,
        "levels": levels,
        "bits": bits,
        "prior": prior,
        "reference": reference,  # the old name of prior
        "max_drop": max_drop,
        "beyond": beyond,
        "epochs": epochs,
        "local": local,
        "cloud": cloud,
        "precision": precision,
        "frozen_cloud": frozen_cloud,
        "class_order": class_order,
        "input_range": input_range,
        "seed": seed,
        "equal_odds": equal_odds,
    }
    if mode is not None and mode not in MODES:
        raise UsageError(unknown("mode", mode, MODES))
    if mode is None:
        mode = default_mode(given, config)
    given["mode"] = None if mode == "auto" else mode
    values = {name: value for name, value in given.items() if value is not None}
    settings = make_config({"data": data, "keep": names(keep), "hide": names(hide), **values}, config)
    run = train(
        settings,
        out,
        resume=resume,
        overwrite=overwrite,
        processes=processes,
        accelerator=accelerator,
        auto=mode == "auto",
    )
    card = run.card
    if json_:
        emit_json(card)
        return
    show_answer(card, out) if run.mode == "answer" else show_picture(card, out)
    if not card["goal_met"]:
        note("the goal was not reached within these epochs: train longer (--epochs) or relax it")
    note(f"next: sfumato audit {out}")


def default_mode(given: Mapping[str, Any], config: Path | None) -> str:
    """The mode where --mode does not say it.

    >>> default_mode({"bits": 8}, None), default_mode({"equal_odds": 0.02}, None), default_mode({"epochs": 9}, None)
    ('picture', 'answer', 'auto')
    """
    if given.get("equal_odds") is not None:
        return "answer"
    picture = any(given.get(name) is not None for name in ASKS_FOR_PICTURES)
    return "picture" if picture or config is not None else "auto"


def show_picture(card: Mapping[str, Any], out: Path) -> None:
    """Print accuracy and rate of a run in picture mode."""
    from sfumato.core.console import show, table

    bound = card["autoregressive_bits"]
    show(
        table(
            f"{out}: {card['rate_bits']:.1f} bits an image"
            + ("" if bound is None else f", at most {bound:.1f} against the autoregressive prior"),
            ("kept attribute", "clean", "through the channel"),
            accuracies(card),
        )
    )


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
    """Rows of attribute, clean accuracy and accuracy of the uploads."""
    desired = card["desired_accuracy"]
    return [
        (name, f"{100 * card['clean_accuracy'][name]:.1f} %", f"{100 * right:.1f} %")
        for name, right in desired.items()
    ]
