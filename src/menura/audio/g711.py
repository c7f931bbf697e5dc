"""Mu-law and A-law companding after ITU-T G.711, by table, in both directions.

Encoding rounds a 16-bit sample to the nearest code; decoding gives the code's value scaled to
16 bits. Both tables are derived from the decoder's definition in the recommendation, so that a
code always survives decoding and encoding.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import Samples

Bytes = NDArray[np.uint8]


def _ulaw_values() -> NDArray[np.int16]:
    codes = ~np.arange(256, dtype=np.uint8)
    exponent = (codes >> 4 & 7).astype(np.int32)
    magnitude = (((codes & 15).astype(np.int32) << 3) + 132 << exponent) - 132
    return np.where(codes & 128, -magnitude, magnitude).astype(np.int16)


def _alaw_values() -> NDArray[np.int16]:
    codes = np.arange(256, dtype=np.uint8) ^ np.uint8(0x55)
    exponent = (codes >> 4 & 7).astype(np.int32)
    mantissa = ((codes & 15).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent, mantissa + 256 << np.maximum(exponent - 1, 0), mantissa)
    return np.where(codes & 128, magnitude, -magnitude).astype(np.int16)


def _nearest_codes(values: NDArray[np.int16]) -> Bytes:
    """Return the code of every 16-bit sample, indexed by the sample plus 32768."""
    order = np.argsort(values, kind="stable")
    rising = values[order].astype(np.int32)
    borders = (rising[:-1] + rising[1:] + 1) // 2
    samples = np.arange(-32768, 32768)
    return order[np.searchsorted(borders, samples, side="right")].astype(np.uint8)


ULAW_VALUES = _ulaw_values()
"""The 16-bit sample of each mu-law code."""

ALAW_VALUES = _alaw_values()
"""The 16-bit sample of each A-law code."""

_ULAW_CODES = _nearest_codes(ULAW_VALUES)
_ALAW_CODES = _nearest_codes(ALAW_VALUES)
_ULAW_FLOATS = ULAW_VALUES.astype(np.float32) / np.float32(32768)
_ALAW_FLOATS = ALAW_VALUES.astype(np.float32) / np.float32(32768)


def ulaw_decode(data: bytes | bytearray | memoryview) -> Samples:
    """Return the samples, -1 to 1, of mu-law bytes."""
    return _ULAW_FLOATS[np.frombuffer(data, np.uint8)]


def alaw_decode(data: bytes | bytearray | memoryview) -> Samples:
    """Return the samples, -1 to 1, of A-law bytes."""
    return _ALAW_FLOATS[np.frombuffer(data, np.uint8)]


def ulaw_encode(samples: NDArray[np.int16]) -> bytes:
    """Return the mu-law bytes of 16-bit samples."""
    return _ULAW_CODES[samples.astype(np.int32) + 32768].tobytes()


def alaw_encode(samples: NDArray[np.int16]) -> bytes:
    """Return the A-law bytes of 16-bit samples."""
    return _ALAW_CODES[samples.astype(np.int32) + 32768].tobytes()
