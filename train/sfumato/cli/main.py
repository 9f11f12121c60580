"""The `sfumato` command: registration and error reporting, nothing else.

Each command lives in `sfumato.cli.NAME`, in the source root it belongs to, and imports torch or TensorFlow only
when it runs. The names stand here as text, so this module imports nothing from the roots above it.
"""

import importlib
import io
import sys
from typing import Annotated

import typer

from sfumato.core.errors import SfumatoError

COMMANDS = (
    "demo",
    "doctor",
    "data",
    "advise",
    "train",
    "audit",
    "export",
    "verify",
    "perturb",
    "compare",
    "bench",
    "serve",
    "send",
    "ledger",
)

app = typer.Typer(
    help="Perturb a photo on the phone so that the cloud recognises only what it should.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name in COMMANDS:
    # A module either is a group (`app`) or one command (`command`).
    _module = importlib.import_module(f"sfumato.cli.{_name}")
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_name)
    else:
        app.command(_name)(_module.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sfumato.core.provenance import own_version

        typer.echo(f"sfumato {own_version() or 'unknown'}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that hold for every command."""


def main() -> None:
    """Run the command line; known errors become one line and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as of standard error: no table stops at a letter
    try:
        app()
    except SfumatoError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"sfumato: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if "--debug" in sys.argv or (error.name or "").startswith("sfumato"):
            raise
        from sfumato.cli.extras import missing

        command = next((word for word in sys.argv[1:] if word in COMMANDS), "")
        typer.echo(f"sfumato: {missing(command, error.name or str(error))}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("sfumato: interrupted", err=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
