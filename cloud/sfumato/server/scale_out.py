"""The service as a Ray Serve deployment: the same application in every replica, each with its own batches.

    serve run sfumato.server.scale_out:application export=/srv/exports/gender tokens=tokens.txt replicas=2

Ray needs an environment of its own (requirements/ray.txt): it wants another protobuf than the export. Ray's proxy takes the
connections, so the limits of `sfumato serve` on headers and connections do not hold: put nginx or Caddy in front. Rates and
metrics are counted by each replica for itself.

The driver reads the tokens, once, and passes their digests: no replica sees a token, and none needs the file. Ray's proxy
listens beyond this machine as soon as it is told to, so a service without tokens does not start.
"""

import re
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.core.errors import UsageError
from sfumato.server.app import AppConfig, create_app
from sfumato.server.auth import VARIABLE, ConcurrencyLimit, RateLimitConfig, Tokens
from sfumato.server.batching import BatchConfig
from sfumato.server.gate import PAUSE_SECONDS, Gate
from sfumato.server.model import CloudModel
from sfumato.server.page import Page
from sfumato.server.telemetry import log_to_stderr

HEALTH_SECONDS = 2.0
"""From one check of a replica to the next."""
HEALTH_PATIENCE = 10.0
"""Seconds a check may take; a replica that fails is replaced."""
ID = re.compile(rb"[0-9a-f-]{16,36}")
"""An id of a request: a UUID, or one of ours."""


class RayConfig(BaseModel):
    """What `serve run` is given as NAME=VALUE, or a Serve configuration file as `args`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    export: str = Field(description="folder of an export, the same path on every node")
    replicas: int = Field(default=2, ge=1, description="replicas, at least")
    most_replicas: int = Field(
        default=0, ge=0, description="replicas, at most; 0: as many as `replicas`, always"
    )
    tokens: str | None = Field(
        default=None, description="file of NAME TOKEN lines, where the driver runs; else SFUMATO_TOKENS"
    )
    rate: float = Field(default=50.0, gt=0, description="requests a second for a token, in each replica")
    burst: int = Field(default=100, ge=1)
    batch: int = Field(default=16, ge=1, le=1024)
    queue: int = Field(default=128, ge=1, description="uploads that may wait in a replica")
    connections: int = Field(
        default=1000,
        ge=1,
        description="requests in a replica, refusals that wait included; as many more may wait for it, others get 503",
    )
    deadline_ms: float = Field(default=2000.0, ge=10, description="longest time in a replica")
    hosts: str = Field(default="", description="names of the service, comma separated, as --allow-host")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _bounds(self) -> "RayConfig":
        if 0 < self.most_replicas < self.replicas:
            raise ValueError(f"most_replicas={self.most_replicas} is less than replicas={self.replicas}")
        return self


def application(args: RayConfig) -> Any:
    """The Serve application. The tokens are read here; no model is loaded before a replica starts.

    Raises:
        SfumatoError: no tokens, or a file of them that `Tokens.read` refuses.
    """
    from ray import serve

    tokens = read_tokens(args)

    class Replica:
        def __init__(self) -> None:
            self._service = build_app(args, tokens)

        def __serve_build_asgi_app__(self) -> Starlette:  # Ray's name
            return self._service

        def check_health(self) -> None:
            if not self._service.state.ready():
                raise RuntimeError("the network is not running")

    deployment = serve.deployment(serve.ingress()(Replica), name="sfumato", **deployment_options(args))
    return deployment.bind()


def deployment_options(args: RayConfig) -> dict[str, Any]:
    """What Serve is told of the replicas: their number, what may wait, and how they are checked."""
    in_work = args.queue + args.batch
    most = args.most_replicas or args.replicas
    options: dict[str, Any] = {
        # `Gate` bounds what is in work. What Serve itself would hold back waits out of the deadline's sight.
        "max_ongoing_requests": args.connections,
        "max_queued_requests": args.connections,  # what comes at once counts as queued for a moment
        "backpressure_config": {"status_code": 503, "retry_after_s": PAUSE_SECONDS},
        "logging_config": {"enable_access_log": False},  # the service writes a line of its own
        "health_check_period_s": HEALTH_SECONDS,
        "health_check_timeout_s": HEALTH_PATIENCE,
    }
    if most == args.replicas:
        return {**options, "num_replicas": most}
    scaling = {
        "min_replicas": args.replicas,
        "max_replicas": most,
        "target_ongoing_requests": max(1, in_work // 2),
    }
    return {**options, "autoscaling_config": scaling}


def read_tokens(args: RayConfig) -> Tokens:
    """The tokens, as digests.

    Raises:
        SfumatoError: there are none, or `Tokens.read` refuses their file.
    """
    tokens = Tokens.read(Path(args.tokens) if args.tokens else None)
    if tokens is None:
        raise UsageError(f"Ray's proxy may reach beyond this machine: give tokens=FILE or {VARIABLE}")
    return tokens


def build_app(args: RayConfig, tokens: Tokens) -> Starlette:
    """What runs in a replica.

    Raises:
        SfumatoError: no export.
    """
    # Ray puts a stream into `sys.stderr` that looks for the caller of each line: that takes a tenth of an upload.
    log_to_stderr(args.log_level, sys.__stderr__)
    export = Path(args.export)
    model = CloudModel.load(export)
    config = AppConfig(
        batch=BatchConfig(largest=args.batch, queue=args.queue, deadline_ms=args.deadline_ms),
        rate=RateLimitConfig(per_second=args.rate, burst=args.burst),
        hosts=tuple(filter(None, args.hosts.split(","))),
    )
    app = create_app(model, config, tokens, Page.load(export, model.contract))
    limit = ConcurrencyLimit(args.queue + args.batch, args.deadline_ms / 2000)
    app.add_middleware(RequestId)
    app.add_middleware(Gate, limit=limit, tokens=tokens, telemetry=app.state.telemetry)
    return app


class RequestId:
    """ASGI middleware: Ray names each request and says the name in the answer's X-Request-ID; log and answer take it over."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note Ray's name, which may be one that the client chose: no other than an id comes into the log."""
        for name, value in scope.get("headers", ()):
            if name == b"x-request-id" and ID.fullmatch(value):
                scope.setdefault("state", {})["request_id"] = value.decode()
        await self.app(scope, receive, send)
