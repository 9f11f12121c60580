"""The `sfumato` command: registration and error reporting, nothing else.

Each command lives in `sfumato.cli.NAME`, in the source root it belongs to, and imports torch or TensorFlow only
when it runs. The names stand here as text, so this module imports nothing from the roots above it.
"""

import importlib
import io
import os
import shlex
import sys
from typing import Annotated, Any

import typer
import typer.core

from sfumato.core.errors import SfumatoError
from sfumato.core.failures import explain

COMMANDS = (
    "demo",
    "doctor",
    "data",
    "advise",
    "train",
    "audit",
    "export",
    "verify",
    "attest",
    "perturb",
    "compare",
    "bench",
    "serve",
    "send",
    "watch",
    "ledger",
    "keys",
    "tokens",
    "zoo",
)

RESUMED, CONTINUED = ("train", "audit"), ("compare", "advise")
"""Commands that go on after an interruption: with `--resume`, and by being given again."""


class StoppedError(SfumatoError):
    """Ctrl-C; the line says how to go on."""

    exit_code = 130

    def __init__(self) -> None:
        line = shlex.join(word for word in sys.argv[1:] if word != "--resume")
        ways = dict.fromkeys(RESUMED, f": go on with `sfumato {line} --resume`")
        ways |= dict.fromkeys(CONTINUED, ": the same command with the same --out goes on")
        super().__init__("interrupted" + ways.get(_command(), ""))


class Commands(typer.core.TyperGroup):
    """The commands; Typer itself would end without a word on Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise StoppedError from None


app = typer.Typer(
    cls=Commands,
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
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; also SFUMATO_DEBUG=1.")
    ] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that hold for every command."""


def main() -> None:
    """Run the command line; errors that a person can act on become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no table stops at a letter
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here a full disk can still be told
    except Exception as error:
        known = explain_here(error)
        if known is None or debugging():
            raise
        typer.echo(f"sfumato: {known}", err=True)
        if isinstance(error, OSError) and error.filename is None:
            _give_up_output()
        raise SystemExit(known.exit_code) from None


def debugging() -> bool:
    """Whether the traceback is asked for, by `--debug` or by SFUMATO_DEBUG=1."""
    return "--debug" in sys.argv or os.environ.get("SFUMATO_DEBUG", "0") not in ("", "0")


def explain_here(error: Exception) -> SfumatoError | None:
    """`explain`, and what to install where a package is missing."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("sfumato"):
        from sfumato.cli.extras import missing

        return SfumatoError(missing(_command(), error.name or str(error)))
    return explain(error)


def _command() -> str:
    return next((word for word in sys.argv[1:] if word in COMMANDS), "")


def _give_up_output() -> None:
    """Whatever is still waiting for a standard output that takes nothing: the interpreter would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
