"""A file that a user sends, as FFmpeg reads it."""

import time
from collections.abc import Sequence

from menura import errors
from menura.audio import limits
from menura.audio.source import Source

_CARRIED = 4
"""Bytes already given that the next may make a blank of: the longest, less its last."""


class Upload:
    """The source as FFmpeg sees it, from the present position on.

    An exception of the source is kept in `failure` and told to FFmpeg as the end of the file:
    FFmpeg may go on reading after an error, and only one can be in flight through it.

    seekable: whether FFmpeg may seek; if so, it looks at the end of the file before it begins.
    blanks: bytes that FFmpeg is not to see while it opens a file, and what it sees in their place,
    which is as long and differs in the last byte alone.
    opening: whether it opens one now.
    """

    name = ""

    def __init__(
        self, source: Source, seekable: bool, blanks: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.failure: BaseException | None = None
        self.opening = False
        self._blanks = blanks
        self._given = b""
        self._deadline = 0.0
        self._source = source
        self._start = source.tell()
        self._seekable = seekable

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, none at the end or after a failure."""
        if self.failure is not None:
            return b""
        try:
            if time.thread_time() > self._deadline:
                raise errors.InvalidAudio(
                    f"The file takes more than {limits.MAX_SECONDS} seconds to find sound in.",
                    param="audio",
                )
            # PyAV copies what it gets without looking at the size it asked for.
            data = self._source.read(size)[:size]
            return self._blanked(data) if self.opening else data
        except BaseException as failure:
            self.failure = failure
            return b""

    def be_patient(self) -> None:
        """Let this thread compute for `limits.MAX_SECONDS` from now on before a read fails."""
        self._deadline = time.thread_time() + limits.MAX_SECONDS

    def _blanked(self, data: bytes) -> bytes:
        before = len(self._given)
        data = self._given + data
        for seen, instead in self._blanks:
            data = data.replace(seen, instead)
        self._given = data[-_CARRIED:]
        return data[before:]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; -1 if that is not possible."""
        if self.failure is not None:
            return -1
        try:
            origin = self._start if whence == 0 else 0
            return self._source.seek(origin + offset, whence) - self._start
        except ValueError:
            return -1
        except BaseException as failure:
            self.failure = failure
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._source.tell() - self._start

    def rewind(self, seekable: bool) -> None:
        """Go back to the start; `seekable` allows what was not allowed before."""
        self._source.seek(self._start)
        self._given = b""
        self._seekable = self._seekable or seekable

    def begin_here(self) -> None:
        """Make the present position the start of the file."""
        self._start = self._source.tell()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return what was asked for."""
        return self._seekable
