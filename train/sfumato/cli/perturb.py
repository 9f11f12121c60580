"""`sfumato perturb`: what leaves the phone."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.arguments import LedgerFile, PublicKey


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Photos (or WAV files, by the model), and folders of them.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the uploads.")],
    key: Annotated[
        Path | None,
        typer.Option(help="Device key; else ~/.config/sfumato/device.key, made if it is missing."),
    ] = None,
    fresh_noise: Annotated[
        bool, typer.Option("--fresh-noise", help="Other noise every time: for measurements only.")
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="word or image (a PNG) for an answer bundle, which sends words by default; others have one alone."
        ),
    ] = None,
    strength: Annotated[
        int | None, typer.Option(help="Of one of the export's points; by default the strongest.")
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            help="Host of the service that the uploads are for: its key draws them, the ledger counts them."
        ),
    ] = "files",
    ledger: LedgerFile = None,
    public_key: PublicKey = None,
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Leave out photos that cannot be read, and say which.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace uploads that are there.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Perturb photos with an exported model; write the uploads."""
    from sfumato.core.console import emit_json, note, show, table
    from sfumato.core.errors import DataError, UsageError
    from sfumato.runtime.keyed_noise import default_key_path
    from sfumato.runtime.ledger import device_ledger
    from sfumato.runtime.makers import require_maker
    from sfumato.runtime.perturb_files import perturb_files
    from sfumato.runtime.phone_model import PhoneModel

    if key is not None and fresh_noise:
        raise UsageError("give either --key or --fresh-noise, not both")
    require_maker(export, public_key)
    model = PhoneModel.load(export, threads=threads)
    if key is None and not default_key_path().exists():
        note(f"made a device key: {default_key_path()}")
    keys, book = device_ledger(key, ledger)
    secret = None if fresh_noise else keys.for_service(service)
    left_out: dict[Path, DataError] = {}
    done = list(
        perturb_files(
            model,
            images,
            out,
            key=secret,
            encoding=encoding,
            strength=strength,
            ledger=book,
            service=service,
            overwrite=overwrite,
            on_error=left_out.__setitem__ if skip_errors else None,
        )
    )
    if left_out and not done:
        raise DataError(f"none of {len(left_out)} photos can be read: {next(iter(left_out.values()))}")
    sentence = book.account(service).sentence()
    if as_json:
        rows = [
            {
                "source": str(d.source),
                "upload": str(d.upload),
                "bytes": d.bytes,
                "rate_bits": round(d.rate_bits, 4),
                "unlike": d.unlike,
                "strength": d.strength,
            }
            for d in done
        ]
        emit_json(
            {
                "runtime": model.session.runtime.name,
                "keyed": secret is not None,
                "uploads": rows,
                "skipped": [{"source": str(path), "reason": str(why)} for path, why in left_out.items()],
                "account": sentence,
            }
        )
        return
    show(
        table(
            "uploads",
            ("photo", "upload", "bytes", "rate"),
            [(d.source.name, d.upload, d.bytes, f"{d.rate_bits:.1f} bits") for d in done],
        )
    )
    for one in done:
        if one.unlike:
            note(
                f"{one.source.name} looks like none of the photos this model was made for: its answer means nothing"
            )
    for why in left_out.values():
        note(f"left out: {why}")
    if left_out:
        note(f"{len(done)} photos perturbed, {len(left_out)} left out")
    note(sentence)
    if secret is None:
        note("fresh noise: uploads of one photo can be averaged; leave --fresh-noise out for real use")
