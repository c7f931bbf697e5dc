"""WebRTC's noise suppressor as a streaming stage."""

import numpy as np
from pywebrtc_audio import NoiseSuppressor

from menura.engine.interface import Samples

_RATE = 48_000
_BLOCK = 480
_LATE = 334
_LEVEL = 1


class Suppressor:
    """Spectral noise suppression of one mono stream, in blocks of 10 ms.

    Implements `denoise.interface.Denoiser`.
    """

    sample_rate = _RATE
    delay = _BLOCK + _LATE

    def __init__(self) -> None:
        self._suppressor = NoiseSuppressor(sample_rate=_RATE, level=_LEVEL)
        self._pending = np.zeros(0, np.float32)
        self._skip = _LATE
        self._taken = 0
        self._given = 0

    def push(self, samples: Samples) -> Samples:
        """Take samples in and return those that have become final."""
        self._taken += samples.size
        finite = np.nan_to_num(samples, posinf=0.0, neginf=0.0).clip(-1.0, 1.0)
        return self._process(finite.astype(np.float32, copy=False))

    def flush(self) -> Samples:
        """End the input and return the remaining samples. The object is spent afterwards."""
        rest = self._taken - self._given
        return self._process(np.zeros(_LATE + _BLOCK, np.float32))[:rest]

    def _process(self, samples: Samples) -> Samples:
        pending = np.concatenate((self._pending, samples))
        whole = pending.size // _BLOCK * _BLOCK
        self._pending = pending[whole:].copy()
        if not whole:
            return np.zeros(0, np.float32)
        out = np.asarray(self._suppressor.process(pending[:whole]), np.float32)
        late = min(self._skip, out.size)
        self._skip -= late
        out = out[late:]
        self._given += out.size
        return out
