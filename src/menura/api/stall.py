"""How long a client may go without reading any of an answer, live or stored."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Send


class PatientSend:
    """An ASGI `send` that gives a client up when it takes nothing for so many seconds."""

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._seconds = seconds
        self._watching = True
        self._current: asyncio.Timeout | None = None

    def pause(self) -> None:
        """Wait without end from the next message on."""
        self._watching = False

    def watch(self) -> None:
        """Give up from now on, also on the message that is being sent."""
        self._watching = True
        if self._current is not None:
            self._current.reschedule(asyncio.get_running_loop().time() + self._seconds)

    async def __call__(self, message: Message) -> None:
        """Send a message. Raises ClientDisconnect."""
        try:
            async with asyncio.timeout(self._seconds if self._watching else None) as current:
                self._current = current
                try:
                    await self._send(message)
                finally:
                    self._current = None
        except TimeoutError:
            raise ClientDisconnect from None
