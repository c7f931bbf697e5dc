"""Stored audio as an answer: all of it, or the one part that the header Range asks for."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from menura.api.auth import services_of
from menura.api.errors import error_response
from menura.api.stall import PatientSend
from menura.errors import NotFound, RangeNotSatisfiable
from menura.storage.objects import ObjectMissing

Opener = Callable[[int, int], AsyncIterator[bytes]]
"""Given the first byte and the one after the last, yields what lies between."""

_ONE_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


class StoredAudio(StreamingResponse):
    """Stored audio on its way to a client, which is given up when it takes nothing for long."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stall = services_of(scope).settings.answer_stall_timeout
        # What a client that vanished has not taken is let go of now, not when it is collected.
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with aclosing(self.body_iterator) as pieces:
            # Before the head, after which nothing can be refused any more.
            try:
                first = await anext(pieces, b"")
            except ObjectMissing:
                raise NotFound("The audio has been deleted meanwhile.") from None
            async with aclosing(_joined(first, pieces)) as self.body_iterator:
                await super().__call__(scope, receive, PatientSend(send, stall))


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def ranged(request: Request, size: int, media_type: str, opener: Opener) -> Response:
    """Return 200 with everything, 206 with a part, or 416 when the part lies beyond the end.

    Anything but one range of bytes is ignored, as HTTP allows; and so is one that is asked for only
    if nothing has changed, since answers have no validator.
    """
    headers = {"accept-ranges": "bytes"}
    conditional = "if-range" in request.headers
    part = None if conditional else _part(request.headers.get("range", ""), size)
    if part is None:
        headers["content-length"] = str(size)
        return StoredAudio(opener(0, size), media_type=media_type, headers=headers)
    start, end = part
    if start >= end:
        refusal = RangeNotSatisfiable(
            f"The audio has {size} bytes, and the range begins beyond its end.", param="range"
        )
        answer = error_response(request.scope, refusal)
        answer.headers["content-range"] = f"bytes */{size}"
        return answer
    headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    return StoredAudio(opener(start, end), status_code=206, media_type=media_type, headers=headers)


def _part(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last; null for everything."""
    found = _ONE_RANGE.fullmatch(header.strip())
    if found is None or found.group(1) is found.group(2) is None:
        return None
    first, last = found.group(1), found.group(2)
    if first is None:
        return max(0, size - int(last)), size
    if last is not None and int(last) < int(first):
        return None
    return int(first), size if last is None else min(int(last) + 1, size)
