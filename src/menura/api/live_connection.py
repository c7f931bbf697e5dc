"""What every live route does with its WebSocket, whatever its messages look like."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from menura.api.errors import internal_error
from menura.errors import MalformedJson, MenuraError
from menura.live.session import LiveSession

HELLO_SECONDS = 10.0
GOODBYE_SECONDS = 1.0
BACKLOG_SECONDS = 10.0
"""Input that may wait to be computed, and output to be listened to; beyond it the socket is not
read, so that its sender is slowed."""

CLOSE_REFUSED = 1008
CLOSE_DONE = 1000
CLOSE_FAILED = 1011
CLOSE_TAKEN_OVER = 4000

REASON_BYTES = 123
"""Most that a close can say."""

LINK_FAILURES = frozenset({1006, 1011, 1012, 1013, 1014, 1015})
"""Codes of a connection that somebody or something on the way could not keep up."""

log = logging.getLogger("menura.live")


class Connection:
    """A WebSocket whose sends may come from several tasks."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._sending = asyncio.Lock()
        self._gone: Message | None = None

    async def tell(self, **event: Any) -> None:
        """Send a JSON event."""
        await self.send(json.dumps(event))

    async def refuse(self, error: MenuraError, **more: Any) -> None:
        """Send an `error` event in the API's error shape, with what else it tells."""
        detail = error.body(self._websocket.scope["state"]["trace_id"])
        await self.tell(type="error", **more, **detail)

    async def send(self, message: str | bytes) -> None:
        """Send text, or audio."""
        async with self._sending:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)

    async def receive(self) -> str | bytes:
        """Return the next message. Raises WebSocketDisconnect."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._gone = message
            raise WebSocketDisconnect(message.get("code", 1006))
        text: str | None = message.get("text")
        if text is not None:
            return text
        data: bytes = message["bytes"]
        return data

    async def said_goodbye(self) -> bool:
        """Tell of a connection that is over whether it was closed, and not lost.

        A link that breaks may have code 1005 like a close without a code, but has no reason.
        """
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            # A send may have failed before the close was read.
            async with asyncio.timeout(GOODBYE_SECONDS):
                while self._gone is None:
                    await self.receive()
        gone = self._gone or {}
        return gone.get("reason") is not None and gone.get("code") not in LINK_FAILURES

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield messages until the client closes."""
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                yield await self.receive()

    async def first(self) -> dict[str, Any]:
        """Return the first message, which must be a JSON object.

        Raises MalformedJson, WebSocketDisconnect.
        """
        async with in_time_for_hello():
            message = await self.receive()
        if isinstance(message, bytes):
            raise MalformedJson("The first message must be a JSON object, not audio.")
        return parse_object(message)

    async def close(self, code: int, reason: str = "") -> None:
        """Close, unless the other side has. A long reason is cut."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            fitting = reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code, fitting)


def parse_object(text: str) -> dict[str, Any]:
    """Return a message's JSON object. Raises MalformedJson."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedJson(f"A text message must be JSON, not {text[:60]!r}.") from None
    if not isinstance(value, dict):
        raise MalformedJson(f"A message must be a JSON object, not {text[:60]!r}.")
    return value


@contextlib.asynccontextmanager
async def in_time_for_hello() -> AsyncIterator[None]:
    """Give a client a few seconds to say what it wants. Raises MalformedJson."""
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            yield
    except TimeoutError:
        raise MalformedJson(
            f"The first message must come within {HELLO_SECONDS:g} seconds."
        ) from None


async def feed(session: LiveSession, data: bytes) -> None:
    """Give a session input, and wait while too much of it waits. Raises InvalidAudio."""
    session.feed(data)
    await session.drained(BACKLOG_SECONDS)


async def pump(*tasks: Callable[[], Any]) -> None:
    """Run all until one returns or fails; end the others; raise what the first one raised."""
    running = [asyncio.create_task(task()) for task in tasks]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not _is_gone(result):
            raise result


def _is_gone(error: BaseException) -> bool:
    """Tell whether a failure only means that the client has closed."""
    return isinstance(error, WebSocketDisconnect) or (
        isinstance(error, RuntimeError) and "close" in str(error).lower()
    )


async def answer_failure(connection: Connection, error: Exception, event: bool = True) -> None:
    """Tell the client why its stream ends, and close.

    event: whether it knows the `error` event; the reason of the close says the same in short.
    """
    code, refusal = CLOSE_REFUSED, error
    if not isinstance(refusal, MenuraError):
        log.error("A live connection failed.", exc_info=error)
        code, refusal = CLOSE_FAILED, internal_error()
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        if event:
            await connection.refuse(refusal)
        await connection.close(code, f"{refusal.code}: {refusal.message}")
