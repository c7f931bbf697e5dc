"""FFmpeg's frames of sound as mono samples."""

import numpy as np
from av.audio.frame import AudioFrame

from menura.audio.level import mono, to_float
from menura.engine.interface import Samples

_SAMPLE_TYPES = {
    "u8": "u1",
    "s16": "i2",
    "s32": "i4",
    "s64": "i8",
    "flt": "f4",
    "dbl": "f8",
}


def mono_frame(frame: AudioFrame) -> Samples:
    """Return a frame's samples, mixed down.

    By hand: PyAV's `to_ndarray` knows no 64-bit integers and reads past the planes of a frame
    with exactly eight of them.
    """
    channels = frame.layout.nb_channels
    kind = np.dtype(_SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    if not frame.samples:
        return np.zeros(0, np.float32)
    if not frame.format.is_planar:
        values = np.frombuffer(memoryview(frame.planes[0]), kind, frame.samples * channels)
        return mono(to_float(values.reshape(-1, channels)))
    planes = [
        to_float(np.frombuffer(memoryview(plane), kind, frame.samples))
        for plane in frame.planes[:channels]
    ]
    return mono(np.stack(planes, axis=1))
