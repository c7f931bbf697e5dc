"""Chained Ogg: streams one after another in a file, as internet radio and joined recordings have.

FFmpeg goes on into the next stream (a link) only if rate and channels stay, so each link is given
to it as a file of its own. It compares every comment with all before it, so that a megabyte of them
takes it minutes, in which nothing can stop it: it does not get to see them where they are many.
"""

from collections.abc import Iterator
from functools import lru_cache

from menura.audio.source import Source, read_exactly

MAX_LINKS = 1000
"""Links of one file, each of which costs an opening."""

_MOST_COMMENTS = 1000

_HEADER_SIZE = 27
_CONTINUES_PACKET, _BEGINS_STREAM = 1, 2
_SERIAL = slice(14, 18)
_CHECKSUM = slice(22, 26)

_COMMENTS: tuple[tuple[bytes, tuple[bytes, ...], int], ...] = (
    (b"\x01", (b"\x03",), 7),  # Vorbis and OGM
    (b"OpusHead", (b"OpusTags",), 8),
    (b"\x7fFLAC", (b"\x04", b"\x84"), 4),
    (b"\x80daala", (b"\x81daala",), 6),
    (b"\x80theora", (b"\x81",), 7),
    (b"OVP80", (b"OVP80\x02",), 7),
    (b"CELT", (b"",), 0),
    (b"Speex", (b"",), 0),
)
"""By how a stream's first packet begins: how packets of comments begin, and where these lie."""
_SPEEX = b"Speex"
"""Only its second packet is one of comments."""


class OggLink:
    """One link as a source of its own, which ends where the next link begins.

    What is no page is passed on as it is, up to the next page. Raises whatever `source` raises.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._page_left = b""
        self._streams: dict[bytes, bytes] = {}
        self._beginning = True
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end of the link."""
        if not (self._page_left or self._ended):
            self._page_left = self._page()
        data, self._page_left = self._page_left[:size], self._page_left[size:]
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to the link's first page; the other places are not to be asked for."""
        self._page_left = b""
        self._beginning, self._ended = True, False
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._source.tell() - len(self._page_left)

    def go_on(self) -> bool:
        """Move to the next link; False if there is none."""
        while not self._ended:
            if not self.read(65_536):
                break
        another, self._ended = self._ended, False
        self._beginning = True
        return another

    def _page(self) -> bytes:
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
        page = header + sizes + read_exactly(self._source, sum(sizes))
        inner = page.find(b"OggS", 1)
        if inner > 0 and not _is_whole(page):
            # FFmpeg takes a damaged page for junk, and looks for the next within it.
            self._source.seek(inner - len(page), 1)
            return page[:inner]
        return self._without_comments(page, sizes)

    def _without_comments(self, page: bytes, sizes: bytes) -> bytes:
        """Return a page of this link in which no packet begins that holds too many comments."""
        serial = page[_SERIAL]
        packets = list(_packets(page, sizes))
        if page[5] & _BEGINS_STREAM:
            self._streams[serial] = page[_HEADER_SIZE + len(sizes) :][:8]
            packets = packets[1:]
        stream = self._streams.get(serial, b"")
        if stream.startswith(_SPEEX) and packets:
            self._streams[serial] = b""
            packets = packets[:1]
        out = bytearray(page)
        for beginnings, offset in _comments(stream):
            for at in packets:
                if page.startswith(beginnings, at) and _too_many(page[at + offset :]):
                    out[at + offset : at + offset + 8] = bytes(8)
                    out[_CHECKSUM] = _checksum(out)
        return bytes(out)

    def _until_a_page(self, data: bytes) -> bytes:
        if len(data) == _HEADER_SIZE:
            data += self._source.read(4096)
        at = data.find(b"OggS", 1)
        if at > 0:
            self._source.seek(at - len(data), 1)
            data = data[:at]
        return data


def _comments(stream: bytes) -> Iterator[tuple[tuple[bytes, ...], int]]:
    """Yield how packets of comments begin, and where these lie, for what a stream begins with."""
    for first, beginnings, offset in _COMMENTS:
        if stream.startswith(first):
            yield beginnings, offset


def _packets(page: bytes, sizes: bytes) -> Iterator[int]:
    """Yield where packets begin in a page."""
    at = _HEADER_SIZE + len(sizes)
    begins = not page[5] & _CONTINUES_PACKET
    for size in sizes:
        if begins:
            yield at
        at += size
        begins = size < 255


def _too_many(comments: bytes) -> bool:
    """Whether these are too many comments, or a page does not show how many."""
    count = 4 + int.from_bytes(comments[:4], "little")
    if count + 4 > len(comments):
        return len(comments) >= 8
    return int.from_bytes(comments[count : count + 4], "little") > _MOST_COMMENTS


def _is_whole(page: bytes) -> bool:
    return _checksum(page) == page[_CHECKSUM]


def _checksum(page: bytes | bytearray) -> bytes:
    """Return what a page has as its checksum: that of itself with zeros in its place."""
    table, value = _checksums(), 0
    for byte in page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value.to_bytes(4, "little")


@lru_cache
def _checksums() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            carried = 0x04C11DB7 if value >> 31 else 0
            value = (value << 1 & 0xFFFFFFFF) ^ carried
        table.append(value)
    return tuple(table)
