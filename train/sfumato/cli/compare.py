"""`sfumato compare`: other methods and ours on the same axes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.options import names, renamed

if TYPE_CHECKING:
    from sfumato.compare.schema import Comparison
    from sfumato.core.reports import Grid

QUICK_SETTINGS, QUICK_EPOCHS = "2", 2
"""Of `--quick`."""


def command(
    data: Annotated[str, typer.Option(help="Data SPEC, for example synthetic or utkface:PATH,size=64.")],
    keep: Annotated[str, typer.Option(help="Attributes the cloud shall recognise, comma separated.")],
    out: Annotated[Path, typer.Option(help="Folder; a comparison that is there is continued.")],
    hide: Annotated[
        str,
        typer.Option(
            help="Attributes that the attackers are after, comma separated; none: accuracy against rate alone."
        ),
    ] = "",
    cloud: Annotated[
        str,
        typer.Option(
            help="Cloud network of every row: resnet, lite0, timm:NAME, torchvision:NAME, or module:factory of your own. "
            "Methods that cut it in two need resnet."
        ),
    ] = "resnet",
    methods: Annotated[
        str,
        typer.Option(
            help="all, or some of: raw, blur, pixelate, jpeg, webp, avif, gaussian, laplace, arden, shredder, cloak, "
            "deepobfuscator, maxent-arl, narl, mass, pass, protective, infodecom-style, on-phone; of ours: literal, rate, "
            "rate-levels4, rate-context, subsample and gates (in all from 100 bits on), rate-gaussian, suppress, "
            "suppress-gaussian, answer, answer-odds."
        ),
    ] = "all",
    peers: Annotated[str, typer.Option("--peers", hidden=True, help="The old name of --methods.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N|NAME=V1,V2,...",
            help="Points of each other method's curve: how many (4), or the values for one method. Can be given several times.",
        ),
    ] = None,
    points: Annotated[
        str,
        typer.Option(
            help="Targets of ours: BITS or BITS/BEYOND, the mean rate and what of it may go beyond the phone's decision. "
            "By default 1/0.1,2/0.1,6/0.1,16/0.5, and with nothing to hide 1,2,4,8,16,32,64."
        ),
    ] = "",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="To see how it works: two settings and targets, two epochs. No result to quote."
        ),
    ] = False,
    attacks: Annotated[str, typer.Option(help="How thorough the audit is: quick or default.")] = "quick",
    epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of each stage: clean network, warm-up, training proper. By default 8."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    precision: Annotated[
        str,
        typer.Option(
            help="Of the cloud network in training: float32, or bfloat16 where the processor has it."
        ),
    ] = "float32",
    mirror_only: Annotated[
        float,
        typer.Option(
            help="Share of each training, at its end, whose images are only mirrored: worth it at 32x32."
        ),
    ] = 0.0,
    augmentation: Annotated[
        str,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="How far the training images of every row are varied, as [augmentation] in the --config of train: "
            "scale=0.3,turn=0.3 and the like.",
        ),
    ] = "",
    plain: Annotated[
        float, typer.Option("--plain", hidden=True, help="The old name of --mirror-only.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Make the rows on this Ray cluster: HOST:PORT, auto, or local for one of this machine.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew; finished rows go.")] = False,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Train networks on clean photos anew for every row; also SFUMATO_REFERENCES_GB=0.",
        ),
    ] = False,
    cryptographic: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="A result of python -m studies.cryptographic: its tables go below ours."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Train other methods and ours on one budget, attack all alike; curves, tables, comparison.json.

    Every finished row is kept: the same command continues where it was interrupted, and more --methods, --settings or
    --points add rows to those that are there. The defaults are a small budget: all methods take a night on two cores
    with 8,000 images of 64x64.
    """
    from sfumato.audit.clean_cache import switched_off
    from sfumato.compare.config import make_compare_config, parse_augmentation
    from sfumato.compare.rows import POINTS, RATE_POINTS, choose_rows, parse_point, parse_settings
    from sfumato.compare.runner import compare
    from sfumato.core.console import emit_json, note, show_tables

    grids = cryptographic_grids(cryptographic) if cryptographic is not None else []
    chosen = names(renamed(peers, methods, was="--peers", now="--methods"))
    targets = tuple(map(parse_point, names(points))) or (POINTS if names(hide) else RATE_POINTS)
    if quick:
        targets = targets if points else targets[:2]
        settings, epochs = settings or [QUICK_SETTINGS], epochs or QUICK_EPOCHS
    rows = choose_rows(chosen, targets, parse_settings(settings or ()))
    config = make_compare_config(
        {
            "data": data,
            "keep": names(keep),
            "hide": names(hide),
            "cloud": cloud,
            "attacks": attacks,
            **({} if epochs is None else {"epochs": epochs}),
            "batch_size": batch_size,
            "precision": precision,
            "augmentation": parse_augmentation(augmentation),
            "mirror_only": renamed(plain, mirror_only, was="--plain", now="--mirror-only"),
            "seed": seed,
        }
    )
    with switched_off(no_cache):
        comparison = compare(config, out, rows, overwrite=overwrite, accelerator=accelerator, ray=ray)
    if as_json:
        emit_json(comparison.to_json())
    else:
        show_comparison(comparison)
        show_tables(grids)
    note(f"wrote {out / 'comparison.json'}, comparison.md and comparison.png")


def cryptographic_grids(path: Path) -> "list[Grid]":
    """The tables of a result of `python -m studies.cryptographic`.

    Raises:
        SfumatoError: the file is missing or damaged.
        UsageError: it is of another benchmark.
    """
    from sfumato.bench.results import read_results
    from sfumato.bench.tables import tables
    from sfumato.core.errors import UsageError

    results = read_results(path)
    if results.target != "cryptographic":
        raise UsageError(
            f"{path} is a result of sfumato bench {results.target}: make one with python -m studies.cryptographic"
        )
    return tables(results)


def show_comparison(comparison: "Comparison") -> None:
    """Print the tables of a comparison, and below them the notes of its rows."""
    from sfumato.compare.tables import comparison_tables
    from sfumato.core.console import show_tables

    show_tables(comparison_tables(comparison))
    for row in comparison.rows:
        for text in row.notes:
            typer.echo(f"{row.id}: {text}")
