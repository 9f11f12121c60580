"""The cloud service, its client and the gateway.

    from sfumato.server import AppConfig, CloudModel, ServerConfig, create_app, run
    run(create_app(CloudModel.load("export"), AppConfig()), ServerConfig(port=8080))

A request passes `http` (uvicorn with limits), `telemetry` (metrics, log) and one of the `endpoints`. An endpoint runs its
checks (`auth`: token and rate; `uploads`: type), then `predict` reads and decodes the body, and `batching` brings uploads
together for `photo_check` and the network in `model`. `problems` are the refusals, `formats` the bodies that are taken. `app`
puts this together, with `page`, which serves the browser page in `web/`. `processes` runs it several times behind one port, and
`shared` is the memory that they share. `client` perturbs and sends; `gateway` does it for cameras that send photos, `watch` for
those that `video` reads. `scale_out` runs the service on Ray Serve.

Names are loaded when they are asked for: the client needs no web framework, the service no interpreter.
"""

from typing import TYPE_CHECKING

from sfumato.core.lazy import lazy_names

if TYPE_CHECKING:
    from sfumato.server.app import AppConfig, create_app
    from sfumato.server.auth import RateLimitConfig, Tokens
    from sfumato.server.batching import BatchConfig
    from sfumato.server.client import Client, ClientConfig, Reply, ServerError
    from sfumato.server.gateway import GatewayConfig, create_gateway
    from sfumato.server.http import ServerConfig, run
    from sfumato.server.model import AttributePrediction, CloudModel
    from sfumato.server.page import Page

__all__ = [
    "AppConfig",
    "AttributePrediction",
    "BatchConfig",
    "Client",
    "ClientConfig",
    "CloudModel",
    "GatewayConfig",
    "Page",
    "RateLimitConfig",
    "Reply",
    "ServerConfig",
    "ServerError",
    "Tokens",
    "create_app",
    "create_gateway",
    "run",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "app": ("AppConfig", "create_app"),
        "auth": ("RateLimitConfig", "Tokens"),
        "batching": ("BatchConfig",),
        "client": ("Client", "ClientConfig", "Reply", "ServerError"),
        "gateway": ("GatewayConfig", "create_gateway"),
        "http": ("ServerConfig", "run"),
        "model": ("AttributePrediction", "CloudModel"),
        "page": ("Page",),
    },
)
