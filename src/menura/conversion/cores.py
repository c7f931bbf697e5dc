"""Fair turns: as many streams compute at once as there are cores, in the order they asked."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Cores:
    """A number of permits given out first come, first served.

    A stream that asks again right after its turn stands behind everybody who already waits, so
    that streams of any length advance alike, one chunk each.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[threading.Lock] = deque()
        self._guard = threading.Lock()

    @property
    def waiting(self) -> int:
        """Number of threads that wait for a turn."""
        return len(self._queue)

    def acquire(self) -> None:
        """Wait for a permit. The wait is short: every holder gives it back after one chunk."""
        with self._guard:
            if self._free:
                self._free -= 1
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._queue.append(ticket)
        ticket.acquire()

    def release(self) -> None:
        """Give a permit back, or on to whoever has waited longest."""
        with self._guard:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1


class Turn:
    """One stream's hold on the cores: `with turn:` around each chunk of work."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._held = False

    def __enter__(self) -> "Turn":
        self._cores.acquire()
        self._held = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._held = False
        self._cores.release()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let others compute while this stream waits for something, inside `with turn:` or not."""
        if not self._held:
            yield
            return
        self._held = False
        self._cores.release()
        try:
            yield
        finally:
            self._cores.acquire()
            self._held = True
