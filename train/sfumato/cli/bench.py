"""`sfumato bench`: what it costs to perturb an image, here, on emulated ARM, on phones (docs/benchmarks.md)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.core.options import names, renamed

if TYPE_CHECKING:
    from sfumato.bench.results import Results
    from sfumato.bench.subjects import Subject

app = typer.Typer(help="Measure what the phone's part costs.", no_args_is_help=True)

Export = Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")]
Variant = Annotated[str, typer.Option(help="Which models, with commas: float32, float16, dynamic, int8.")]
Networks = Annotated[
    str,
    typer.Option(
        help="What other methods run on the phone, at the size of their papers: all, or some of arden, "
        "deepobfuscator, protective, mobilenet."
    ),
]
OldPeers = Annotated[
    str, typer.Option("--peers", hidden=True, help="The name of --networks in the release before.")
]
Size = Annotated[
    str, typer.Option(help="HEIGHTxWIDTH: an untrained network of this size instead of the export's own.")
]


def replaceable(out: Path | None) -> Path | None:
    """Judged before anything is measured: only an older result is replaced."""
    from sfumato.core.console import note
    from sfumato.core.files import replaced_result

    if out is not None and replaced_result(out, "sfumato-bench") is not None:
        note(f"replaces the result in {out}")
    return out


Out = Annotated[
    Path | None,
    typer.Option(help="Write the result file here; an older one is replaced.", callback=replaceable),
]
Json = Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")]


@app.command()
def host(
    export: Export,
    variant: Variant = "int8,float32",
    threads: Annotated[str, typer.Option(help="Numbers of threads, with commas.")] = "1",
    networks: Networks = "",
    peers: OldPeers = "",
    size: Size = "",
    without_xnnpack: Annotated[
        bool, typer.Option("--without-xnnpack", help="Measure without XNNPACK too.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", hidden=True, help="The old name of it.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Say where the time of our models goes.")] = False,
    no_amx: Annotated[
        bool,
        typer.Option(
            "--no-amx", help="Without the matrix tiles of some server processors; no phone has them."
        ),
    ] = False,
    runtime: Annotated[
        str,
        typer.Option(
            help="Release of ai-edge-litert: 2.1.0, as in the Android app, or 1.4.0, the series of its flavour nnapi. "
            "Default: what is installed."
        ),
    ] = "",
    rounds: Annotated[int, typer.Option(min=2, help="Turns that each model gets.")] = 10,
    runs: Annotated[int, typer.Option(min=10, help="Timed runs of each model ...")] = 500,
    seconds: Annotated[float, typer.Option(min=0.1, help="... or as many as fit into this time.")] = 10.0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time the models of an export on this computer, taking turns."""
    from sfumato.bench.amx import refuse_amx
    from sfumato.bench.host import HostConfig, bench_host
    from sfumato.bench.host_runtime import use_runtime
    from sfumato.core.console import note
    from sfumato.runtime.phone_model import PhoneModel

    config = HostConfig(
        threads=numbers(threads),
        without_xnnpack=without_xnnpack or plain,
        layers=layers,
        amx=not no_amx,
        rounds=rounds,
        runs=runs,
        seconds=seconds,
    )
    if plain:
        note("--plain is called --without-xnnpack now: the old name goes with the next release")
    if no_amx:
        refuse_amx()  # before the first model is opened
    if runtime:
        use_runtime(runtime)  # the same
    subjects = gather(export, names(variant), network_names(networks, peers), size)
    model = None if size else PhoneModel.load(export)
    results = bench_host(subjects, config, model=model, watch=note)
    finish(results, out, as_json=as_json)


