"""Routes with a small JSON body: read within a limit of bytes and of seconds."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from menura.api.auth import Permitted
from menura.errors import BadRequest, RequestTooLarge

MAX_BODY = 1_048_576
"""Bytes of such a body."""

MAX_SECONDS = 30.0
"""How long such a body may take to arrive."""


class BoundedRoute(APIRoute):
    """A route whose body must be small: `APIRouter(..., route_class=BoundedRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the framework's handler, which reads whatever arrives."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        doors = [one.call for one in self.dependant.dependencies if isinstance(one.call, Permitted)]

        async def bounded(request: Request) -> Response:
            # The framework reads the body first; a caller without the permission is to be told of
            # the permission, not of what is wrong with the body.
            for door in doors:
                door.check(request.scope)
            body = await read_small_body(request)
            return await handle(Request(request.scope, _replay(request, body)))

        return bounded


async def read_small_body(request: Request) -> bytes:
    """Return the whole body. Raises RequestTooLarge, and BadRequest when it is too slow."""
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await _read(request)
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {MAX_SECONDS:.0f} seconds.") from None


async def _read(request: Request) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY:
            raise RequestTooLarge(f"The body is larger than {MAX_BODY} bytes.")
        pieces.append(piece)
    return b"".join(pieces)


def _replay(request: Request, body: bytes) -> Callable[[], Coroutine[Any, Any, Message]]:
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return await request.receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
