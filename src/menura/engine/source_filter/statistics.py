"""What is known of a speaker so far: pitch median and spread, long-term spectra.

Running estimates start from a prior and forget slowly, so that they settle within the first second
of speech, follow a change of speaker, and neither drift nor depend on the chunking.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.spectrum import BINS, Array, mel

LTAS_BANDS = 48
"""Mel-spaced bands of a long-term spectrum, 60 Hz to 12 kHz."""

PRIOR_PITCH = float(np.log2(150.0))
"""Median F0 (log2 Hz) that is assumed before anything is heard: between men and women."""
PRIOR_SPREAD = 0.25
"""Standard deviation of log2 F0 that is assumed before anything is heard: 3 semitones."""

_PITCH_GRID = np.arange(np.log2(50.0), np.log2(900.0), 1 / 48)
_PRIOR_WEIGHT = 8.0
"""Voiced instants (5 ms) that the prior counts for: a first syllable outweighs it."""
_MEMORY = 6_000.0
"""Voiced instants after which a speaker is forgotten: 30 s of voice."""
_LTAS_PRIOR_WEIGHT = 100.0


def _bank() -> Array:
    edges = 700.0 * np.expm1(
        np.linspace(mel(np.array(60.0)), mel(np.array(12_000.0)), LTAS_BANDS + 2)
        / 1127.0
    )
    bins = np.arange(BINS) * (SAMPLE_RATE / 2 / (BINS - 1))
    width = np.maximum(np.diff(edges), SAMPLE_RATE / 1024)
    rising = 1 - (edges[1:-1] - bins[:, None]) / width[:-1]
    falling = 1 - (bins[:, None] - edges[1:-1]) / width[1:]
    bank = np.maximum(np.minimum(rising, falling), 0.0)
    return np.asarray(bank / bank.sum(axis=0), dtype=np.float32)


BANK: Array = _bank()
"""Averages bins to bands, (BINS, LTAS_BANDS)."""


def spread_over_bins(bands: Array) -> Array:
    """Return a long-term spectrum at every bin, (..., LTAS_BANDS) to (..., BINS)."""
    return np.asarray(bands @ _SPREAD, dtype=np.float32)


def _spread() -> Array:
    centres = BANK.T @ np.arange(BINS)
    return np.asarray(
        [np.interp(np.arange(BINS), centres, row) for row in np.eye(LTAS_BANDS)],
        dtype=np.float32,
    )


_SPREAD = _spread()


def spectral_level(envelope: Array) -> Array:
    """Return the log of the mean power between 100 Hz and 5 kHz, per row of an envelope."""
    return np.log(np.exp(envelope[:, 5:214]).mean(axis=1) + 1e-12).astype(np.float32)


class SpeakerStatistics:
    """Running statistics of one stream."""

    def __init__(self) -> None:
        spread = PRIOR_SPREAD + 0.25
        prior = np.exp(-0.5 * ((_PITCH_GRID - PRIOR_PITCH) / spread) ** 2)
        self._histogram = _PRIOR_WEIGHT * prior / prior.sum()
        self._centre = PRIOR_PITCH
        self._spread = PRIOR_SPREAD
        self._heard = 0.0
        self._sums = np.zeros((2, LTAS_BANDS))
        self._weights = np.zeros(2)
        self._peak = -20.0

    def push(self, f0: Array, envelope: Array) -> tuple[Array, Array]:
        """Take a block of instants; return its rows of `pitch` and `timbre`.

        All rows of a block carry the statistics at the block's end.
        """
        level = spectral_level(envelope)
        self._peak = max(self._peak - 0.002 * len(level), float(level.max()))
        voiced = (f0 > 0) & (level > self._peak - 6.0)
        unvoiced = (f0 == 0) & (level > self._peak - 8.0)
        self._hear_pitch(np.log2(f0[voiced].astype(np.float64)))
        bands = envelope @ BANK - level[:, None]
        self._hear_timbre(0, bands[voiced])
        self._hear_timbre(1, bands[unvoiced])
        pitch = np.tile(
            np.array([self._centre, self._spread], np.float32), (len(f0), 1)
        )
        timbre = np.tile(self.timbre()[None], (len(f0), 1, 1))
        return pitch, timbre

    def timbre(self) -> Array:
        """Return mean log spectra of voiced and of unvoiced speech, (2, LTAS_BANDS)."""
        return (self._sums / np.maximum(self._weights, 1e-9)[:, None]).astype(
            np.float32
        )

    def _hear_pitch(self, logs: NDArray[np.float64]) -> None:
        if len(logs) == 0:
            return
        counts, _ = np.histogram(
            logs, bins=np.append(_PITCH_GRID, _PITCH_GRID[-1] + 1 / 48)
        )
        keep = max(0.0, 1.0 - len(logs) / _MEMORY)
        self._histogram = self._histogram * keep + counts
        share = np.cumsum(self._histogram) / self._histogram.sum()
        quarter, half, most = np.interp([0.16, 0.5, 0.84], share, _PITCH_GRID + 1 / 96)
        self._centre, self._spread = float(half), float(most - quarter) / 2

    def _hear_timbre(self, kind: int, bands: Array) -> None:
        if len(bands):
            keep = max(0.0, 1.0 - len(bands) / _MEMORY)
            self._sums[kind] = self._sums[kind] * keep + bands.sum(axis=0)
            self._weights[kind] = self._weights[kind] * keep + len(bands)
