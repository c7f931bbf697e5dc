"""The server's WebSocket, which gives a client up only when nothing moves any more.

A ping waits behind the audio that was sent before it. Its pong waits behind the client's audio,
which the server leaves unread while the client is behind with listening. A client that is only slow
must not be cut off for that.
"""

import socket
from asyncio import TimerHandle
from asyncio.transports import BaseTransport
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from menura.api.auth import authenticates_itself

SEND_BUFFER = 1 << 16
"""Bytes that the system holds of what is being sent, or it would hold some megabytes: what has left
us says nothing then of what has arrived."""

FIRST_BYTES = 1 << 16
"""Bytes of a first message, and of the second of somebody who has yet to show a key. Whole messages
lie in memory, and of such connections there may be as many as the system has."""

MOST_UNREAD = 1 << 18
"""Bytes that a client may leave unread while it goes on asking whether we are there. Audio and
events wait at a quarter of it, so what is more is answers to pings, which nothing else bounds."""


class PatientWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is kept while its client sends or reads anything at all."""

    closing_seconds = 60.0
    """For a close to be answered, and as long again for what is left to be read."""

    _moved = False
    _messages = 0
    _abort: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when a connection is made."""
        super().connection_made(transport)
        self.close_timeout = self.closing_seconds
        self.conn.max_message_size = FIRST_BYTES
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def handle_connect(self, event: Request) -> None:
        """Called when the head is there."""
        super().handle_connect(event)
        if not self.close_sent and not authenticates_itself(cast(Scope, self.scope)):
            self.conn.max_message_size = self.config.ws_max_size

    def send_receive_event_to_app(self) -> None:
        """Called when a message is whole. What comes in one piece with it is under the limit
        before, what comes later is not."""
        super().send_receive_event_to_app()
        self._messages += 1
        if self._messages > 1 or not authenticates_itself(cast(Scope, self.scope)):
            self.conn.max_message_size = self.config.ws_max_size

    def data_received(self, data: bytes) -> None:
        """Called when the client sends."""
        self._moved = True
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # A head that is refused before it is read whole: uvicorn would never send the refusal.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        self._watch_closing()

    async def send(self, message: Any) -> None:
        """Called by the application."""
        await super().send(message)
        self._watch_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is lost."""
        if self._abort is not None:
            self._abort.cancel()
        super().connection_lost(exc)

    def _watch_closing(self) -> None:
        # To close is to wait until what was written has been read.
        if self._abort is None and (self.close_sent or self.transport.is_closing()):
            self._abort = self.loop.call_later(2 * self.closing_seconds, self.transport.abort)

    def handle_ping(self) -> None:
        """Called when the client asks whether we are there."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            self.transport.abort()

    def resume_writing(self) -> None:
        """Called when the client has read enough for more to be sent."""
        self._moved = True
        super().resume_writing()

    def send_keepalive_ping(self) -> None:
        """Called when it is time to ask whether the client is there."""
        self._moved = False
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """Called when an answer is overdue."""
        kept_waiting = self.read_paused and self.writable.is_set()
        if self.ping_timeout is not None and (self._moved or kept_waiting):
            self._moved = False
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        # To close would be to wait until what is written has been read.
        self.transport.abort()
