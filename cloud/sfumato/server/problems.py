"""Refusals as problem details (RFC 9457): one list of kinds, one exception, one answer.

    raise ProblemError("too-large", "the limit is 4,480 bytes", headers={"Connection": "close"})

`type` is `urn:sfumato:problem:KIND`; a program reads that or the status, a person reads `detail`.
"""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
URN = "urn:sfumato:problem:"
CLOSE = {"Connection": "close"}
"""With a refusal that leaves the body unread: otherwise the server would read it all, to find the next request."""
AGAIN = {"Retry-After": "1"}
"""With a refusal that says nothing about the request: the same one may succeed soon."""

KINDS: dict[str, tuple[int, str]] = {
    "no-contract": (400, "The request does not say which contract the upload was made with"),
    "cut-off": (400, "The upload ended early"),
    "unauthorized": (401, "A valid API token is needed"),
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
    "too-many": (429, "Too many requests with this token"),
    "failed": (500, "The service failed"),
    "upstream": (502, "The service behind this gateway gave no answer"),
    "overloaded": (503, "The service is busy"),
}
"""Kind -> status, title."""


class ProblemError(Exception):
    """A refusal, raised anywhere below the routes."""

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail
        self.status, self.title = KINDS[kind]
        self.headers = dict(headers or {})


class ProblemDetails(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="What kind of problem this is", examples=[URN + "raw-photo"])
    title: str = Field(description="The kind in words")
    status: int = Field(description="The HTTP status", examples=[422])
    detail: str = Field(description="What was given, what is allowed, what to do")
    request_id: str = Field(description="Also in the header X-Request-ID and in the service's log")


def documented(*kinds: str) -> dict[int | str, dict[str, object]]:
    """The `responses` of a route for OpenAPI, with an example per kind."""
    found: dict[int | str, dict[str, object]] = {}
    for kind in kinds:
        status, title = KINDS[kind]
        entry = found.setdefault(
            status,
            {
                "model": ProblemDetails,
                "description": HTTPStatus(status).phrase,
                "content": {MEDIA_TYPE: {"examples": {}}},
            },
        )
        example = {
            "type": URN + kind,
            "title": title,
            "status": status,
            "detail": "...",
            "request_id": "9f86d081884c7d65",
        }
        entry["content"][MEDIA_TYPE]["examples"][kind] = {"value": example}  # type: ignore[index]
    return found


def install(app: FastAPI) -> None:
    """Let every error of an application leave as problem details."""

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        return refusal(request, error)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        return answer(request, "", error.status_code, phrase, str(error.detail), dict(error.headers or {}))

    app.add_exception_handler(ProblemError, refuse)
    app.add_exception_handler(HTTPException, http)


def refusal(request: Request, error: ProblemError) -> JSONResponse:
    """The response for a refusal; the request remembers its kind for log and metrics."""
    request.state.problem = error.kind
    return answer(request, error.kind, error.status, error.title, error.detail, error.headers)


def answer(
    request: Request, kind: str, status: int, title: str, detail: str, headers: Mapping[str, str]
) -> JSONResponse:
    """The response for a problem; an empty kind is one that HTTP itself names."""
    details = ProblemDetails(
        type=URN + kind if kind else "about:blank",
        title=title,
        status=status,
        detail=detail,
        request_id=getattr(request.state, "request_id", ""),
    )
    return JSONResponse(details.model_dump(), status, dict(headers), media_type=MEDIA_TYPE)
