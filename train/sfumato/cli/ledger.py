"""`sfumato ledger`: what this device sent, to whom, and how many bits of the photos it can carry at most."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.runtime.ledger import Ledger

KeyFile = Annotated[Path | None, typer.Option("--key", help="Device key; else ~/.config/sfumato/device.key.")]
LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", help="File of the ledger; else beside the device key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")]

app = typer.Typer(
    help="Show and limit what this device sent: uploads, and bits of the photos that they carry at most.",
    invoke_without_command=True,
)


@app.callback()
def command(
    context: typer.Context, key: KeyFile = None, ledger: LedgerFile = None, as_json: AsJson = False
) -> None:
    """Show the accounts, or set a limit."""
    if context.invoked_subcommand is None:
        show(key, ledger, as_json)


@app.command()
def show(key: KeyFile = None, ledger: LedgerFile = None, as_json: AsJson = False) -> None:
    """Show the account of every service."""
    from sfumato.core.console import emit_json, note, table
    from sfumato.core.console import show as print_table
    from sfumato.runtime.ledger import upwards

    book = opened(key, ledger)
    accounts = book.accounts() if book else []
    if as_json:
        emit_json({"schema": "sfumato-account/1", "services": [account.to_json() for account in accounts]})
        return
    if not accounts:
        note("nothing was sent from here yet")
        return
    rows = [
        (day, account.service, tally.uploads, tally.draws, upwards(tally.microbits))
        for account in accounts
        for day, tally in (*sorted(account.days.items())[-DAYS:], ("in all", account.total))
    ]
    print_table(table("what was sent", ("day (UTC)", "service", "uploads", "photos", "bits, at most"), rows))
    for account in accounts:
        note(account.sentence())


DAYS = 7
"""The last ones that the table shows; `--json` has all."""


@app.command()
def cameras(key: KeyFile = None, ledger: LedgerFile = None, as_json: AsJson = False) -> None:
    """Show the account of every camera of `sfumato watch`: draws and bits by hour, by day and in all."""
    from sfumato.core.console import emit_json, note, table
    from sfumato.core.console import show as print_table
    from sfumato.runtime.ledger import upwards

    book = opened(key, ledger)
    accounts = book.cameras() if book else []
    if as_json:
        found = [
            {
                "camera": account.service.partition("@")[0],
                **account.to_json(),
                "service": account.service.partition("@")[2],
                "hours": {hour: tally.to_json() for hour, tally in sorted(account.hours.items())},
            }
            for account in accounts
        ]
        emit_json({"schema": "sfumato-cameras/1", "cameras": found})
        return
    if not accounts:
        note("nothing came from a camera yet")
        return
    rows = [
        (when, account.service, tally.uploads, tally.draws, upwards(tally.microbits))
        for account in accounts
        for when, tally in (
            *sorted(account.hours.items())[-HOURS:],
            *sorted(account.days.items())[-DAYS:],
            ("in all", account.total),
        )
    ]
    print_table(
        table("what cameras sent", ("hour or day (UTC)", "camera", "uploads", "draws", "bits, at most"), rows)
    )
    for account in accounts:
        note(account.sentence())


HOURS = 3
"""The last ones that the table shows; `--json` has all."""


@app.command()
def limit(
    service: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE", help="Host of the service, or CAMERA@HOST; '*' for every other service."
        ),
    ],
    per_day: Annotated[float | None, typer.Option(help="Most bits a day (UTC).")] = None,
    total: Annotated[float | None, typer.Option(help="Most bits in all.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No limit any more.")] = False,
    key: KeyFile = None,
    ledger: LedgerFile = None,
) -> None:
    """Limit the bits that may be sent to a service, or come from one camera."""
    from sfumato.core.console import note
    from sfumato.core.errors import UsageError
    from sfumato.runtime.ledger import ANY, device_ledger

    if none == (per_day is not None or total is not None):
        raise UsageError("give --per-day BITS, --total BITS or both, or --none to lift the limit")
    _, book = device_ledger(key, ledger)
    book.set_limit(service, day=per_day, total=total)
    if service != ANY:
        note(book.account(service).sentence())


@app.command()
def clock(key: KeyFile = None, ledger: LedgerFile = None) -> None:
    """The clock was wrong and is right now: go on at its day."""
    from sfumato.core.console import note

    book = existing(key, ledger)
    book.accept_clock()
    for account in book.accounts():
        note(account.sentence())


@app.command()
def repair(key: KeyFile = None, ledger: LedgerFile = None) -> None:
    """Keep what is whole of a damaged ledger; it says from then on that entries were lost."""
    from sfumato.core.console import note

    kept, aside = existing(key, ledger).repair()
    note(f"kept {kept} entries" + (f"; the file as it was is {aside}" if aside else ""))


def opened(key: Path | None, ledger: Path | None) -> "Ledger | None":
    """The ledger; None where there is none yet. Looking at it makes neither a key nor a file."""
    from sfumato.runtime.keyed_noise import default_key_path
    from sfumato.runtime.ledger import device_ledger, ledger_path

    path = ledger or ledger_path(key or default_key_path())
    if not any(file.exists() for file in (path, path.with_name(path.name + ".anchor"))):
        return None
    return device_ledger(key, ledger)[1]


def existing(key: Path | None, ledger: Path | None) -> "Ledger":
    """The ledger.

    Raises:
        UsageError: there is none.
    """
    from sfumato.core.errors import UsageError

    book = opened(key, ledger)
    if book is None:
        raise UsageError("there is no ledger yet: nothing was sent from here")
    return book
