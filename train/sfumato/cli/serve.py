"""`sfumato serve`: the cloud's half of an export over HTTP, or a gateway to it."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.arguments import PublicKey

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from sfumato.server.app import AppConfig
    from sfumato.server.auth import KnownTokens
    from sfumato.server.gateway import GatewayConfig
    from sfumato.server.shared import Place


def command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    tokens: Annotated[
        Path | None, typer.Option(help="File of NAME TOKEN lines; else the variable SFUMATO_TOKENS.")
    ] = None,
    no_tokens: Annotated[
        bool, typer.Option("--no-tokens", help="Answer anyone, also beyond this machine.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name that may be asked for, besides addresses and localhost; may be repeated."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second for a token.")] = 50.0,
    burst: Annotated[int, typer.Option(min=1, help="Requests at once for a token.")] = 100,
    batch: Annotated[
        int, typer.Option(min=1, max=1024, help="Most uploads in one call of the network.")
    ] = 16,
    delay_ms: Annotated[
        float, typer.Option(min=0, help="Longest wait for uploads that are being read.")
    ] = 2.0,
    queue: Annotated[int, typer.Option(min=1, help="Uploads that may wait.")] = 128,
    deadline_ms: Annotated[float, typer.Option(min=10, help="Longest time to an answer.")] = 2000.0,
    connections: Annotated[int, typer.Option(min=1, help="Open connections.")] = 1000,
    header_seconds: Annotated[float, typer.Option(min=0.1, help="Time for the headers of a request.")] = 5.0,
    body_seconds: Annotated[float, typer.Option(min=0.1, help="Time for the body of a request.")] = 10.0,
    public_key: PublicKey = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0.1, help="Time in which some of an answer must be read.")
    ] = 10.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network, in each process.")] = 1,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes behind the port; more than one needs Linux.")
    ] = 1,
    with_page: Annotated[
        bool, typer.Option("--page/--no-page", help="Show the browser page, if it was built.")
    ] = True,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Take photos, perturb them here, send the uploads on.")
    ] = False,
    server: Annotated[
        str | None, typer.Option(help="With --gateway: address of the service, https://...")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="With --gateway: device key; else ~/.config/sfumato/device.key, made if missing."),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="With --gateway: file of the ledger; else beside the device key.")
    ] = None,
    bits_per_day: Annotated[
        float | None, typer.Option(help="With --gateway: most bits of photos a day for the service.")
    ] = None,
    bits_total: Annotated[
        float | None, typer.Option(help="With --gateway: most bits of photos for the service in all.")
    ] = None,
    scenes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="With --gateway: photos of a client that show one scene are one upload; so many are remembered.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=255,
            help="With --scenes: levels of 255 by which a block may differ within a scene, 20 if not given.",
        ),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="With --gateway: allow http:// beyond this machine.")
    ] = False,
) -> None:
    """Answer uploads over HTTP and refuse photos; or, as a gateway, take photos and pass uploads on."""
    from sfumato.core.errors import UsageError, unknown
    from sfumato.runtime.makers import require_maker
    from sfumato.server.addresses import is_loopback
    from sfumato.server.auth import RateLimitConfig, known_tokens
    from sfumato.server.http import ServerConfig, run

    levels = ("debug", "info", "warning", "error")
    if log_level not in levels:
        raise UsageError(unknown("--log-level", log_level, levels))
    if deadline_ms <= delay_ms:
        raise UsageError(f"--deadline-ms {deadline_ms:g} must be more than --delay-ms {delay_ms:g}")
    its_own = (key, ledger, bits_per_day, bits_total, scenes, tolerance, plain_http or None)
    if gateway != (server is not None) or (not gateway and any(value is not None for value in its_own)):
        raise UsageError(
            "--gateway needs --server URL; --server, --key, --ledger, --bits-per-day, --bits-total, --scenes, --tolerance "
            "and --plain-http are for it alone"
        )
    if tolerance is not None and scenes is None:
        raise UsageError("--tolerance is of scenes: give --scenes too")
    if scenes is not None and processes > 1:
        raise UsageError("each process would draw a scene once more: --scenes needs --processes 1")
    known = known_tokens(tokens)
    if known is None and not no_tokens and not is_loopback(host):
        raise UsageError(
            f"{host} reaches beyond this machine: give --tokens FILE or SFUMATO_TOKENS, or say --no-tokens"
        )
    require_maker(export, public_key)
    limit, hosts = RateLimitConfig(per_second=rate, burst=burst), tuple(allow_host or ())
    if server is not None:
        from sfumato.runtime.scenes import SceneConfig
        from sfumato.server.gateway import GatewayConfig

        apart = SceneConfig.tolerance if tolerance is None else tolerance
        looked_for = None if scenes is None else SceneConfig(tolerance=apart, remembered=scenes)
        gate = GatewayConfig(rate=limit, hosts=hosts, scenes=looked_for)
        concurrency, deadline_ms = gate.queue + gate.concurrent_sends, gate.deadline_ms
        limits = {"day": bits_per_day, "total": bits_total}
        build = partial(
            gateway_app,
            export,
            server,
            (key, ledger),
            limits,
            gate,
            known,
            threads=threads,
            plain_http=plain_http,
        )
    else:
        from sfumato.server.app import AppConfig
        from sfumato.server.batching import BatchConfig

        batches = BatchConfig(largest=batch, delay_ms=delay_ms, queue=queue, deadline_ms=deadline_ms)
        config = AppConfig(batch=batches, rate=limit, body_seconds=body_seconds, hosts=hosts)
        concurrency = queue + batch
        build = partial(service_app, export, config, known, threads=threads, with_page=with_page)
    where = ServerConfig(
        host=host,
        port=port,
        connections=connections,
        concurrency=concurrency,
        answer_seconds=deadline_ms / 2000,
        header_seconds=header_seconds,
        drain_seconds=drain_seconds,
        log_level=log_level,
    )
    if processes == 1:
        run(build(), where)
    else:
        from sfumato.server.processes import serve_processes

        serve_processes(processes, lambda place: build(place=place), where)


def service_app(
    export: Path,
    config: "AppConfig",
    tokens: "KnownTokens | None",
    *,
    threads: int,
    with_page: bool,
    place: "Place | None" = None,
) -> "Starlette":
    """The service of an export, in one of its processes if there are several."""
    from sfumato.server.app import create_app
    from sfumato.server.model import CloudModel
    from sfumato.server.page import Page

    model = CloudModel.load(export, threads=threads)
    page = Page.load(export, model.contract) if with_page else None
    return create_app(model, config, tokens, page, place)


def gateway_app(
    export: Path,
    server: str,
    files: tuple[Path | None, Path | None],
    limits: dict[str, float | None],
    config: "GatewayConfig",
    tokens: "KnownTokens | None",
    *,
    threads: int,
    plain_http: bool,
    place: "Place | None" = None,
) -> "Starlette":
    """The gateway to a service. Its own token there is the variable SFUMATO_TOKEN.

    Args:
        export: folder of the export.
        server: address of the service.
        files: of the device key and the ledger, as for `device_ledger`.
        limits: bits a day and in all; one of them replaces what the ledger holds, and without both that stays.
        config: how the gateway works.
        tokens: who may ask.
        threads: of the network.
        plain_http: allow http:// beyond this machine.
        place: which of the gateway's processes this is, if there are several.
    """
    from sfumato.runtime.ledger import device_ledger
    from sfumato.runtime.phone_model import PhoneModel
    from sfumato.server.client import Client, ClientConfig
    from sfumato.server.gateway import create_gateway

    keys, ledger = device_ledger(*files)
    client = Client(
        PhoneModel.load(export, threads=threads),
        server,
        token=os.environ.get("SFUMATO_TOKEN"),
        config=ClientConfig(attempts=3, longest_pause=2.0, plain_http=plain_http),
        ledger=ledger,
    )
    if any(bits is not None for bits in limits.values()):
        ledger.set_limit(client.service, **limits)
    ledger.account(client.service)  # where no account can be kept, no gateway starts
    return create_gateway(client, lambda: keys.for_service(client.service), config, tokens, place)
