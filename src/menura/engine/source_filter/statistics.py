"""What is known of a speaker so far: pitch median and spread, long-term spectra.

Running estimates start from a prior and forget slowly, so that they settle within the first second
of speech, follow a change of speaker, and neither drift nor depend on the chunking.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter import tract
from menura.engine.source_filter.settling import PRIOR_PITCH, PRIOR_WEIGHT
from menura.engine.source_filter.spectrum import (
    FREQUENCIES,
    Array,
    band_to_bin,
    bins_between,
    mel_bank,
    mel_edges,
)

LTAS_BANDS = 48
"""Mel-spaced bands of a long-term spectrum, 60 Hz to 12 kHz."""

PRIOR_SPREAD = 0.25
"""Standard deviation of log2 F0 that is assumed before anything is heard: 3 semitones."""

_PITCH_GRID = np.arange(np.log2(50.0), np.log2(900.0), 1 / 48)
_SPREAD_WEIGHT = 900.0
"""Voiced instants that the prior counts for where a stream's melody is scaled: 4.5 s. A spread told
from one phrase says little, and a scale that changes bends the melody."""
_MEMORY = 6_000.0
"""Voiced instants after which a speaker is forgotten: 30 s of voice."""
_TIMBRE_WEIGHT = 60.0
"""Instants that the average speaker counts for in the long-term spectra: 0.3 s of speech."""
_PEAK_DECAY = 0.002
"""Decay of the peak level in nepers per instant: 1.7 dB a second."""
_FAINT = 7.0
"""Nepers of power under the peak at which a sound without voice no longer counts as speech."""
_MISHEARD = 300.0
"""Unvoiced instants that may turn out to be too faint for speech and be kept: 1.5 s."""
_EVERY = 4
"""Every so many firmly voiced instants are compared with the average speaker's."""
_LOW_BANDS, _FIRM = 3, 0.75
"""Lowest bands, and the periodic share in them over which voice is firm: breath and creak tell less
of the tract than of the throat."""
_SPEECH = bins_between(100.0, 5_000.0)

BANK: Array = mel_bank(mel_edges(LTAS_BANDS)).astype(np.float32)
"""Averages bins to bands, (BINS, LTAS_BANDS)."""
_BAND_TO_BIN = band_to_bin(np.matmul(BANK.T, FREQUENCIES, dtype=np.float64))


def ltas_at_bins(bands: Array) -> Array:
    """Return a long-term spectrum at every bin, (..., LTAS_BANDS) to (..., BINS)."""
    return np.asarray(bands @ _BAND_TO_BIN, dtype=np.float32)


def spectral_level(envelope: Array) -> Array:
    """Return the log of the mean power between 100 Hz and 5 kHz, per row of an envelope."""
    power = np.exp(envelope[:, _SPEECH]).mean(axis=1)
    return np.asarray(np.log(power + 1e-12), dtype=np.float32)


class SpeakerStatistics:
    """Running statistics of one stream.

    While nobody speaks for long, the peak falls until a room's noise, or silence itself, counts as
    unvoiced speech. When somebody does speak, it is forgotten.
    """

    def __init__(self) -> None:
        prior = np.exp(-0.5 * ((_PITCH_GRID - PRIOR_PITCH) / 0.5) ** 2)
        model = tract.average()
        self._histogram = PRIOR_WEIGHT * prior / prior.sum()
        self._usual = _TIMBRE_WEIGHT * model["timbre"].astype(np.float64)
        self._sums = self._usual.copy()
        self._weights = np.full(2, _TIMBRE_WEIGHT)
        self._breath = _TIMBRE_WEIGHT * model["breath"].astype(np.float64)
        self._likelihoods = np.zeros(len(tract.WARPS))
        self._firm = 0.0
        self._peak = -20.0
        self._unvoiced = self._unvoiced_level = 0.0
        self.pitch = np.array([PRIOR_PITCH, PRIOR_SPREAD], dtype=np.float32)
        """Median and spread of log2 F0."""
        self.tract = 1.0
        """Vocal-tract factor."""

    @property
    def steady_spread(self) -> float:
        """Spread of log2 F0 that moves slowly from the prior to what was heard."""
        heard = float(self._weights[0])
        spread = float(self.pitch[1])
        return (PRIOR_SPREAD * _SPREAD_WEIGHT + spread * heard) / (_SPREAD_WEIGHT + heard)

    @property
    def timbre(self) -> Array:
        """Mean log spectra of voiced and of unvoiced speech, (2, LTAS_BANDS)."""
        return np.asarray(self._sums / self._weights[:, None], dtype=np.float32)

    @property
    def breath(self) -> Array:
        """Mean periodic share of voiced speech per band, (BANDS,)."""
        return np.asarray(self._breath / self._weights[0], dtype=np.float32)

    def push(self, f0: Array, periodicity: Array, envelope: Array) -> None:
        """Hear a block of instants."""
        level = spectral_level(envelope)
        self._peak = max(self._peak - _PEAK_DECAY * len(level), float(level.max()))
        voiced = (f0 > 0) & (level > self._peak - 5.0)
        unvoiced = (f0 == 0) & (level > self._peak - _FAINT)
        if not (voiced.any() or unvoiced.any()):
            return
        if voiced.any():
            self._forget_what_was_faint()
        self._forget(0, int(voiced.sum()))
        self._forget(1, int(unvoiced.sum()))
        self._unvoiced_level += float(level[unvoiced].sum())
        bands = envelope @ BANK - level[:, None]
        self._sums[0] += bands[voiced].sum(axis=0)
        self._sums[1] += bands[unvoiced].sum(axis=0)
        if voiced.any():
            self._breath += periodicity[voiced].sum(axis=0)
            self._hear_pitch(np.log2(f0[voiced].astype(np.float64)))
            firm = envelope[voiced & (periodicity[:, :_LOW_BANDS].mean(axis=1) > _FIRM)]
            self._likelihoods += _EVERY * tract.log_likelihoods(firm[::_EVERY])
            self._firm += _EVERY * len(firm[::_EVERY])
            self.tract = tract.tract(self._likelihoods, self._firm, float(self.pitch[0]))

    def _forget(self, kind: int, heard: int) -> None:
        keep = max(0.0, 1.0 - heard / _MEMORY)
        self._sums[kind] *= keep
        self._weights[kind] = self._weights[kind] * keep + heard
        if kind == 0:
            self._breath *= keep
            self._histogram *= keep
            self._likelihoods *= keep
            self._firm *= keep
        else:
            self._unvoiced = self._unvoiced * keep + heard
            self._unvoiced_level *= keep

    def _forget_what_was_faint(self) -> None:
        """Forget unvoiced speech whose mean level is too low for any beside the voice of now."""
        faint = self._unvoiced_level < self._unvoiced * (self._peak - _FAINT)
        if faint and self._unvoiced > _MISHEARD:
            self._sums[1], self._weights[1] = self._usual[1], _TIMBRE_WEIGHT
            self._unvoiced = self._unvoiced_level = 0.0

    def _hear_pitch(self, logs: NDArray[np.float64]) -> None:
        cells = np.clip(np.rint((logs - _PITCH_GRID[0]) * 48), 0, len(_PITCH_GRID) - 1)
        np.add.at(self._histogram, cells.astype(np.intp), 1.0)
        share = np.cumsum(self._histogram) / self._histogram.sum()
        low, half, high = np.interp([0.16, 0.5, 0.84], share, _PITCH_GRID + 1 / 96)
        self.pitch = np.array([half, (high - low) / 2], dtype=np.float32)
