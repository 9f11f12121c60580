"""`sfumato train`: co-train a local and a cloud network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.core.options import names


def command(
    data: Annotated[str, typer.Option(help="Data SPEC, for example synthetic or utkface:PATH,size=64.")],
    keep: Annotated[str, typer.Option(help="Attributes the cloud shall recognise, comma separated.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    hide: Annotated[str, typer.Option(help="Attributes it shall not recognise, comma separated.")] = "",
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
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    processes: Annotated[int, typer.Option(help="CPU processes that share each batch.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the run's card as JSON.")] = False,
) -> None:
    """Co-train a local and a cloud network on a data set."""
    from sfumato.core.console import emit_json, note, show, table
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
        "cloud": cloud,
        "precision": precision,
        "frozen_cloud": frozen_cloud,
        "seed": seed,
    }
    values = {name: value for name, value in given.items() if value is not None}
    settings = make_config({"data": data, "keep": names(keep), "hide": names(hide), **values}, config)
    run = train(
        settings, out, resume=resume, overwrite=overwrite, processes=processes, accelerator=accelerator
    )
    card = run.card
    if json_:
        emit_json(card)
        return
    rows = [
        (name, f"{100 * card['clean_accuracy'][name]:.1f} %", f"{100 * card['desired_accuracy'][name]:.1f} %")
        for name in run.keep
    ]
    bound = card["autoregressive_bits"]
    show(
        table(
            f"{out}: {card['rate_bits']:.1f} bits an image"
            + ("" if bound is None else f", at most {bound:.1f} against the autoregressive prior"),
            ("kept attribute", "clean", "through the channel"),
            rows,
        )
    )
    if not card["goal_met"]:
        note("the goal was not reached within these epochs: train longer (--epochs) or relax it")
    note(f"next: sfumato audit {out}")
