"""Fair turns: as many streams compute at once as there are cores, in the order they asked."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

URGENT_RUN = 8
"""Urgent turns in a row at most while others wait, so that nobody waits for ever."""


class Cores:
    """A number of permits given out first come, first served; somebody who talks goes first.

    A stream that asks again right after its turn stands behind everybody who already waits, so
    that streams of any length advance alike, one chunk each.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._urgent: deque[threading.Lock] = deque()
        self._patient: deque[threading.Lock] = deque()
        self._run = 0
        self._guard = threading.Lock()

    @property
    def waiting(self) -> int:
        """Number of threads that wait for a turn."""
        return len(self._urgent) + len(self._patient)

    def acquire(self, *, urgent: bool = False) -> None:
        """Wait for a permit. The wait is short: every holder gives it back after one chunk.

        urgent: whether somebody hears the result as it is made; goes before those who are not.
        """
        with self._guard:
            if self._free:
                self._free -= 1
                return
            ticket = threading.Lock()
            ticket.acquire()
            (self._urgent if urgent else self._patient).append(ticket)
        ticket.acquire()

    def release(self) -> None:
        """Give a permit back, or on to whoever is next."""
        with self._guard:
            if self._urgent and (not self._patient or self._run < URGENT_RUN):
                self._run = self._run + 1 if self._patient else 0
                self._urgent.popleft().release()
            elif self._patient:
                self._run = 0
                self._patient.popleft().release()
            else:
                self._free += 1

    @contextmanager
    def turn(self, *, urgent: bool = False) -> Iterator[None]:
        """Hold a permit for one chunk of work. urgent: as in `acquire`."""
        self.acquire(urgent=urgent)
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let others compute while a stream waits for something, inside `with cores.turn():`."""
        self.release()
        try:
            yield
        finally:
            self.acquire()