@app.command()
def arm(
    export: Export,
    variant: Variant = "int8",
    networks: Networks = "",
    peers: OldPeers = "",
    size: Size = "",
    cores: Annotated[
        str, typer.Option(help="Emulated cores, with commas.")
    ] = "cortex-a53,cortex-a72,cortex-a76",
    runtime: Annotated[
        str,
        typer.Option(
            help="Release of ai-edge-litert: 2.1.0, as in the Android app, or 1.4.0, the series of its flavour nnapi."
        ),
    ] = "2.1.0",
    jpeg: Annotated[
        bool, typer.Option("--jpeg", help="Count libjpeg-turbo's encoder at quality 90 too, as a yardstick.")
    ] = False,
    webp: Annotated[
        bool, typer.Option("--webp", help="Count libwebp's encoder at quality 90 too, as a yardstick.")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each model.")] = 3,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Count the ARM64 instructions of an export on emulated cores; the emulator sets itself up, without root."""
    from sfumato.bench.arm.counting import bench_arm, drawing_at, drawing_of
    from sfumato.core.console import note
    from sfumato.runtime.contract import read_contract
    from sfumato.runtime.phone_model import PhoneModel

    subjects = gather(export, names(variant), network_names(networks, peers), size)
    contract = read_contract(export)
    pixels = picture_size(size) if size else contract.size
    drawing = drawing_at(contract.channel, pixels) if size else drawing_of(PhoneModel.load(export), note)
    results = bench_arm(
        subjects,
        names(cores),
        runs=runs,
        runtime=runtime,
        drawing=drawing,
        encoders=[name for name, wanted in {"jpeg": jpeg, "webp": webp}.items() if wanted],
        size=pixels,
        watch=note,
    )
    finish(results, out, as_json=as_json)


@app.command()
def phone(
    export: Annotated[
        Path | None,
        typer.Argument(metavar="EXPORT", help="Folder of an export; without one, phones are listed."),
    ] = None,
    serial: Annotated[str | None, typer.Option(help="Which phone, if adb sees several.")] = None,
    variant: Variant = "int8,float32",
    networks: Networks = "",
    peers: OldPeers = "",
    no_app: Annotated[
        bool,
        typer.Option(
            "--no-app",
            help="Without the app: the CPU alone, by a program that adb puts on the phone and removes.",
        ),
    ] = False,
    delegates: Annotated[
        str | None,
        typer.Option(
            help="cpu, gpu, npu; of the app's flavour nnapi cpu, nnapi, gpu. With commas; cpu,gpu,npu without the option, "
            "or cpu with --no-app."
        ),
    ] = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads on the CPU, with commas.")] = "1,2,4",
    warmup: Annotated[int, typer.Option(min=0, help="Untimed runs.")] = 50,
    runs: Annotated[int, typer.Option(min=10, help="Timed runs; ten seconds at most.")] = 500,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Another time than ten seconds; with --no-app.")
    ] = None,
    sustained: Annotated[int, typer.Option(min=0, help="Seconds without a pause after that.")] = 0,
    energy: Annotated[
        bool,
        typer.Option(
            "--energy", help="What a run takes by the phone's power rails, where it has some; a minute a row."
        ),
    ] = False,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Release of ai-edge-litert, with --no-app: 2.1.0, which the Android app has, or 1.4.0."
        ),
    ] = None,
    benchmark_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="LiteRT's own tool of that name, built for ARM64 Android: run it too; with --no-app.",
        ),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time the models of an export on a phone, by the demo app's benchmark activity or without the app."""
    from sfumato.bench.phone.adb import choose, devices
    from sfumato.bench.phone.benchmark import bench_phone
    from sfumato.bench.phone.config import NoAppConfig, PhoneConfig, make_config
    from sfumato.bench.phone.without_app import bench_without_app
    from sfumato.core.console import emit_json, note, show, table
    from sfumato.core.errors import UsageError

    given: dict[str, Any] = {"seconds": seconds, "runtime": runtime}
    given = {name: value for name, value in given.items() if value is not None}
    if not no_app and (given or benchmark_model):
        raise UsageError("--seconds, --runtime and --benchmark-model go with --no-app")
    if no_app and energy:
        raise UsageError("--energy needs the app, which runs without a pause: leave out --no-app")
    if no_app and delegates not in (None, "cpu"):
        raise UsageError(f"--no-app measures the CPU alone, not {delegates}: the app measures NNAPI and GPU")
    found = devices()
    if export is None:
        rows = [(device.serial, device.model, device.state) for device in found]
        if as_json:
            emit_json([dict(zip(("serial", "model", "state"), row, strict=True)) for row in rows])
        else:
            show(table("phones that adb sees", ("serial", "model", "state"), rows))
        return
    common = {"threads": numbers(threads), "warmup": warmup, "runs": runs, "sustained": sustained}
    subjects = gather(export, names(variant), network_names(networks, peers), "")
    if no_app:
        settings = make_config(NoAppConfig, {**common, **given})
        results = bench_without_app(
            choose(found, serial), subjects, settings, tool=benchmark_model, watch=note
        )
    else:
        chosen = {"delegates": names(delegates or "cpu,gpu,npu"), "energy": energy}
        config = make_config(PhoneConfig, {**common, **chosen})
        results = bench_phone(choose(found, serial), subjects, config, export=export, watch=note)
    finish(results, out, as_json=as_json)


