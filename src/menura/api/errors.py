"""Every refusal in the contract's shape, whoever raised it."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from menura.accounts.keys import PREFIX
from menura.api.values import media_type
from menura.errors import (
    BadRequest,
    InvalidContentType,
    MalformedJson,
    MenuraError,
    Unavailable,
    shown,
)

_NOT_JSON = "The body is not valid JSON."


class ErrorDetail(BaseModel):
    """Why a request was refused. `param` names the one parameter that is to blame."""

    type: str
    code: str
    message: str
    status: str
    request_id: str
    param: str | None = None


class ErrorBody(BaseModel):
    """The body of every refusal but 422."""

    detail: ErrorDetail


class ValidationItem(BaseModel):
    """One place where a request does not fit its schema."""

    loc: list[str | int]
    msg: str
    type: str


class ValidationBody(BaseModel):
    """The body of a 422."""

    detail: list[ValidationItem]


_DESCRIPTIONS = {
    400: "The request holds a value that cannot be used; the message names it.",
    401: "The key is missing, invalid, lacks a permission or has too few credits left.",
    403: "The account is not allowed to do this.",
    404: "What the request names does not exist.",
    409: "Another request changed the same thing meanwhile; try again.",
    416: "The part that was asked for lies beyond the end.",
    422: "The request does not fit the schema; each entry names one place.",
    429: "Too many requests at once; `retry-after` tells how long to wait.",
    503: "The server cannot answer at the moment; `retry-after` tells how long to wait.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with these statuses, with 401, and with 503
    while the database is away."""
    return {
        status: {
            "model": ValidationBody if status == 422 else ErrorBody,
            "description": _DESCRIPTIONS[status],
        }
        for status in (401, *statuses, 503)
    }


def internal_error() -> MenuraError:
    """Return what a client learns of an unexpected failure: nothing."""
    return MenuraError(
        "An unexpected error happened. The server's log has it under the id of this answer."
    )


def shutting_down() -> Unavailable:
    """Return what a client learns that has had nothing of its answer when the server ends."""
    return Unavailable("The server is shutting down.", retry_after=5)


def error_response(scope: Scope, error: MenuraError) -> Response:
    """Return the answer for a refusal."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return JSONResponse(
        error.body(scope["state"]["trace_id"]), status_code=error.http, headers=headers
    )


async def send_error(scope: Scope, receive: Receive, send: Send, error: MenuraError) -> None:
    """Answer a request that is not in a FastAPI route with a refusal.

    A WebSocket that is not open yet gets it as an HTTP answer where the server can do that.
    """
    await _answer(error_response(scope, error), error.code, scope, receive, send)


async def no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what no route matches, as an ASGI application."""
    if scope["type"] == "http":
        # The handlers of `install` answer it.
        raise HTTPException(404)
    refusal = JSONResponse({"detail": "Not Found"}, status_code=404)
    await _answer(refusal, "not_found", scope, receive, send)


async def _answer(
    answer: Response, reason: str, scope: Scope, receive: Receive, send: Send
) -> None:
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await answer(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": reason})


def install(app: FastAPI) -> None:
    """Teach the application to answer every exception but unexpected ones."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, MenuraError)
        return error_response(request.scope, error)

    async def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:
            if _is_json(request):
                return error_response(request.scope, MalformedJson(_NOT_JSON))
            return error_response(request.scope, BadRequest("The body cannot be read."))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers = {"allow": ", ".join(sorted(_methods(request)))}
        # The contract answers unknown paths with the framework's own words.
        return JSONResponse(
            {"detail": error.detail or HTTPStatus(error.status_code).phrase},
            status_code=error.status_code,
            headers=headers,
        )

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _validation_response(request, error.errors())

    app.add_exception_handler(MenuraError, refused)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, invalid)


def _methods(request: Request) -> set[str]:
    """Return every method of a path; the framework names those of its first route only."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(request.scope["path"]):
            # Mounted files name none, and are there to be read.
            found |= route.methods or {"GET"}
    return found | {"HEAD"} if "GET" in found else found


def not_json(request: Request) -> InvalidContentType:
    """Return the refusal of a body that is not said to be JSON."""
    named = media_type(request)[:100]
    return InvalidContentType(f"The body must be application/json, not {named!r}.")


def _is_json(request: Request) -> bool:
    """Tell whether a request says that its body is JSON."""
    return media_type(request) == "application/json" or media_type(request).endswith("+json")


def _validation_response(request: Request, errors: Sequence[Any]) -> Response:
    if any(error["type"] == "json_invalid" for error in errors):
        return error_response(request.scope, MalformedJson(_NOT_JSON))
    of_body = any(tuple(error["loc"]) == ("body",) for error in errors)
    missing = all(error["type"] == "missing" for error in errors)
    if of_body and not missing and not _is_json(request):
        return error_response(request.scope, not_json(request))
    items = [
        {"loc": list(error["loc"]), "msg": error["msg"] + _named(error), "type": error["type"]}
        for error in errors
    ]
    return JSONResponse({"detail": items}, status_code=422)


def _named(error: Any) -> str:
    """Return how the value that does not fit is named, if it is a single one and holds no key."""
    given = error.get("input")
    if error["type"] == "missing" or not isinstance(given, str | int | float):
        return ""
    return "" if isinstance(given, str) and PREFIX in given else f": {shown(given)}"
