"""FFmpeg's frames of sound as mono samples."""

from typing import NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from menura.audio.level import mono, to_float
from menura.engine.interface import EMPTY, Samples

_SAMPLE_TYPES = {
    "u8": "u1",
    "s16": "i2",
    "s32": "i4",
    "s64": "i8",
    "flt": "f4",
    "dbl": "f8",
}


class Block(NamedTuple):
    """Mono samples of one frame.

    rate: Hz.
    start: seconds at which the first sample belongs by the file's timestamps, None if unknown.
    """

    samples: Samples
    rate: int
    start: float | None


def mono_frame(frame: AudioFrame) -> Samples:
    """Return a frame's samples, mixed down.

    By hand: PyAV's `to_ndarray` knows no 64-bit integers and reads past the planes of a frame
    with exactly eight of them.
    """
    channels = frame.layout.nb_channels
    kind = np.dtype(_SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    if not frame.samples:
        return EMPTY
    if not frame.format.is_planar:
        values = np.frombuffer(memoryview(frame.planes[0]), kind, frame.samples * channels)
        return mono(to_float(values.reshape(-1, channels)))
    planes = [
        to_float(np.frombuffer(memoryview(plane), kind, frame.samples))
        for plane in frame.planes[:channels]
    ]
    return mono(np.stack(planes, axis=1))


def cut_to_track(blocks: list[Block], packet: "Packet[AudioStream]", before: int) -> list[Block]:
    """Cut the blocks of an MP4 track's last packet to where the track ends.

    before: samples of the track before this packet.

    Most encoders shorten the packet's duration. Apple's leave it and let the edit list end the
    track, which FFmpeg takes to be the track's duration, but cuts whole packets only. Edit lists
    count in ticks of the movie, 1/600 s at the coarsest: less than that may be their rounding.
    """
    size = sum(block.samples.size for block in blocks)
    if (
        not size
        or not packet.duration
        or any(packet.time_base * block.rate != 1 for block in blocks)
    ):
        return blocks
    left = min(size, packet.duration)
    surplus = before + size - (packet.stream.duration or 0)
    if left == size and blocks[0].rate / 600 <= surplus < size:
        left -= surplus
    kept = []
    for block in blocks:
        kept.append(block._replace(samples=block.samples[:left]))
        left = max(0, left - block.samples.size)
    return kept
