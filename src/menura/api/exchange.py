"""Both directions of one HTTP exchange, watched together.

The framework's response classes read in order to notice a vanished client, and so would lose what
is still being uploaded. Here one task owns the reading, from the first byte to the disconnect, and
never waits for the writing: a client that reads nothing until it has sent everything gets its
answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from menura.api.stall import PatientSend
from menura.conversion.job import Job
from menura.conversion.spool import SpoolAborted

SEND_BYTES = 65_536

Headers = Iterable[tuple[str, str]]

_Result = TypeVar("_Result")


class Exchange:
    """Sending an answer while the rest of the request is being read.

    stall: seconds a client may take none of the answer once its upload is complete.
    """

    def __init__(self, receive: Receive, send: Send, stall: float) -> None:
        self._receive = receive
        self._send = PatientSend(send, stall)
        self._inbound: asyncio.Task[None] | None = None
        self._closed = False
        self.started = False

    def read(self, rest: Coroutine[Any, Any, None] | None = None) -> None:
        """Leave reading to a task: first `rest`, then waiting for the client to go."""
        if rest is not None:
            # While it still sends, a client has every right not to read.
            self._send.pause()
        self._inbound = asyncio.create_task(self._read(rest))

    def when_over(self, told: Callable[[], None]) -> None:
        """Have `told` called when the client has gone, or its upload has failed."""
        if self._inbound is not None:
            self._inbound.add_done_callback(lambda _: told())

    @property
    def over(self) -> bool:
        """Tell whether the client has gone, or its upload has failed."""
        return self._closed or (self._inbound is not None and self._inbound.done())

    def check(self) -> None:
        """Raise ClientDisconnect, or what reading the rest of the request raised."""
        if self._inbound is not None and self._inbound.done():
            self._inbound.result()

    async def close(self) -> None:
        """Stop reading."""
        if self._inbound is not None:
            self._inbound.cancel()
            await asyncio.wait({self._inbound})
            if not self._inbound.cancelled():
                self._inbound.exception()
            # A task that has failed holds its frames, and those this.
            self._inbound = None
            self._closed = True

    async def unless_gone(self, awaitable: Awaitable[_Result]) -> _Result:
        """Wait for something, but no longer than the client does. Raises as `check` does."""
        task = asyncio.ensure_future(awaitable)
        waiting: set[asyncio.Future[Any]] = {task}
        if self._inbound is not None:
            waiting.add(self._inbound)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.check()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        return task.result()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head."""
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def body(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece of the body; `more` is false with the last. Raises ClientDisconnect."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _read(self, rest: Coroutine[Any, Any, None] | None) -> None:
        if rest is not None:
            await rest
            self._send.watch()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientDisconnect


class AnswerReader:
    """A job's answer as it grows, for the event loop.

    Made before the job is approved, so that no change is missed.
    """

    def __init__(self, job: Job, exchange: Exchange) -> None:
        self._spool = job.answer
        self._exchange = exchange
        self._offset = 0
        self._changed = asyncio.Event()
        self._told = False
        self._loop = asyncio.get_running_loop()
        self._spool.listen(self._tell)
        exchange.when_over(self._changed.set)

    @property
    def size(self) -> int:
        """Bytes there are so far."""
        return self._spool.size

    async def begun(self) -> None:
        """Wait for the first bytes, or for the end of an answer without any.

        Raises SpoolAborted if the job fails first, and as `Exchange.check` does.
        """
        await self._until(lambda: bool(self._spool.size) or self._spool.finished)

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end; forgets them where they lie in memory.

        Raises SpoolAborted if the job fails, and as `Exchange.check` does.
        """
        spool = self._spool
        await self._until(lambda: spool.size > self._offset or spool.finished)
        data = spool.read_at(self._offset, SEND_BYTES)
        self._offset += len(data)
        spool.drop(self._offset)
        return data

    def _tell(self) -> None:
        """Wake the event loop, from the job's thread, unless it has been called already."""
        if not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while True:
            self._changed.clear()
            self._told = False
            if self._spool.aborted:
                raise SpoolAborted
            self._exchange.check()
            if ready():
                return
            await self._changed.wait()
