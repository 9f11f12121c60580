"""The `sfumato` command: registration and error reporting, nothing else.

Each command lives in `sfumato.cli.NAME`, in the source root it belongs to, and imports torch or TensorFlow only
when it runs. The names stand here as text, so this module imports nothing from the roots above it, and a command
only when it is called.
"""

import importlib
import io
import os
import shlex
import sys
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from sfumato.core.errors import SfumatoError
from sfumato.core.failures import explain

COMMANDS = {
    "demo": "Train, export, attack and run a model on drawn faces; then an upload that shows a picture; tables at the end.",
    "doctor": "Show versions and what each missing part needs; fails only when the core is broken.",
    "data": "Look at data sets; clean their cache.",
    "advise": "Say in minutes whether a question needs the picture, the answer, or no cloud at all.",
    "train": "Train on a data set what the phone and the cloud compute.",
    "audit": "Train fresh attackers against a frozen model; write audit.json and report.html beside it.",
    "export": "Convert and check the local network; write a bundle for the phone.",
    "verify": "Check hashes, signature, attestation, operators, parity and test vectors of an export.",
    "attest": "Write in-toto statements about an export and every audit in its folder; `sfumato verify` checks them.",
    "perturb": "Perturb photos with an exported model; write the uploads.",
    "compare": "Train other methods and ours on one budget, attack all alike; curves, tables, comparison.json.",
    "bench": "Measure what the phone's part costs.",
    "serve": "Answer uploads over HTTP and refuse photos; or, as a gateway, take photos and pass uploads on.",
    "send": "Perturb a photo on this machine, send the upload, show the answer.",
    "watch": "Watch cameras: perturb a frame of every scene here, ask the service, repeat its answer while the scene lasts.",
    "ledger": "Show and limit what this device sent: uploads, and bits of the photos that they carry at most.",
    "keys": "Show and renew the keys that noise follows from.",
    "tokens": "Give devices tokens for a service, and revoke them.",
    "zoo": "List, fetch, make and check exports that ship with their audits.",
}
"""The commands, and the first sentence of their help: so `sfumato --help` imports none of them."""

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


def load(name: str) -> Any:
    """The command of `sfumato.cli.NAME` as Typer builds it: its module either is a group (`app`) or one command (`command`)."""
    module = importlib.import_module(f"sfumato.cli.{name}")
    if hasattr(module, "app"):
        built: Any = typer.main.get_group(module.app)
        built.name = name
        return built
    alone = typer.Typer(add_completion=False)
    alone.command(name)(module.command)
    return typer.main.get_command(alone)


class Commands(typer.core.TyperGroup):
    """Commands that are imported when they are called; on Ctrl-C, which Typer would end without a word, one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: typer.core.TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the first word names, and the words after it."""
        name, _, words = super().resolve_command(ctx, args)
        return name, load(name) if name else None, words

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
