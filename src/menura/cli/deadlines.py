"""The server's HTTP, with a deadline for everything that a client owes, and fair turns.

uvicorn has a time limit only for connections on which nothing at all comes after an answer. Whoever
sends half a head, or a byte of a refused upload now and then, would keep the connection without a
key, and a system has only so many connections.

It also takes all that has come at once. Of an upload in chunks of a byte that is a second of work,
during which everybody else waits, and no key is needed to send one.
"""

import asyncio
import re
from asyncio.transports import BaseTransport
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

TURN_EVENTS = 64
"""Pieces of HTTP (heads, chunks of bodies) that one connection takes in while others wait."""

MOST_HEAD = 1 << 14
"""Bytes of a head. h11 has such a limit, but for heads that come in parts; a whole one could be ten
times as long, and take a third of a second."""

_HEAD_END = re.compile(rb"\n\r?\n")


class _Rationed(h11.Connection):
    """A connection that acts as if no more had come once its turn is over."""

    left = TURN_EVENTS

    def next_event(self) -> Any:
        """Return the next piece of HTTP. Raises RemoteProtocolError."""
        if self.left == 0:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            waiting, _ = self.trailing_data
            if len(waiting) > MOST_HEAD and not _HEAD_END.search(waiting, 0, MOST_HEAD):
                raise h11.RemoteProtocolError("The head is too long.", error_status_hint=431)
        self.left -= 1
        return super().next_event()


class _Flow(FlowControl):
    """Reading that waits for the next turn, too, or what has come would pile up."""

    _held = False

    def hold(self) -> None:
        """Read no more before the next turn."""
        self._held = True
        if self._transport.is_reading():
            self._transport.pause_reading()

    def release(self) -> None:
        """Read on, unless too much of a body waits."""
        self._held = False
        if not self.read_paused:
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        """Called when the body that waited has been taken."""
        if self._held:
            self.read_paused = False
        else:
            super().resume_reading()


class PunctualHTTP(H11Protocol):
    """HTTP/1.1 with a deadline for everything that a client owes. What a request takes, once its
    head is there and until it is answered, is left to its route."""

    flow: _Flow
    conn: _Rationed

    head_seconds = 30.0
    """For the whole head of a request, from the connection's beginning or the last answer on."""
    rest_seconds = 300.0
    """For the rest of an upload that has been answered already: many clients read no answer, a
    refusal included, before they have sent everything."""
    stall_seconds = 600.0
    """For taking anything of an answer, or sending anything meanwhile; routes that stream have a
    shorter one of their own. Also for what is left to be taken when a connection is closed."""

    _deadline: asyncio.TimerHandle | None = None
    _owes_rest = False
    _stall: asyncio.TimerHandle | None = None
    _sent_since = False
    """Whether the client has sent anything since `_stall` was set."""
    _turn: asyncio.Handle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when a connection is made."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.conn = _Rationed(h11.SERVER, MOST_HEAD)
        self.flow = _Flow(self.transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when a connection is lost."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._unset_deadline()
        self._unset_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called when the client sends."""
        self._sent_since = True
        super().data_received(data)
        self._watch()

    def handle_events(self) -> None:
        """Called when something may have come; takes in one turn's part of it."""
        self.conn.left = TURN_EVENTS
        super().handle_events()
        mine = self.transport.get_protocol() is self and not self.transport.is_closing()
        if self.conn.left == 0 and self._turn is None and mine:
            self.flow.hold()
            self._turn = self.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if self.transport.is_closing():
            return
        self.handle_events()
        if self._turn is None and not self.transport.is_closing():
            self.flow.release()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP; while something is answered, or an upload was, there is no
        room for another answer."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Called when a request has been answered."""
        super().on_response_complete()
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Called when the connection becomes a WebSocket, which has deadlines of its own."""
        self._unset_stall()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Called when the client takes less than it is sent."""
        super().pause_writing()
        self._unset_stall()
        self._await_reader()

    def resume_writing(self) -> None:
        """Called when the client has taken enough for more to be sent."""
        super().resume_writing()
        self._unset_stall()
        self._watch()

    def _watch(self) -> None:
        """Set the deadline for what the client owes now, and leave the one that is set already."""
        if self.transport.get_protocol() is not self:
            self._unset_deadline()
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        closing = self.transport.is_closing()
        if closing and self._stall is None:
            # To close is to wait until what was written has been read.
            self._stall = self.loop.call_later(self.stall_seconds, self.transport.abort)
        if answering or closing:
            self._unset_deadline()
            return
        owes_rest = self.conn.their_state is h11.SEND_BODY
        if self._deadline is not None and owes_rest == self._owes_rest:
            return
        self._unset_deadline()
        self._owes_rest = owes_rest
        seconds = self.rest_seconds if owes_rest else self.head_seconds
        self._deadline = self.loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        self.transport.close()
        self._watch()

    def _await_reader(self) -> None:
        self._sent_since = False
        self._stall = self.loop.call_later(self.stall_seconds, self._stalled)

    def _stalled(self) -> None:
        if self._sent_since and not self.transport.is_closing():
            # While it still sends, a client has every right not to read.
            self._await_reader()
        else:
            self.transport.abort()

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unset_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
