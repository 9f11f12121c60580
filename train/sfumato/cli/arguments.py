"""Options that several commands share, for their signatures.

def command(public_key: PublicKey = None, ledger: LedgerFile = None) -> None: ...
"""

from pathlib import Path
from typing import Annotated

import typer

PublicKey = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        help="Ed25519 key of the export's maker (PEM): demand its signature, now and from now on.",
    ),
]
LedgerFile = Annotated[Path | None, typer.Option(help="File of the ledger; else beside the device key.")]
