"""The pulse train that voiced speech is filtered from; shared by training and run time."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from menura.engine.neural.features import HOP, SAMPLE_RATE

Array = NDArray[np.float32]

TAPS = 16
"""Length of one band-limited pulse; it starts at its instant, so the train lags by half of it."""
PHASES = 64


@lru_cache(maxsize=1)
def _pulses() -> Array:
    """Return windowed sinc pulses at 64 sub-sample offsets, shape (65, 16)."""
    offsets = np.arange(PHASES + 1)[:, None] / PHASES
    time = np.arange(TAPS)[None, :] - TAPS / 2 + 1 - offsets
    window = np.cos(np.pi * time / (TAPS + 2)) ** 2
    return np.asarray((0.96 * np.sinc(0.96 * time) * window).astype(np.float32))


class PulseTrain:
    """Streaming band-limited pulses of unit mean power at a changing F0; one state per stream."""

    def __init__(self, phase: float = 0.0) -> None:
        self._phase = phase
        self._last: float | None = None
        self._tail = np.zeros(TAPS, np.float32)

    def push(self, f0: Array) -> Array:
        """Take F0 at frame centres, shape (n,), and return the samples between them.

        The first call ever returns `240 (n - 1)` samples from its first centre on, each later call
        `240 n`.
        """
        if self._last is not None:
            f0 = np.concatenate(([self._last], f0))
        if len(f0) == 0:
            return np.zeros(0, np.float32)
        self._last = float(f0[-1])
        count = len(f0) - 1
        share = np.arange(HOP) / HOP
        track = f0[:-1, None] + (f0[1:, None] - f0[:-1, None]) * share
        step = track.reshape(-1).astype(np.float64) / SAMPLE_RATE
        phase = self._phase + np.cumsum(step) if count else np.zeros(0)
        out = np.zeros(count * HOP + TAPS, np.float32)
        out[:TAPS] = self._tail
        if count:
            whole = np.floor(np.concatenate(([self._phase], phase)))
            hits = np.flatnonzero(np.diff(whole) > 0)
            past = (phase[hits] - whole[hits + 1]) / step[hits]
            offsets = np.clip(np.rint((1.0 - past) * PHASES), 0, PHASES).astype(int)
            pulses = _pulses()[offsets] * np.sqrt(1.0 / step[hits])[:, None].astype(np.float32)
            np.add.at(out, hits[:, None] + np.arange(TAPS), pulses)
            self._phase = float(phase[-1] - np.floor(phase[-1]))
        self._tail = out[count * HOP :].copy()
        return out[: count * HOP]
