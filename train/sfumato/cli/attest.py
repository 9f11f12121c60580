"""`sfumato attest`: sign what an export and its audits are."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export, with its audits.")],
    sign_with: Annotated[
        Path,
        typer.Option("--sign-with", help="Ed25519 private key (PEM) of the maker, as in `sfumato export`."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Write in-toto statements about an export and every audit in its folder; `sfumato verify` checks them."""
    from sfumato.core.console import emit_json, note
    from sfumato.runtime.attestation import attest, check_attestation
    from sfumato.runtime.signing import read_private_key

    key = read_private_key(sign_with)
    path = attest(export, key)
    stated = check_attestation(export, key.public_key())
    if as_json:
        emit_json({"schema": "sfumato-attested/1", "file": str(path), "audits": dict(stated.audits)})
    else:
        typer.echo(f"stated: {stated.text()}")
    note(f"wrote {path}")
