"""The service as a Ray Serve deployment: the same application in every replica, each with its own batches.

    serve run sfumato.server.scale_out:application export=/srv/exports/gender replicas=2

Ray needs an environment of its own (requirements/ray.txt): it wants another protobuf than the export. Ray's proxy takes the
connections, so the limits of `sfumato serve` on headers and connections do not hold: put nginx or Caddy in front. Rates and
metrics are counted by each replica for itself.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette

from sfumato.server.app import AppConfig, create_app
from sfumato.server.auth import RateLimitConfig, Tokens
from sfumato.server.batching import BatchConfig
from sfumato.server.model import CloudModel
from sfumato.server.page import Page
from sfumato.server.telemetry import log_to_stderr


class RayConfig(BaseModel):
    """What `serve run` is given as NAME=VALUE, or a Serve configuration file as `args`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    export: str = Field(description="folder of an export, the same path on every node")
    replicas: int = Field(default=2, ge=1)
    tokens: str | None = Field(default=None, description="file of NAME TOKEN lines; else SFUMATO_TOKENS")
    rate: float = Field(default=50.0, gt=0, description="requests a second for a token, in each replica")
    burst: int = Field(default=100, ge=1)
    batch: int = Field(default=16, ge=1, le=1024)
    queue: int = Field(default=128, ge=1, description="uploads that may wait in a replica")
    hosts: str = Field(default="", description="names of the service, comma separated, as --allow-host")


def application(args: RayConfig) -> Any:
    """The Serve application; nothing is loaded before a replica starts."""
    from ray import serve

    def build() -> Starlette:
        return build_app(args)

    deployment = serve.deployment(
        serve.ingress(build)(),
        name="sfumato",
        num_replicas=args.replicas,
        # More than wait and run at a time would queue in Ray's proxy, out of the deadline's sight.
        max_ongoing_requests=args.queue + args.batch,
    )
    return deployment.bind()


def build_app(args: RayConfig) -> Starlette:
    """What runs in a replica.

    Raises:
        SfumatoError: no export, or no tokens in the file.
    """
    log_to_stderr()
    export = Path(args.export)
    model = CloudModel.load(export)
    config = AppConfig(
        batch=BatchConfig(largest=args.batch, queue=args.queue),
        rate=RateLimitConfig(per_second=args.rate, burst=args.burst),
        hosts=tuple(filter(None, args.hosts.split(","))),
    )
    tokens = Tokens.read(Path(args.tokens) if args.tokens else None)
    return create_app(model, config, tokens, Page.load(export, model.contract))
