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
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
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


MOST_EMPTY = 2_000
"""Frames in a row that make no message: pings, pongs, parts of one; after a close, tiny messages,
which nobody receives any more. They are sent far faster than they can be looked at, while everybody
else waits."""

TINY_BYTES = 16

STOPPING_SECONDS = 2.0
"""For clients to read that the server stops, which must be shorter than it has for that."""

TAKEN_BYTES = 1 << 12
"""Bytes in which frames are looked for at a time: there may be hundreds. What comes behind a whole
message waits until that was received."""


class PatientWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is kept while its client sends or reads anything at all."""

    closing_seconds = 60.0
    """For a close to be answered, and as long again for what is left to be read."""

    _moved = False
    _messages = 0
    _empty = 0
    _stopping = False
    _abort: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when a connection is made."""
        super().connection_made(transport)
        self._waiting = bytearray()
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
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                # uvicorn would close as well, and log a traceback, for which nobody needs a key.
                self.conn.send_close(CloseCode.INVALID_DATA)
                self.handle_parser_exception()
                return
        is_tiny = sum(map(len, self.frames)) < TINY_BYTES
        super().send_receive_event_to_app()
        self._messages += 1
        if not self.close_sent:
            self._empty = 0
        elif is_tiny:
            self._empty += 1
        if self._messages > 1 or not authenticates_itself(cast(Scope, self.scope)):
            self.conn.max_message_size = self.config.ws_max_size

    def data_received(self, data: bytes) -> None:
        """Called when the client sends."""
        self._moved = True
        self._waiting += data
        self._take_in()
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # A head that is refused before it is read whole: uvicorn would never send the refusal.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        self._watch_closing()

    def _take_in(self) -> None:
        while self._waiting and not self.read_paused:
            piece = bytes(self._waiting[:TAKEN_BYTES])
            del self._waiting[:TAKEN_BYTES]
            super().data_received(piece)
            if self._empty > MOST_EMPTY:
                self._waiting.clear()
                self.transport.abort()

    async def receive(self) -> Any:
        """Called by the application."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.loop.call_soon(self._read_on)
        return message

    def _read_on(self) -> None:
        if self.read_paused and (self.queue.empty() or self.close_sent):
            self.read_paused = False
            self._take_in()
            # Over TLS, to resume is to be given all that has come, which would pile up.
            if not self.read_paused:
                self.transport.resume_reading()

    async def send(self, message: Any) -> None:
        """Called by the application."""
        if self._stopping:
            raise ClientDisconnected
        await super().send(message)
        # A close resumes the reading, too.
        self._take_in()
        self._watch_closing()

    def shutdown(self) -> None:
        """Called when the server stops."""
        if self.close_sent or not self.handshake_complete or self.transport.is_closing():
            super().shutdown()
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.SERVICE_RESTART})
        self.conn.send_close(CloseCode.SERVICE_RESTART)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self._stopping = True
        # With something unread, to close now would be to reset: who talks would not hear why.
        self.close_timer = self.loop.call_later(STOPPING_SECONDS, self.transport.abort)
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is lost."""
        if self._abort is not None:
            self._abort.cancel()
        self._waiting.clear()
        super().connection_lost(exc)

    def _watch_closing(self) -> None:
        # To close is to wait until what was written has been read.
        if self._abort is None and (self.close_sent or self.transport.is_closing()):
            self._abort = self.loop.call_later(2 * self.closing_seconds, self.transport.abort)

    def handle_ping(self) -> None:
        """Called when the client asks whether we are there."""
        self._empty += 1
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            self.transport.abort()

    def handle_pong(self, event: Frame) -> None:
        """Called when the client says that it is there."""
        self._empty += 1
        super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """Called with a further part of a message."""
        self._empty += 1
        super().handle_cont(event)

    def resume_writing(self) -> None:
        """Called when the client has read enough for more to be sent."""
        self._moved = True
        super().resume_writing()

    def send_keepalive_ping(self) -> None:
        """Called when it is time to ask whether the client is there."""
        self._moved = False
        self._empty = 0
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
