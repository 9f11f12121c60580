"""`sfumato send`: perturb a photo here, ask the cloud about the result."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.arguments import LedgerFile, PublicKey

if TYPE_CHECKING:
    from sfumato.server.client import Reply


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="A photo, or a WAV file, by the model."),
    ],
    server: Annotated[str, typer.Option(help="Address of the service, https://...")],
    key: Annotated[
        Path | None, typer.Option(help="Device key; else ~/.config/sfumato/device.key, made if missing.")
    ] = None,
    fresh_noise: Annotated[
        bool, typer.Option("--fresh-noise", help="Other noise every time: for measurements only.")
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="word or image (a PNG) for an answer bundle, which sends words by default; others have one alone."
        ),
    ] = None,
    strength: Annotated[
        int | None, typer.Option(help="Of one of the export's points; by default the strongest.")
    ] = None,
    ledger: LedgerFile = None,
    public_key: PublicKey = None,
    token: Annotated[
        str | None, typer.Option(envvar="SFUMATO_TOKEN", help="API token; better in the variable.")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, max=20, help="Tries before giving up.")] = 5,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 15.0,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Allow http:// beyond this machine.")
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Send a photo even if it looks like none that the model was made for."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Perturb a photo on this machine, send the upload, show the answer."""
    from sfumato.core.console import emit_json
    from sfumato.core.errors import SfumatoError, UsageError
    from sfumato.runtime.ledger import device_ledger
    from sfumato.runtime.makers import require_maker
    from sfumato.runtime.phone_model import PhoneModel
    from sfumato.server.client import Client, ClientConfig

    if key is not None and fresh_noise:
        raise UsageError("give either --key or --fresh-noise, not both")
    config = ClientConfig(attempts=attempts, answer_seconds=timeout, plain_http=plain_http)
    require_maker(export, public_key)
    keys, book = device_ledger(key, ledger)
    with Client(PhoneModel.load(export), server, token=token, config=config, ledger=book) as client:
        own = None if fresh_noise else keys.for_service(client.service)
        upload = client.phone.perturb(image, key=own, encoding=encoding, strength=strength)
        if upload.unlike and not anyway:
            raise SfumatoError(
                f"{image} looks like none of the photos this model was made for, so nothing was sent: its answer would "
                "mean nothing; --anyway sends it"
            )
        reply = client.send_upload(upload)
        account = book.account(client.service).sentence()
    if as_json:
        emit_json({**reply.to_json(), "account": account, "strength": upload.strength})
    else:
        show(reply, account)


def answer_text(answer: Mapping[str, Any]) -> str:
    """A number's value, the shares of a mask's classes, or a class.

    >>> answer_text({"label": "no", "probabilities": {"no": 0.9, "yes": 0.1}, "mask": [0, 14, 1, 2]})
    'a mask: no 90.0 %, yes 10.0 % of it'
    """
    if "mask" in answer:
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answer["probabilities"].items())
        return f"a mask: {shares} of it"
    return f"{answer['value']:.1f}" if "value" in answer else str(answer["label"])


def show(reply: "Reply", account: str) -> None:
    """Print the answer, what it cost, and what was sent by now."""
    from sfumato.core.console import note, show, table

    rows = [
        (
            name,
            answer_text(answer),
            f"{answer['label']}: {100 * answer['probabilities'][answer['label']]:.1f} %",
        )
        for name, answer in reply.answers.items()
    ]
    show(table("the cloud's answer", ("attribute", "answer", "likeliest class"), rows))
    note(
        f"sent {reply.sent_bytes:,} byte(s) that carry at most {reply.rate_bits:.1f} bits of the photo; "
        f"{1000 * reply.seconds:.0f} ms, {reply.attempts} attempt(s)"
    )
    note(account)
