"""A file that a user sends, as FFmpeg reads it."""

import time

from menura import errors
from menura.audio import limits
from menura.audio.screens import CARRIED, Screen
from menura.audio.source import Source


class Upload:
    """The source as FFmpeg sees it, from the present position on.

    An exception of the source is kept in `failure` and told to FFmpeg as the end of the file:
    FFmpeg may go on reading after an error, and only one can be in flight through it.

    seekable: whether FFmpeg may seek; if so, it looks at the end of the file before it begins.
    opening: whether FFmpeg opens a file now.
    """

    name = ""

    def __init__(self, source: Source, seekable: bool, screen: Screen) -> None:
        self.failure: BaseException | None = None
        self.opening = False
        self._screen = screen
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
            return self._screened(self._source.read(size)[:size])
        except BaseException as failure:
            self.failure = failure
            return b""

    def be_patient(self) -> None:
        """Let this thread compute for `limits.MAX_SECONDS` from now on before a read fails."""
        self._deadline = time.thread_time() + limits.MAX_SECONDS

    def _screened(self, data: bytes) -> bytes:
        before = len(self._given)
        data = self._screen(self._given + data, self.opening)
        self._given = data[-CARRIED:]
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