@app.command()
def models(
    export: Export,
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="The run it was made from; its audit is that of the float model."),
    ] = None,
    cloud: Annotated[
        str | None, typer.Option(help="module:factory of your own cloud network, as in training.")
    ] = None,
    nnapi_level: Annotated[
        int, typer.Option(help="Feature level of the phone's NNAPI driver, 27 to 31: that of its Android.")
    ] = 30,
    as_json: Json = False,
) -> None:
    """Compare the models of an export: size, parity, accuracy, best attack, rate, delegates; int8 against float."""
    from sfumato.bench.model_variants import (
        accuracy_changes,
        compare_variants,
        remarks,
        variant_json,
        variant_table,
    )
    from sfumato.core.console import emit_json, show_tables
    from sfumato.export.artifact import load_export

    artifact = load_export(export, cloud=cloud, indices=False)
    measured = compare_variants(artifact, run, level=nnapi_level)
    changes = accuracy_changes(artifact, measured, run)
    if as_json:
        emit_json(variant_json(measured, changes))
        return
    show_tables([variant_table(str(export), measured)])
    for line in remarks(measured, changes):
        typer.echo(line)


@app.command()
def networks(
    data: Annotated[
        str, typer.Option(help="Data SPEC: its images are counted for; synthetic: 64x64.")
    ] = "synthetic",
    keep: Annotated[str, typer.Option(help="Attributes the cloud shall recognise, with commas.")] = "smiling",
    hide: Annotated[str, typer.Option(help="Attributes to hide, with commas.")] = "skin",
    as_json: Json = False,
) -> None:
    """Show what each method of `sfumato compare` runs on the phone: as trained here, and as in its paper."""
    from sfumato.compare.network_sizes import compare_sizes, size_json, size_table
    from sfumato.core.console import emit_json, show_tables

    sizes = compare_sizes(data, keep=names(keep), hide=names(hide))
    if as_json:
        emit_json(size_json(sizes, data))
    else:
        show_tables([size_table(sizes)])


