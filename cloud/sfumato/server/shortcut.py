"""Past FastAPI's machinery, for routes that need none of it.

FastAPI documents every route, but what it does for one request before the endpoint runs (five more layers, dependencies, exit
stacks) takes longer than to decode and check an upload. An endpoint that takes the request, checks everything itself and makes
its own response can be called at once.

    app.add_middleware(ShortCut, routes=routes)         # routes["/v1/predict"] = the APIRoute
"""

from collections.abc import Mapping

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.server.problems import ProblemError, refusal


class ShortCut:
    """ASGI middleware: POST to one of `routes` (path -> route) goes straight to its endpoint."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, APIRoute]) -> None:
        self.app, self.routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        known = scope["type"] == "http" and scope["method"] == "POST"
        route = self.routes.get(scope["path"]) if known else None
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"], request = route, Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except ProblemError as error:
            response = refusal(request, error)
        await response(scope, receive, send)
