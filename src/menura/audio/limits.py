"""Bounds on what one file may make FFmpeg do."""

import ctypes
from pathlib import Path

import av

MAX_ALLOCATION = 16 << 20
"""Bytes that FFmpeg may allocate at once: an index of 700,000 packets, or one large picture.

Without it a few bytes of an MP4 file can ask for an index of gigabytes.
"""

MAX_TRACKS = 18
"""Tracks of one file, each of which may have an index as large as `MAX_ALLOCATION`.

Sixteen mono channels beside a picture and a time code are as many as cameras write.
"""

_MAX_PLAIN_TRACKS = 256
_TRACKS_WITHOUT_INDEX = ("avi", "matroska", "mpeg", "mpegts")
"""Demuxers that hold no more for a track than the file has bytes for it."""

MAX_BARREN = 10_000
"""Packets in a row without a sample, minutes of a damaged file. They end no turn on a core, and no
limit of seconds applies to them."""

MAX_FRAME_SAMPLES = 1 << 20
"""Samples of one channel that one frame may decode to."""

MAX_SECONDS = 5
"""Seconds that a thread may compute before it has the next samples of a file. Nobody else has that
core meanwhile."""


def max_tracks(demuxer: str) -> int:
    """Return how many tracks a file of FFmpeg's `demuxer` may have."""
    return _MAX_PLAIN_TRACKS if demuxer in _TRACKS_WITHOUT_INDEX else MAX_TRACKS


def limit_allocations(size: int = MAX_ALLOCATION) -> bool:
    """Set FFmpeg's limit for every single allocation in this process.

    PyAV has no call for it, so FFmpeg's own library, which PyAV has loaded from its wheel, is
    asked. Returns False where it is not found (a PyAV built against a system's FFmpeg): there
    the limit stays FFmpeg's own of 2 GiB.
    """
    package = Path(av.__file__).parent
    for folder in (package.parent / "av.libs", package / ".dylibs"):
        for library in folder.glob("*avutil*"):
            set_limit = ctypes.CDLL(str(library)).av_max_alloc
            set_limit.argtypes = [ctypes.c_size_t]
            set_limit.restype = None
            set_limit(size)
            return True
    return False
