"""A live stream that outlives its connection: what it was sent, what it has made, who listens."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from menura.accounts import Principal
from menura.conversion.lanes import Seat
from menura.errors import InvalidParameters, Unavailable, shown
from menura.history import NewItem, Recording
from menura.ids import new_id
from menura.live.chain import LiveRequest
from menura.live.worker import LiveWorker

KEPT_BYTES = 1 << 22
"""Output kept for a connection that resumes: 43 s of the densest format, `pcm_48000`. What no
connection has been given yet is kept besides."""

PIECE_BYTES = 1 << 16
"""Output given at a time, so that what a slow listener has been given is known closely."""

MOST_MARKS = 1_000
"""Marks that may wait for their output to be read: a listener that reads nothing may go on setting
them."""

log = logging.getLogger("menura.live")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a session came to. Times in seconds."""

    seconds_in: float
    seconds_out: float
    dropped: float
    character_cost: int
    history_item_id: str | None


class LiveSession:
    """One live stream. All methods belong to the event loop that made it.

    item: what the history and the statistics tell about it.
    received: input bytes taken so far. held: set when input waits for what its worker is allowed.
    computed: done when the worker's thread is over, which touches recording and seat until then.
    ended: done with what the session came to, or failed.
    unkept: its recording could not be written whole, so that there will be no history item.
    given_up: its client has heard all or has gone, so that nobody can resume it.
    voice_id, asked: the voice, and what the client itself said of its settings, after the changes
    so far.
    """

    def __init__(
        self,
        principal: Principal,
        request: LiveRequest,
        item: NewItem,
        seat: Seat,
        recording: Recording | None,
    ) -> None:
        self.session_id = new_id()
        self.principal = principal
        self.request = request
        self.item = item
        self.recording = recording
        self.unkept = False
        self.voice_id = item.voice_id
        self.asked = request.asked
        self.received = 0
        self.given_up = False
        self._failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self.computed: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[Totals] = self._loop.create_future()
        self._output = bytearray()
        self._dropped = 0
        self._given = 0
        self._made = 0
        self.held = asyncio.Event()
        self._news = asyncio.Event()
        self._progress = asyncio.Event()
        self._marks: deque[tuple[int, str]] = deque()
        self._marks_waiting = 0
        self._listener: object | None = None
        self._last_listener: object | None = None
        self.worker = LiveWorker(request, seat, self._on_output, self._on_held, self._on_end)

    @property
    def produced(self) -> int:
        """Output bytes made so far."""
        return self._dropped + len(self._output)

    @property
    def oldest(self) -> int:
        """Offset of the oldest output byte that is still kept."""
        return self._dropped

    def feed(self, data: bytes) -> None:
        """Take input; what comes after the end is not taken. Raises InvalidAudio."""
        if self.worker.ending:
            return
        self.received += len(data)
        self.worker.feed(data)

    def fail(self, error: BaseException) -> None:
        """End the stream at once, for that reason."""
        self._failure = self._failure or error
        self.worker.stop()

    @property
    def unread(self) -> float:
        """Seconds of output that the listener has not been given."""
        # Counted when it is made, not when the event loop comes to keep it: else input that arrives
        # without a pause would be taken as fast as it is computed.
        return 8 * (self._made - self._given) / self.request.output_format.bit_rate

    async def drained(self, seconds: float) -> None:
        """Wait until at most that much input waits to be computed, and at most that much output to
        be listened to, or nothing more will be computed."""
        while max(self.worker.backlog, self.unread) > seconds and not self.computed.done():
            self._progress.clear()
            await self._progress.wait()

    def mark(self, name: str) -> None:
        """Set a mark behind the input so far; `passed` gives it when its output has been read.

        Raises InvalidParameters when MOST_MARKS wait.
        """
        if self._marks_waiting == MOST_MARKS:
            raise InvalidParameters(
                f"At most {MOST_MARKS} marks may wait for their sound to be read; {shown(name)} "
                "would be one more.",
                param="mark",
            )
        self._marks_waiting += 1

        def reached(offset: int) -> None:
            self._marks.append((offset, name))
            self._wake()

        def taken() -> None:
            held = self.worker.held * self.request.output_format.bit_rate / 8
            self._loop.call_soon_threadsafe(reached, self._made + round(held))

        self.worker.change(None, None, taken)

    def passed(self, offset: int) -> list[str]:
        """Take the marks that lie at or before an offset of the output, all at its end."""
        names = []
        over = self.computed.done() and offset >= self.produced
        while self._marks and (over or self._marks[0][0] <= offset):
            names.append(self._marks.popleft()[1])
        self._marks_waiting -= len(names)
        return names

    def attach(self) -> object:
        """Become the one connection that listens; return a token for `detach`."""
        self._listener = object()
        self._wake()
        return self._listener

    def listens(self, token: object) -> bool:
        """Tell whether that connection is still the one that listens."""
        return self._listener is token

    def detach(self, token: object) -> bool:
        """Stop listening; False if another connection has taken over meanwhile."""
        if self._listener is not token:
            return False
        self._listener = None
        self._last_listener = token
        return True

    def left_by(self, token: object) -> bool:
        """Tell whether no connection has listened since that one stopped."""
        return self._listener is None and self._last_listener is token

    def give_up(self) -> None:
        """End the stream, since nobody will listen any more; what was said is still converted."""
        self.given_up = True
        self.worker.end()

    async def output(self, token: object, offset: int) -> tuple[int, bytes]:
        """Wait for output beyond `offset`; return some of it and the offset behind it.

        The listener has been given all before `offset`. Empty when there will be no more, when
        another connection has taken over, or when a mark is at `offset`.
        """
        while True:
            if self._listener is not token:
                return offset, b""
            self._given = offset
            self._progress.set()
            start = offset - self._dropped
            piece = min(PIECE_BYTES, self._marks[0][0] - offset) if self._marks else PIECE_BYTES
            if offset < self.produced and piece > 0:
                data = bytes(self._output[start : start + piece])
                return offset + len(data), data
            if self.computed.done() or (self._marks and self._marks[0][0] <= offset):
                return offset, b""
            self._news.clear()
            await self._news.wait()

    def _on_output(self, data: bytes) -> None:
        if self.recording is not None and not self.unkept:
            try:
                self.recording.write(data)
            except (OSError, Unavailable) as error:
                # A conversation does not end because nobody can keep it.
                log.error("The audio of a live stream cannot be stored: %s", error)
                self.unkept = True
                self.recording.abandon()
        self._made += len(data)
        self._loop.call_soon_threadsafe(self._keep, data)

    def _on_held(self) -> None:
        self._loop.call_soon_threadsafe(self.held.set)

    def _on_end(self, failure: BaseException | None) -> None:
        self._loop.call_soon_threadsafe(self._finish, failure)

    def _keep(self, data: bytes) -> None:
        self._output += data
        excess = self._given - self._dropped - KEPT_BYTES
        if excess > 0:
            del self._output[:excess]
            self._dropped += excess
        self._wake()

    def _finish(self, failure: BaseException | None) -> None:
        failure = self._failure or failure
        if failure is None:
            self.computed.set_result(None)
        else:
            self.computed.set_exception(failure)
        self._wake()

    def _wake(self) -> None:
        self._progress.set()
        self._news.set()
