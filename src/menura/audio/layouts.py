"""A guard for a fault of PyAV: it frees a file's own channel layout twice.

`av.AudioLayout` copies FFmpeg's AVChannelLayout without the map of channels that a custom layout
points to, and frees that map with itself; the frame frees it again. One AIFF or MP4 file with
eight channels is enough to end the process (PyAV 18.1). The guard makes the copy forget its map.
"""

import ctypes
import struct

import av

_UNSPECIFIED, _NATIVE, _CUSTOM = 0, 1, 2
_PROBE = struct.pack("=iiQ", _NATIVE, 8, 0x63F)


def _order_offset() -> int | None:
    """Return where in an AudioLayout its order lies, None if it cannot be found."""
    layout = av.AudioLayout("7.1")
    memory = ctypes.string_at(id(layout), type(layout).__basicsize__)
    offset = memory.find(_PROBE)
    return offset if offset >= 0 and memory.count(_PROBE) == 1 else None


_OFFSET = _order_offset()


def guarded(layout: av.AudioLayout) -> tuple[int, bool]:
    """Make a layout got from a frame or codec safe; return its channels and whether it is custom.

    To be called once on every such layout, before it can be freed.
    """
    channels = layout.nb_channels
    if _OFFSET is None:
        return channels, False
    order = ctypes.c_int.from_address(id(layout) + _OFFSET)
    if order.value != _CUSTOM:
        return channels, False
    order.value = _UNSPECIFIED
    return channels, True