@app.command()
def training(
    data: Annotated[str, typer.Option(help="Data SPEC.")] = "synthetic,count=800",
    keep: Annotated[str, typer.Option(help="Attributes the cloud shall recognise, with commas.")] = "smiling",
    hide: Annotated[
        str, typer.Option(help="Attributes that adversaries are after, with commas; none: no step with them.")
    ] = "skin,glasses,hair",
    bits: Annotated[float, typer.Option(help="Rate target, as in `sfumato train`.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=2, help="Turns that each kind of step gets.")] = 10,
    steps: Annotated[int, typer.Option(min=4, help="Timed steps of each kind.")] = 40,
    audit: Annotated[
        Path | None, typer.Option(metavar="RUN|EXPORT", help="Time a quick audit of it too (minutes).")
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time a co-training step beside a plain step of the cloud network, by processor time."""
    from sfumato.bench.throughput import bench_training
    from sfumato.core.console import note
    from sfumato.training.config import make_config

    config = make_config({"data": data, "keep": names(keep), "hide": names(hide), "bits": bits})
    results = bench_training(config, rounds=rounds, steps=steps, audited=audit, watch=note)
    finish(results, out, as_json=as_json)


@app.command()
def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULT...", help="Result files or folders of them; else benchmarks/results."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and the pictures.")] = Path(
        "benchmarks/report"
    ),
) -> None:
    """Render result files as tables and pictures."""
    from sfumato.bench.report import find_results, write_report
    from sfumato.bench.tables import tables
    from sfumato.core.console import note, show_tables

    found = find_results(results or [Path("benchmarks/results")])
    for part in found.values():
        show_tables(tables(part))
    for path in write_report(found, out) if out is not None else ():
        note(f"wrote {path}")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A result file.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another of the same target.")],
    as_json: Json = False,
) -> None:
    """Say what changed between two result files beyond noise."""
    from dataclasses import asdict

    from sfumato.bench.changes import find_changes, warnings
    from sfumato.bench.results import read_results
    from sfumato.core.console import emit_json, note, show, table

    old, new = read_results(before), read_results(after)
    changes = find_changes(old, new)
    for warning in warnings(old, new):
        note(f"warning: {warning}")
    if as_json:
        emit_json([asdict(change) for change in changes])
    elif changes:
        columns = ("what", "figure", "before", "after", "change")
        show(table("beyond noise", columns, [change.cells() for change in changes]))
    else:
        typer.echo("nothing changed beyond noise")


def network_names(networks: str, peers: str) -> tuple[str, ...]:
    """Phone networks from `--networks`, or from its old name."""
    return names(renamed(peers, networks, was="--peers", now="--networks"))


def gather(export: Path, variants: tuple[str, ...], networks: tuple[str, ...], size: str) -> "list[Subject]":
    """The models that a benchmark is about.

    Raises:
        UsageError: a name is not known, or the size is none.
    """
    from sfumato.bench.subjects import export_subjects
    from sfumato.core.errors import UsageError
    from sfumato.runtime.contract import read_contract

    contract = read_contract(export)
    pixels = picture_size(size) if size else contract.size
    if size and contract.answer is not None:
        raise UsageError("--size is for picture bundles: an answer's network is measured at its own size")
    if not size:
        subjects = export_subjects(export, variants)
    if size or networks:
        from sfumato.bench.phone_networks import phone_network_subjects, untrained_subjects

        if size:
            subjects = untrained_subjects(contract.channel, pixels, variants)
        subjects += phone_network_subjects(networks, pixels, variants)
    if not subjects:
        raise UsageError("nothing to measure: with --size, choose float32 or int8 as --variant")
    return subjects


def picture_size(text: str) -> tuple[int, int]:
    """Height and width from `480x640`.

    Raises:
        UsageError: it is none.
    """
    from sfumato.core.errors import UsageError

    pixels = [int(part) if part.isdecimal() else 0 for part in text.split("x")]
    if len(pixels) != 2 or not all(pixels):
        raise UsageError(f"--size takes HEIGHTxWIDTH in pixels, for example 480x640, not {text!r}")
    return pixels[0], pixels[1]


def numbers(text: str) -> tuple[int, ...]:
    """Thread counts from a comma-separated list.

    Raises:
        UsageError: a part is not a whole number from 1 to 64.
    """
    from sfumato.core.errors import UsageError

    found = [int(part) if part.isdecimal() else 0 for part in names(text)]
    if not found or not all(1 <= count <= 64 for count in found):
        raise UsageError(f"--threads takes whole numbers from 1 to 64 with commas, not {text!r}")
    return tuple(found)


def finish(results: "Results", out: Path | None, *, as_json: bool) -> None:
    """Write and print a result.

    Raises:
        SfumatoError: nothing was measured, or a row is not valid.
    """
    from sfumato.bench.results import write_results
    from sfumato.bench.tables import tables
    from sfumato.core.console import emit_json, note, show_tables
    from sfumato.core.errors import SfumatoError

    if out is not None:
        write_results(results, out)
    if as_json:
        emit_json(results.to_json())
    else:
        show_tables(tables(results))
    if out is not None:
        note(f"wrote {out}")
    if not results.rows and results.failures:
        raise SfumatoError(f"nothing was measured: {results.failures[0].what}: {results.failures[0].reason}")
    if wrong := [row for row in results.rows if not row.valid]:
        row, more = wrong[0], f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise SfumatoError(f"not valid: {row.subject} {row.variant}: {'; '.join(row.notes)}{more}")
