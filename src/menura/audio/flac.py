"""FLAC files without what is no sound: comments and pictures.

FFmpeg compares every comment with all before it, so that a megabyte of them takes it minutes, in
which nothing can stop it. It keeps every picture.
"""

from menura import errors
from menura.audio.source import Source, read_exactly, skip

_STREAMINFO = 0
_STREAMINFO_SIZE = 34
_MAGIC = b"fLaC"


class BareFlac:
    """A FLAC file as a source that holds its STREAMINFO and its frames alone.

    Raises InvalidAudio for a file without STREAMINFO, and whatever `source` raises.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._header: bytes | None = None

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        if self._header is None:
            self._header = self._begin()
        if self._header:
            data, self._header = self._header[:size], self._header[size:]
            return data
        return self._source.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to the beginning; the other places are not to be asked for."""
        self._header = None
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._source.tell()

    def _begin(self) -> bytes:
        magic, streaminfo, last = read_exactly(self._source, len(_MAGIC)), b"", False
        while not last:
            header = read_exactly(self._source, 4)
            if len(header) < 4:
                break
            last, kind, size = header[0] >= 0x80, header[0] & 0x7F, int.from_bytes(header[1:])
            if kind == _STREAMINFO and size == _STREAMINFO_SIZE and not streaminfo:
                streaminfo = bytes([0x80]) + header[1:] + read_exactly(self._source, size)
            else:
                skip(self._source, size)
        if not streaminfo:
            raise errors.InvalidAudio("The FLAC file has no STREAMINFO block.", param="audio")
        return magic + streaminfo
