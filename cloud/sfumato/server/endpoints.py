"""Endpoints that run what they declare: the list of checks that guards a route also documents it.

    endpoint = Endpoint(path="/v1/predict", method="POST", respond=predict, checks=(token, rate), summary="...")
    app = Starlette(routes=[endpoint.route])
    document("sfumato", "...", [endpoint])          # OpenAPI 3.1

Starlette calls the endpoint, the endpoint calls its checks: there is no other way in. FastAPI's dependencies would say the
same, but solving them takes a tenth of the processor time of an upload.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sfumato.server.problems import ProblemDetails, problem_responses

JSON = "application/json"
REF = "#/components/schemas/{model}"
BEARER: Mapping[str, Any] = {"security": [{"HTTPBearer": []}]}
"""Says of an operation that it takes an API token."""
SECURITY = {
    "HTTPBearer": {"type": "http", "scheme": "bearer", "description": "an API token, where one is asked for"}
}


@dataclass(frozen=True)
class Check:
    """A condition on the headers of a request: it is checked before any of the body is read."""

    name: str
    run: Callable[[Request], object]
    """Raises ProblemError if the condition does not hold."""
    refusals: tuple[str, ...]
    """Kinds of problem that it raises."""
    operation: Mapping[str, Any] = field(default_factory=dict)
    """What it adds to the OpenAPI operation: `security` or `parameters`."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A path, the checks in front of it, and what answers."""

    path: str
    respond: Callable[[Request], Awaitable[Response]]
    """Called when all checks hold."""
    method: str = "GET"
    summary: str = ""
    """Empty: the endpoint stays out of the document."""
    description: str = ""
    checks: tuple[Check, ...] = ()
    """In the order in which they run."""
    refusals: tuple[str, ...] = ()
    """Kinds of problem that `respond` raises itself."""
    answer: type[BaseModel] | None = None
    """What `respond` answers, as JSON; None where `content` says it."""
    content: Mapping[str, Any] = field(default_factory=dict)
    """Media type -> what an answer holds, for OpenAPI."""
    operation: Mapping[str, Any] = field(default_factory=dict)
    """What else the OpenAPI operation says: `requestBody`, `parameters`, further `responses`."""

    @property
    def route(self) -> Route:
        """For Starlette."""
        return Route(self.path, self.handle, methods=[self.method], name=self.path)

    async def handle(self, request: Request) -> Response:
        """Check, then answer.

        Raises:
            ProblemError: a check does not hold, or `respond` refuses.
        """
        for check in self.checks:
            check.run(request)
        return await self.respond(request)


def document(title: str, description: str, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of all endpoints that have a summary."""
    shown = [endpoint for endpoint in endpoints if endpoint.summary]
    models: list[type[BaseModel]] = [ProblemDetails, *(one.answer for one in shown if one.answer)]
    _, schemas = models_json_schema([(model, "serialization") for model in models], ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "description": description, "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": SECURITY},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    """What the document says of one endpoint and its checks."""
    parts = [*(check.operation for check in endpoint.checks), endpoint.operation]
    kinds = [*(kind for check in endpoint.checks for kind in check.refusals), *endpoint.refusals]
    name = getattr(endpoint.respond, "__name__", "")
    operation: dict[str, Any] = {"summary": endpoint.summary}
    if endpoint.description:
        operation["description"] = endpoint.description
    operation["operationId"] = re.sub(r"\W", "_", f"{name}{endpoint.path}_{endpoint.method.lower()}")
    for part in parts:
        operation |= part
    if parameters := [one for part in parts for one in part.get("parameters", ())]:
        operation["parameters"] = parameters
    content = dict(endpoint.content)
    if endpoint.answer:
        content[JSON] = {"schema": {"$ref": REF.format(model=endpoint.answer.__name__)}}
    good = {"200": {"description": "OK", "content": content}}
    operation["responses"] = good | operation.get("responses", {}) | problem_responses(kinds)
    return operation
