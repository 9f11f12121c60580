"""`sfumato tokens`: who may ask a service, one token a device; a revoked one is refused at once."""

from pathlib import Path
from typing import Annotated

import typer

TokenFile = Annotated[Path, typer.Option("--tokens", help="File of NAME TOKEN lines, as in `sfumato serve`.")]
AsJson = Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Of devices.")]

app = typer.Typer(help="Give devices tokens for a service, and revoke them.", no_args_is_help=True)


@app.command()
def add(names: Names, tokens: TokenFile, as_json: AsJson = False) -> None:
    """Make a token for each device and show it, once."""
    from sfumato.core.console import emit_json
    from sfumato.server.auth import add_tokens

    made = add_tokens(tokens, names)
    if as_json:
        emit_json({"schema": "sfumato-tokens/1", "tokens": made})
    else:
        for name, token in made.items():
            typer.echo(f"{name} {token}")


@app.command()
def revoke(names: Names, tokens: TokenFile) -> None:
    """Refuse the devices from now on, in every process that serves with this file."""
    from sfumato.core.console import note
    from sfumato.server.auth import revoke_tokens

    revoke_tokens(tokens, names)
    note(f"revoked: {', '.join(names)}; services that read {tokens} refuse them now")


@app.command(name="list")
def show(tokens: TokenFile, as_json: AsJson = False) -> None:
    """Show the names that have a token, never the tokens."""
    from sfumato.core.console import emit_json
    from sfumato.server.auth import Tokens

    found = Tokens.read(tokens, empty=True)
    names = [name for name, _ in found.digests] if found else []
    if as_json:
        emit_json({"schema": "sfumato-tokens/1", "names": names})
    else:
        for name in names:
            typer.echo(name)
