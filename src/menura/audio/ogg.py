"""Chained Ogg: streams one after another in a file, as internet radio and joined recordings have.

FFmpeg goes on into the next stream (a link) only if rate and channels stay, so each link is given
to it as a file of its own.
"""

from menura.audio.source import Source, read_exactly

MAX_LINKS = 1000
"""Links of one file, each of which costs an opening."""

_HEADER_SIZE = 27
_BEGINS_STREAM = 2


class OggLink:
    """One link as a source of its own, which ends where the next link begins.

    What is no page is passed on as it is, up to the next page. Raises whatever `source` raises.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._header = b""
        self._body = 0
        self._beginning = True
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end of the link."""
        if not (self._header or self._body or self._ended):
            self._header = self._page()
        if self._header:
            data, self._header = self._header[:size], self._header[size:]
            return data
        data = self._source.read(min(size, self._body)) if self._body else b""
        self._body = self._body - len(data) if data else 0
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to the link's first page; the other places are not to be asked for."""
        self._header, self._body = b"", 0
        self._beginning, self._ended = True, False
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._source.tell() - len(self._header)

    def go_on(self) -> bool:
        """Move to the next link; False if there is none."""
        while not self._ended:
            if not self.read(65_536):
                break
        another, self._ended = self._ended, False
        self._beginning = True
        return another

    def _page(self) -> bytes:
        """Return a page's header and take in how long its body is."""
        header = read_exactly(self._source, _HEADER_SIZE)
        if len(header) < _HEADER_SIZE or not header.startswith(b"OggS"):
            return self._until_a_page(header)
        begins = bool(header[5] & _BEGINS_STREAM)
        if begins and not self._beginning:
            self._source.seek(-len(header), 1)
            self._ended = True
            return b""
        # All streams of one link begin before any of them goes on.
        self._beginning = begins
        sizes = read_exactly(self._source, header[26])
        self._body = sum(sizes)
        return header + sizes

    def _until_a_page(self, data: bytes) -> bytes:
        if len(data) == _HEADER_SIZE:
            data += self._source.read(4096)
        at = data.find(b"OggS", 1)
        if at > 0:
            self._source.seek(at - len(data), 1)
            data = data[:at]
        return data
