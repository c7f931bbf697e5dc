"""Packets that hold one frame each.

PyAV decodes all frames of a packet before it gives out the first, and a packet of some KB may hold
frames that take gigabytes.
"""

from collections.abc import Iterator
from itertools import chain

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.packet import Packet

from menura import errors

_ONE_FRAME = (
    "adpcm_", "alac", "ape", "dca", "libopus", "nellymoser", "opus", "pcm_", "tta", "vorbis",
    "wavpack",
)  # fmt: skip
"""Decoders that make one frame of a packet, or but few more samples than it has bytes."""
_LARGEST = {"aac": 16 << 10, "wmav": 16 << 10, "wmapro": 32 << 10, "": 64 << 10}
"""Bytes of a packet, by how decoders begin. AAC has 768 a channel at most and needs four for a
frame of silence, WMA has 15,000 at 320 kbit/s and needs two."""

_PARSED = 4096
_FLAC_SYNCS = (b"\xff\xf8", b"\xff\xf9")


def apart(packet: "Packet[AudioStream]", decoder: str) -> "Iterator[Packet[AudioStream]]":
    """Yield the packets of one frame that a packet for FFmpeg's `decoder` holds.

    Raises InvalidAudio for one that is larger than any of its kind.
    """
    if decoder == "flac":
        yield from _flac_frames(packet)
        return
    largest = next(size for name, size in _LARGEST.items() if decoder.startswith(name))
    if packet.size > largest and not decoder.startswith(_ONE_FRAME):
        raise errors.InvalidAudio(
            f"The file holds a packet of {packet.size} bytes, more than any of its codec has.",
            param="audio",
        )
    yield packet


def _flac_frames(packet: "Packet[AudioStream]") -> "Iterator[Packet[AudioStream]]":
    data = bytes(packet)
    if sum(map(data.count, _FLAC_SYNCS)) < 2:
        yield packet
        return
    # What looks like a second frame is mostly chance.
    parser = av.CodecContext.create("flac", "r")
    assert isinstance(parser, AudioCodecContext)
    pieces = (parser.parse(data[at : at + _PARSED]) for at in range(0, len(data), _PARSED))
    frames = chain(chain.from_iterable(pieces), chain.from_iterable(iter(parser.parse, [])))
    first, second = next(frames, packet), next(frames, None)
    if second is None:
        yield packet
        return
    first.pts = packet.pts
    for frame in chain((first, second), frames):
        frame.stream, frame.time_base = packet.stream, packet.time_base
        yield frame
