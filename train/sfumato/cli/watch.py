"""`sfumato watch`: cameras at the edge; frames are perturbed here, and a scene is asked about once."""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.arguments import LedgerFile, PublicKey
from sfumato.cli.send import answer_text

if TYPE_CHECKING:
    from sfumato.server.watch import Sight


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    server: Annotated[str, typer.Option(help="Address of the service, https://...")],
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE",
            help="A video file, an address (rtsp, rtsps, http, https) or a V4L2 device; may be repeated.",
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            help="File of NAME=SOURCE lines: a password there is not seen in the list of processes."
        ),
    ] = None,
    every: Annotated[float, typer.Option(help="Seconds between two frames of a camera.")] = 1.0,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            max=255,
            help="Levels of 255 by which a block may differ within a scene; 0: every frame is one.",
        ),
    ] = 20.0,
    scenes: Annotated[
        int, typer.Option(min=1, max=1000, help="Scenes of a camera that are remembered, in memory.")
    ] = 16,
    limit_bits: Annotated[
        float | None, typer.Option(help="Most bits of each of these cameras in all; kept in the ledger.")
    ] = None,
    limit_bits_per_day: Annotated[
        float | None, typer.Option(help="Most bits of each of these cameras a day (UTC); kept in the ledger.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Device key; else ~/.config/sfumato/device.key, made if missing.")
    ] = None,
    ledger: LedgerFile = None,
    public_key: PublicKey = None,
    token: Annotated[
        str | None, typer.Option(envvar="SFUMATO_TOKEN", help="API token; better in the variable.")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, max=20, help="Tries of one upload at a time.")] = 3,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 15.0,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Allow http:// to a service beyond this machine.")
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Send frames too that look like none that the model was made for."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for every frame.")] = False,
) -> None:
    """Watch cameras: perturb a frame of every scene here, ask the service, repeat its answer while the scene lasts."""
    from threading import Event

    from sfumato.core.console import note
    from sfumato.core.errors import UsageError
    from sfumato.runtime.ledger import camera_account, device_ledger
    from sfumato.runtime.makers import require_maker
    from sfumato.runtime.phone_model import PhoneModel
    from sfumato.runtime.scenes import SceneConfig
    from sfumato.server.client import Client, ClientConfig
    from sfumato.server.video import VideoConfig, parse_camera, read_cameras
    from sfumato.server.watch import WatchConfig, summary, watch

    named = [*(camera or ()), *(read_cameras(cameras) if cameras is not None else ())]
    if not named:
        raise UsageError("give --camera NAME=SOURCE, or --cameras FILE")
    import av  # noqa: F401  # before anything is opened

    sources = [parse_camera(one) for one in named]
    config = WatchConfig(
        video=VideoConfig(every=every),
        scenes=SceneConfig(tolerance=tolerance, remembered=scenes),
        anyway=anyway,
    )
    require_maker(export, public_key)
    keys, book = device_ledger(key, ledger)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def pause(seconds: float) -> None:
        stop.wait(seconds)

    limits = {"day": limit_bits_per_day, "total": limit_bits}
    patience = ClientConfig(attempts=attempts, answer_seconds=timeout, plain_http=plain_http)
    with Client(
        PhoneModel.load(export), server, token=token, config=patience, ledger=book, sleep=pause
    ) as client:
        for source in sources:
            account = camera_account(source.name, client.service)
            if any(bits is not None for bits in limits.values()):
                book.set_limit(account, **limits)
            book.account(account)  # where no account can be kept, no camera is opened
        client.check_contract()
        told = tell_json if as_json else tell
        seen = watch(
            sources,
            client,
            lambda: keys.for_service(client.service),
            config,
            stop=stop,
            tell=told,
            note=note,
        )
        for watcher, found in summary(seen, client):
            note(f"{watcher.frames} frame(s), {watcher.begun} scene(s). {found.sentence()}")


def tell_json(sight: "Sight") -> None:
    """One line of JSON, at once."""
    sys.stdout.write(json.dumps(sight.to_json()) + "\n")
    sys.stdout.flush()


def answer_line(name: str, answer: Mapping[str, Any]) -> str:
    """An answer as `sfumato send` says it, a class with its probability.

    >>> answer_line("smiling", {"label": "yes", "probabilities": {"no": 0.1, "yes": 0.9}})
    'smiling yes (90.0 %)'
    """
    said = f"{name} {answer_text(answer)}"
    if "value" in answer or "mask" in answer:
        return said
    return f"{said} ({100 * answer['probabilities'][answer['label']]:.1f} %)"


def tell(sight: "Sight") -> None:
    """One line where a scene begins or gets its answer; further frames say nothing."""
    if not (sight.new or sight.sent_bytes):
        return
    answers = ", ".join(answer_line(name, answer) for name, answer in (sight.answers or {}).items())
    sys.stdout.write(
        f"{sight.at} {sight.camera} scene {sight.scene}: {answers or 'no answer'}; at most {sight.rate_bits:.1f} bits\n"
    )
    sys.stdout.flush()
