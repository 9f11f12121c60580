"""`sfumato verify`: an export, checked again from its files."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Ed25519 key of the maker (PEM): demand its signature."),
    ] = None,
    attested: Annotated[
        bool,
        typer.Option(
            "--attested", help="Demand signed statements about the export and an audit in its folder."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Check hashes, signature, attestation, operators, parity and test vectors of an export."""
    from sfumato.core.console import emit_json, show, table
    from sfumato.core.errors import SfumatoError
    from sfumato.runtime.verification import verify

    result = verify(export, public_key=public_key, attested=attested)
    if as_json:
        emit_json(result.to_json())
    else:
        show(table(str(export), ("check", "", "found"), [(c.name, c.state, c.detail) for c in result.checks]))
    if not result.passed:
        first, more = result.failed[0], len(result.failed) - 1
        others = f" (and {more} more)" if more else ""
        raise SfumatoError(f"{export} does not verify: {first.name}: {first.detail}{others}")
