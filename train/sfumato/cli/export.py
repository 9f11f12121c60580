"""`sfumato export`: a finished run becomes a bundle for the phone, part of the Android app, and files for an NPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.options import names

if TYPE_CHECKING:
    from sfumato.export.npu import Emulator
    from sfumato.runtime.contract import Contract
    from sfumato.runtime.npu_files import NpuFiles


def command(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|EXPORT", help="A finished run; with --android or --npu also an export."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the export.")] = None,
    variants: Annotated[
        str, typer.Option(help="Which models, with commas.")
    ] = "float32,float16,dynamic,int8",
    backend: Annotated[
        str, typer.Option(help="Converter: direct (our lowering of ONNX), or onnx2tf as a cross-check.")
    ] = "direct",
    tune: Annotated[str, typer.Option(help="Fine-tune for int8: auto, never or always.")] = "auto",
    points: Annotated[
        str | None,
        typer.Option(
            help="Strengths that the phone's user may choose from, 128,64,32; by default those of training."
        ),
    ] = None,
    encoding: Annotated[
        str,
        typer.Option(
            help="What uploads are: packed (all levels), or index[:BITS[:POWER[:MEMORY]]], the number of a public book's entry."
        ),
    ] = "packed",
    cloud: Annotated[
        str | None,
        typer.Option(
            help="module:factory of your own cloud network, as in training: what a run names is never called."
        ),
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option("--sign-with", help="Ed25519 private key (PEM): sign the contract.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key",
            help="With --android and an EXPORT: key of its maker (PEM); the app demands its signature.",
        ),
    ] = None,
    android: Annotated[
        Path | None,
        typer.Option(help="Android project (android_demo): put model, contract and vectors into it."),
    ] = None,
    npu: Annotated[
        str | None,
        typer.Option(
            help="qualcomm: context binaries for Hexagon NPUs, and how far their arithmetic is from the int8 model's."
        ),
    ] = None,
    npu_python: Annotated[
        str | None,
        typer.Option(
            "--npu-python",
            envvar="SFUMATO_NPU_PYTHON",
            help="With --npu: Python of the environment that has onnxruntime-qnn.",
        ),
    ] = None,
    npu_photos: Annotated[
        int, typer.Option("--npu-photos", min=1, help="With --npu: test photos that are compared, at most.")
    ] = 1000,
    allow_missed_goal: Annotated[
        bool,
        typer.Option(
            "--allow-missed-goal", help="Export although the int8 model misses the goal of training on test."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The contract alone, as JSON; of an EXPORT with --npu, npu.json.")
    ] = False,
) -> None:
    """Convert and check the local network; write a bundle for the phone."""
    import time

    from sfumato.core.console import note, progress
    from sfumato.core.errors import UsageError, unknown
    from sfumato.core.strengths import read_strengths
    from sfumato.export.android import place, require_project
    from sfumato.export.npu import find_emulator
    from sfumato.export.pipeline import TUNE, Step, export
    from sfumato.runtime.contract import FILE
    from sfumato.runtime.makers import forget, remember, require_maker
    from sfumato.runtime.signing import read_private_key

    if android is not None:
        require_project(android)
    variants_wanted = names(variants)
    if npu is not None and "int8" not in variants_wanted:
        raise UsageError("--npu needs the int8 model: leave --variants out, or name int8 among them")
    emulator = None if npu is None else find_emulator(npu, npu_python)
    if (run / FILE).exists() and out is None and (android is not None or emulator is not None):
        maker = require_maker(run, public_key)
        if emulator is not None:
            made = run_npu(run, emulator, cloud=cloud, photos=npu_photos, overwrite=overwrite)
            if as_json:
                typer.echo(made.model_dump_json(by_alias=True, exclude_none=True, indent=2))
            else:
                show_npu(made)
        if android is not None:
            placed = place(run, android, maker, given=public_key is not None)
            note(f"placed in {placed}; next: open {android} in Android Studio and run it")
        return
    if out is None:
        raise UsageError(
            "give --out EXPORT, or an EXPORT that is there and --android android_demo or --npu qualcomm"
        )
    if tune not in TUNE:
        raise UsageError(unknown("--tune", tune, TUNE))
    signer = read_private_key(sign_with) if sign_with is not None else None
    started = time.perf_counter()
    with progress() as bar:
        task = bar.add_task("export", total=len(Step), figures="")

        def watch(done: int, title: str) -> None:
            bar.update(task, completed=done, description=f"{title:<36}")

        contract = export(
            run,
            out,
            cloud=cloud,
            variants=variants_wanted,
            backend=backend,
            overwrite=overwrite,
            signer=signer,
            tune=tune,
            points=None if points is None else read_strengths(points),
            encoding=encoding,
            allow_missed_goal=allow_missed_goal,
            watch=watch,
        )
        bar.update(task, completed=len(Step), description=f"{'done':<36}")
    if contract.goal is not None and not contract.goal.met:
        note(
            "the int8 model misses the goal of its training on test; the contract says so, and an audit will not pass it"
        )
    if as_json:
        typer.echo(contract.to_json(), nl=False)
    else:
        show(contract)
    if contract.provenance.get("preset") is not None:
        from sfumato.training.presets import NO_DEVICE

        note(NO_DEVICE)
    # The user made this export: what was remembered of another one here has no say over it.
    forget(out) if signer is None else remember(out, signer.public_key())
    note(f"{len(Step)} steps in {time.perf_counter() - started:.1f} s")
    if emulator is not None:
        found = run_npu(out, emulator, cloud=cloud, photos=npu_photos, overwrite=True)
        if not as_json:
            show_npu(found)
    if android is not None:
        placed = place(
            out, android, None if signer is None else signer.public_key(), given=signer is not None
        )
        note(f"placed in {placed}; next: open {android} in Android Studio and run it")
    note(f"next: sfumato perturb {out} PHOTO --out uploads")


def run_npu(
    folder: Path, emulator: "Emulator", *, cloud: str | None, photos: int, overwrite: bool
) -> "NpuFiles":
    """Write files for an NPU into an export, with a bar."""
    from sfumato.core.console import note, progress
    from sfumato.export.npu import add_npu

    with progress() as bar:
        task = bar.add_task("emulate the NPU", total=None, figures="")

        def watch(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        made = add_npu(folder, emulator, cloud=cloud, photos=photos, overwrite=overwrite, watch=watch)
    note(f"wrote {folder / 'npu.json'}; the contract is as it was")
    return made


def show_npu(made: "NpuFiles") -> None:
    """Print files and figures of an NPU."""
    from sfumato.core.console import show, table

    rows = [(one.name, f"{one.bytes:,}", one.chip or "any, compiled on the phone") for one in made.files]
    show(table("files for an NPU", ("file", "bytes", "chip"), rows))
    found = made.emulated
    figures = [
        ("nodes, partitions", f"{made.partition['nodes']}, {made.partition['partitions']}"),
        ("equal bytes", f"{100 * found['equal_bytes']:.1f} %"),
        ("mean difference", f"{found['mean_difference']:.5f}"),
        ("largest difference", f"{found['largest_difference']:.3f}"),
        ("photos whose keyed upload is equal", f"{100 * found['equal_uploads']:.1f} %"),
        *(
            (f"accuracy of {name}: int8, NPU", f"{100 * pair['int8']:.1f} %, {100 * pair['npu']:.1f} %")
            for name, pair in found["accuracy"].items()
        ),
        ("bits of the draw by the int8 model", f"{found['bits']['first']:.1f}"),
        ("and of one more by the NPU", f"{found['bits']['second']:.1f}"),
    ]
    show(table(f"emulated NPU against the int8 model, {found['photos']} photos", ("figure", ""), figures))


def show(contract: "Contract") -> None:
    """Print files, gates and figures."""
    from sfumato.core.console import show, table
    from sfumato.core.reports import credit_text

    show(table("files", ("file", "bytes", "for"), [(f.name, f"{f.bytes:,}", f.role) for f in contract.files]))
    rows = [(g.name, g.value, g.limit, "ok" if g.passed else "failed") for g in contract.gates]
    show(table("gates", ("check", "found", "allowed", ""), rows))
    figures = contract.figures
    worst, masks = figures.get("guess_error", {}), figures.get("guess_iou", {})

    def text(name: str, credit: float) -> str:
        return credit_text(credit, worst.get(name), mask=name in masks)

    if figures:
        pairs = [
            (name, *(text(name, p[kind]) for kind in ("float", "int8")))
            for name, p in figures["accuracy"].items()
        ]
        pairs += [
            (f"rate, {name}", f"{p['float']:.2f} bits", f"{p['int8']:.2f} bits")
            for name, p in figures["rate_bits"].items()
        ]
        pairs += [
            (f"upload, {name}", "", f"{size:,.0f} bytes") for name, size in figures["upload_bytes"].items()
        ]
        show(table(f"on {figures['images']} test images", ("figure", "float", "int8"), pairs))
    if contract.index is not None:
        drawn = figures["index"]
        found = [(name, text(name, share)) for name, share in drawn["accuracy"].items()]
        found += [(f"rate, {name}", f"{bits:.1f} bits") for name, bits in drawn["rate_bits"].items()]
        found.append(("most that any photo tells", f"{contract.index.bits:,} bits"))
        show(table(f"indices of {drawn['images']} test images, int8", ("figure", ""), found))
    if contract.points:
        names = list(contract.points[0].accuracy)
        measured = [
            (
                str(one.strength),
                *(text(name, one.accuracy[name]) for name in names),
                f"{one.rate_bits.mean:.1f} bits",
                f"{one.upload_bytes.png:,.0f} bytes",
            )
            for one in contract.points
        ]
        show(table("points", ("strength", *names, "rate, mean", "upload, png"), measured))
