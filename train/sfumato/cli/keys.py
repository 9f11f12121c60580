"""`sfumato keys`: this device's secrets, and a new one from some day on."""

from pathlib import Path
from typing import Annotated

import typer

KeyFile = Annotated[Path | None, typer.Option("--key", help="Key file; else ~/.config/sfumato/device.key.")]

app = typer.Typer(help="Show and renew the keys that noise follows from.", no_args_is_help=True)


@app.command()
def show(
    services: Annotated[
        list[str], typer.Argument(metavar="SERVICE...", help="Hosts, as in `sfumato ledger`.")
    ],
    key: KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Show since when keys hold, and an id of each service's key for people to compare; never a key."""
    from sfumato.core.console import emit_json, table
    from sfumato.core.console import show as print_table
    from sfumato.runtime.keyring import device_keys
    from sfumato.runtime.ledger import checked_service

    ring = device_keys(key)
    rows = [
        (checked_service(service), first or "the beginning", ring.key_id(service, first))
        for service in services
        for first, _ in ring.secrets
    ]
    if as_json:
        named = [dict(zip(("service", "from", "id"), row, strict=True)) for row in rows]
        emit_json({"schema": "sfumato-keys/1", "today": ring.today(), "keys": named})
    else:
        print_table(table("keys", ("service", "from (UTC)", "id"), rows))


@app.command()
def rotate(
    day: Annotated[
        str, typer.Option("--from", help="First day (UTC) of the new key, YYYY-MM-DD; today or later.")
    ],
    key: KeyFile = None,
) -> None:
    """Add a fresh secret that holds from a day on. The ledger goes on; photos sent again count once more."""
    from sfumato.core.console import note
    from sfumato.runtime.keyed_noise import default_key_path
    from sfumato.runtime.keyring import device_keys
    from sfumato.runtime.keyring import rotate as add_secret

    device_keys(key)
    path = key or default_key_path()
    add_secret(path, day)
    note(f"{path}: a new key from {day} (UTC) on; a photo that is sent again after that is one more draw")


@app.command()
def service(
    name: Annotated[str, typer.Argument(metavar="SERVICE", help="Host of the service.")],
    out: Annotated[Path, typer.Option(help="File for the key, of mode 600.")],
    key: KeyFile = None,
) -> None:
    """Write today's key for one service alone, for a browser page or a box that knows no other."""
    import os

    from sfumato.core.console import note
    from sfumato.core.errors import SfumatoError
    from sfumato.core.failures import writing
    from sfumato.runtime.keyed_noise import write_secret
    from sfumato.runtime.keyring import device_keys
    from sfumato.runtime.ledger import checked_service

    own = device_keys(key).for_service(checked_service(name))
    if out.exists():
        raise SfumatoError(f"{out} is there already: choose another --out")
    with writing(out):
        write_secret(out, own.hex() + "\n", replace=os.link)
    note(f"wrote {out}: the key for {name} and no other service")
