"""Bytes on their way between a network that must not wait and a thread that may.

A spool is appended to at one end and read at the other, possibly before it is complete. Appending
never blocks: what the reader has not taken yet lies in memory, and beyond a limit in a temporary
file that has no name, so that nothing is left behind when the process dies.
"""

import io
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import IO

from menura.storage.room import room_needed

Waiting = Callable[[], AbstractContextManager[object]]
"""Entered by a reader for as long as it has to wait for more bytes."""


class SpoolAborted(Exception):
    """The writer gave up: the rest of the bytes will never come."""


class Spool:
    """An append-only run of bytes with any number of readers.

    memory: bytes kept in memory before a temporary file is used; None never uses a file.

    All methods may be called from any thread.
    """

    def __init__(self, memory: int | None) -> None:
        self._memory = memory
        self._buffer = bytearray()
        self._dropped = 0
        self._file: IO[bytes] | None = None
        self._size = 0
        self._finished = False
        self._aborted = False
        self._changed = threading.Condition()
        self._listener: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Bytes appended so far."""
        return self._size

    @property
    def finished(self) -> bool:
        """Whether the last byte has been appended."""
        return self._finished

    @property
    def aborted(self) -> bool:
        """Whether the writer gave up."""
        return self._aborted

    @property
    def on_disk(self) -> bool:
        """Whether a temporary file holds the bytes."""
        return self._file is not None

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after every change up to `abort`, in the thread that made it."""
        self._listener = listener

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end; ignored after `abort`. Raises Unavailable when the disk is full."""
        if not len(data):
            return
        with self._changed, room_needed():
            if self._finished:
                raise ValueError("the spool is finished")
            if self._aborted:
                return
            if (
                self._file is None
                and self._memory is not None
                and len(self._buffer) + len(data) > self._memory
            ):
                self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed by `abort`
                    prefix="menura-", buffering=0
                )
                self._file.write(self._buffer)
                self._buffer = bytearray()
            if self._file is None:
                self._buffer += data
            else:
                self._file.seek(0, io.SEEK_END)
                _write_whole(self._file, data)
            self._size += len(data)
            self._changed.notify_all()
        self._tell()

    def finish(self) -> None:
        """Mark the end: readers reach it instead of waiting. Does nothing after `abort`."""
        with self._changed:
            if not self._aborted:
                self._finished = True
            self._changed.notify_all()
        self._tell()

    def abort(self) -> None:
        """Give up, wake every reader with SpoolAborted and free the bytes. Safe to repeat."""
        with self._changed:
            self._aborted = True
            self._buffer = bytearray()
            if self._file is not None:
                self._file.close()
                self._file = None
            self._changed.notify_all()
        self._tell()
        # Nothing changes any more, and listeners have the spool they listen to.
        self._listener = None

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes that are already here from `offset` on, without waiting.

        Raises SpoolAborted after `abort`, ValueError for bytes that were dropped.
        """
        with self._changed:
            if self._aborted:
                raise SpoolAborted
            count = min(size, self._size - offset)
            if count <= 0:
                return b""
            if self._file is not None:
                self._file.seek(offset)
                return self._file.read(count)
            start = offset - self._dropped
            if start < 0:
                raise ValueError("these bytes were dropped")
            return bytes(memoryview(self._buffer)[start : start + count])

    def drop(self, offset: int) -> None:
        """Forget the bytes before `offset`, which nobody will read, if no file may take them."""
        with self._changed:
            if self._memory is None and self._dropped < offset <= self._size:
                del self._buffer[: offset - self._dropped]
                self._dropped = offset
            self._changed.notify_all()

    def wait_until_dropped(self, held: int) -> None:
        """Wait until at most `held` bytes lie in memory. Raises SpoolAborted."""
        self._wait(lambda: len(self._buffer) <= held)

    def reader(self, waiting: Waiting = nullcontext) -> "SpoolReader":
        """Return a seekable binary file whose `read` waits for bytes yet to come."""
        return SpoolReader(self, waiting)

    def wait_beyond(self, offset: int) -> None:
        """Wait until there is a byte at `offset`, or the end. Raises SpoolAborted."""
        self._wait(lambda: self._size > offset or self._finished)

    def wait_until_finished(self) -> None:
        """Wait for the end. Raises SpoolAborted."""
        self._wait(lambda: self._finished)

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or until())
            if self._aborted:
                raise SpoolAborted

    def _tell(self) -> None:
        listener = self._listener
        if listener is not None:
            listener()


class SpoolReader:
    """One reader's position in a spool; not shared between threads."""

    def __init__(self, spool: Spool, waiting: Waiting) -> None:
        self._spool = spool
        self._waiting = waiting
        self._position = 0

    @property
    def would_wait(self) -> bool:
        """Whether a read at this moment would have to wait for the writer."""
        spool = self._spool
        return not (spool.finished or spool.aborted or spool.size > self._position)

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move. SEEK_END waits for the end of the spool. Raises SpoolAborted."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            if not self._spool.finished:
                with self._waiting():
                    self._spool.wait_until_finished()
            offset += self._spool.size
        if offset < 0:
            raise ValueError("negative seek position")
        self._position = offset
        return offset

    def read(self, size: int = -1, /) -> bytes:
        """Return 1 to `size` bytes, b"" at the end, everything when `size` is negative.

        Waits only while there is not a single byte. Raises SpoolAborted.
        """
        if size < 0:
            pieces = []
            while piece := self.read(1 << 20):
                pieces.append(piece)
            return b"".join(pieces)
        if self.would_wait:
            with self._waiting():
                self._spool.wait_beyond(self._position)
        data = self._spool.read_at(self._position, size)
        self._position += len(data)
        return data


def _write_whole(file: IO[bytes], data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
