"""What FFmpeg is not to see of a file: tags, chapters and comments in great numbers.

It compares each with all before it, so that a megabyte of them takes it minutes, in which nothing
can stop it. What it reads bit by bit is stopped by `Upload`; this is for what it reads as a whole.
"""

import re
from collections.abc import Callable

from menura.audio.source import Source, read_exactly

Screen = Callable[[bytes, bool], bytes]
"""Takes bytes of a file, and whether FFmpeg is opening it; returns as many, of which some differ in
the last byte of what they mean."""

CARRIED = 7
"""Bytes given before that decide about the next: the longest that a screen looks for, less one."""

_MATROSKA = (
    (b"\x12\x54\xc3\x67", b"\x12\x54\xc3\x66"),  # Tags
    (b"\x10\x43\xa7\x70", b"\x10\x43\xa7\x71"),  # Chapters
    (b"\x19\x41\xa4\x69", b"\x19\x41\xa4\x68"),  # Attachments, which it would keep
    (b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x6a"),  # Cues, which it would sort in one by one
    (b"fLaC\x00", b"fLaC\x80"),  # FLAC's first block of metadata, made the last
)
"""Names of Matroska's elements that hold no sound, and names that FFmpeg does not know."""

_ID3 = re.compile(rb"ID3[\x02-\x04]")
_ID3_HEADER = 10
_LARGE_ID3 = re.compile(
    rb"ID3[\x02-\x04](?=[^\xff].(?:[\x01-\x7f][\0-\x7f]|\0[\x04-\x7f])[\0-\x7f]{2})", re.DOTALL
)
"""The beginning of a tag of 64 KiB or more: four bytes of sound may look like a tag."""
_NO_ID3 = b"ID3\x05"
"""A version that FFmpeg does not know, and passes over."""


def _matroska(data: bytes, opening: bool) -> bytes:
    # Later on FFmpeg makes nothing of them, and four bytes of sound may look like a name.
    for seen, instead in _MATROSKA if opening else ():
        data = data.replace(seen, instead)
    return data


def _mp4(data: bytes, opening: bool) -> bytes:
    # A compressed index, as QuickTime wrote some before 2005.
    return data.replace(b"dcomzlib", b"dcomzlic")


def _others(data: bytes, opening: bool) -> bytes:
    return _ID3.sub(_NO_ID3, data) if opening else data


def _none(data: bytes, opening: bool) -> bytes:
    return data


def screen_for(demuxer: str | None) -> Screen:
    """Return the screen for files that FFmpeg's `demuxer` reads."""
    screens = {"matroska": _matroska, "mov": _mp4, "ogg": _none, "flac": _none}
    return screens.get(demuxer or "", _others)


class AacWithoutTags:
    """A bare AAC stream as a source in which FFmpeg reads no large ID3 tag.

    It reads one between any two frames, as a whole. Raises whatever `source` raises.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._given = b""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        data = self._source.read(size)
        before, ahead = self._given, b""
        if b"I" in data[1 - _ID3_HEADER :]:
            ahead = read_exactly(self._source, _ID3_HEADER - 1)
            self._source.seek(-len(ahead), 1)
        self._given = (before + data)[1 - len(_NO_ID3) :]
        return _LARGE_ID3.sub(_NO_ID3, before + data + ahead)[len(before) :][: len(data)]

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move."""
        self._given = b""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._source.tell()
