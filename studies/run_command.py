"""What every `python -m studies.NAME` ends with.

run_command(command)
"""

from collections.abc import Callable

import typer

from sfumato.core.errors import SfumatoError


def run_command(command: Callable[..., None]) -> None:
    """Run a function as the only command of a program; what a user can act on is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except SfumatoError as error:
        typer.echo(f"sfumato: {error}", err=True)
        raise SystemExit(error.exit_code) from None
