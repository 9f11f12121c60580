"""Refusals as problem details (RFC 9457): one list of kinds, one exception, one response.

    raise ProblemError("too-large", "the limit is 4,480 bytes", headers={"Connection": "close"})

`type` is `urn:sfumato:problem:KIND`; a program reads that or the status, a person reads `detail`.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
URN = "urn:sfumato:problem:"
CLOSE = {"Connection": "close"}
"""With a refusal that leaves the body unread: otherwise the server would read it all, to find the next request."""
AGAIN = {"Retry-After": "1"}
"""With a refusal that is not the request's fault: the same one may succeed soon."""

KINDS: dict[str, tuple[int, str]] = {
    "no-contract": (400, "The request does not say which contract the upload was made with"),
    "cut-off": (400, "The upload ended early"),
    "unauthorized": (401, "A valid API token is needed"),
    "over-limit": (403, "The limit of what the service may be told is reached"),
    "no-page": (404, "This service shows no page"),
    "no-file": (404, "There is no such file"),
    "too-slow": (408, "The upload took too long"),
    "other-contract": (409, "The upload was made with another contract"),
    "no-length": (411, "The request does not say how long its body is"),
    "too-large": (413, "The body is larger than any that is taken"),
    "wrong-type": (415, "This content type is not taken"),
    "not-an-upload": (422, "This is no upload of this model"),
    "raw-photo": (422, "This looks like a photo that was not perturbed"),
    "not-a-photo": (422, "This is no photo that can be read"),
    "other-host": (421, "The request is for another host"),
    "too-many": (429, "Too many requests with this token"),
    "failed": (500, "The service failed"),
    "no-account": (500, "The account of what was sent cannot be kept, so nothing is sent"),
    "upstream": (502, "The service behind this gateway gave no answer"),
    "overloaded": (503, "The service is busy"),
}
"""Kind -> status, title."""


class ProblemError(Exception):
    """A refusal, raised anywhere below an endpoint."""

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail
        self.status, self.title = KINDS[kind]
        self.headers = dict(headers or {})


class OverloadedError(ProblemError):
    """No room, or no answer before the deadline."""

    def __init__(self, detail: str) -> None:
        super().__init__("overloaded", detail, headers=AGAIN)


class Problem(BaseModel):
    """Why there is no answer."""

    type: str = Field(description="What kind of problem this is", examples=[URN + "raw-photo"])
    title: str = Field(description="The kind in words", examples=[KINDS["raw-photo"][1]])
    status: int = Field(description="The HTTP status", examples=[422])
    detail: str = Field(description="What was given, what is allowed, what to do")


class ProblemDetails(Problem):
    """RFC 9457 problem details."""

    request_id: str = Field(description="Also in the header X-Request-ID and in the service's log")


def problem_response(
    kind: str, detail: str, *, status: int = 0, headers: Mapping[str, str] | None = None, request_id: str = ""
) -> JSONResponse:
    """The response for a problem of this kind; an empty kind is one that HTTP itself names, by `status`."""
    status, title = KINDS[kind] if kind else (status, HTTPStatus(status).phrase)
    name = URN + kind if kind else "about:blank"
    details = ProblemDetails(type=name, title=title, status=status, detail=detail, request_id=request_id)
    return JSONResponse(details.model_dump(), status, headers, media_type=MEDIA_TYPE)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """The response for a ProblemError; the request remembers its kind for log and metrics."""
    assert isinstance(error, ProblemError)
    request.state.problem = error.kind
    return problem_response(error.kind, error.detail, headers=error.headers, request_id=_request_id(request))


async def _refuse_by_http(request: Request, error: Exception) -> JSONResponse:
    """The response for what Starlette refuses: no such path, another method."""
    assert isinstance(error, HTTPException)
    detail, headers = str(error.detail), error.headers
    return problem_response(
        "", detail, status=error.status_code, headers=headers, request_id=_request_id(request)
    )


async def _fail(request: Request, _error: Exception) -> JSONResponse:
    """The response for an error of ours, without its text: that is in the log."""
    return problem_response("failed", "the log has the reason", request_id=_request_id(request))


HANDLERS: dict[Any, Any] = {ProblemError: _refuse, HTTPException: _refuse_by_http, Exception: _fail}
"""Starlette's `exception_handlers`: every error leaves as problem details."""


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


def problem_responses(kinds: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Status -> OpenAPI response, with an example for each kind."""
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = KINDS[kind]
        schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
        media: dict[str, Any] = {"schema": schema, "examples": {}}
        empty = {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: media}}
        content = found.setdefault(str(status), empty)["content"]
        example = {
            "type": URN + kind,
            "title": title,
            "status": status,
            "detail": "...",
            "request_id": "9f86d081884c7d65",
        }
        content[MEDIA_TYPE]["examples"][kind] = {"value": example}
    return found
