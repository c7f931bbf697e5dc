"""Brings the long-term spectrum of what is rendered to that of the voice's own recordings.

Mapping moves envelopes; what a listener averages over seconds is the waveform, with its harmonics,
its noise and what of the source came through. So the rendered samples are heard again, and the next
ones are equalised by what still lies between them and the voice. Half of the difference is taken
between mean log spectra, half between mean power spectra, which the loud vowels decide.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import EMPTY, HOP, ConversionSettings, Samples, Voice
from menura.engine.source_filter.mapping import towards
from menura.engine.source_filter.spectrum import (
    FFT,
    FREQUENCIES,
    Array,
    band_to_bin,
    mel_edges,
    windows,
)
from menura.engine.source_filter.voice import SPECTRUM_BANDS, SourceFilterVoice

_WINDOW = np.hanning(2 * HOP + HOP // 2 + 1)[:-1].astype(np.float32)
_LOUD = 5.5
"""Nepers of power under the running peak at which a frame no longer counts."""
_PEAK_DECAY = 0.004
"""Decay of the peak in nepers per frame."""
PRIOR_FRAMES = 50.0
"""Loud frames that "no difference" counts for: fewer follow single sounds, and cost phones."""
_MEMORY = 1_500.0
"""Loud frames after which one is forgotten: 15 s of speech."""
_MOST_CUT, _MOST_LIFT = 2.5, 2.0
"""Largest changes of a band in nepers of power."""
_FLOOR = 1e-10

_EDGES = mel_edges(SPECTRUM_BANDS, 80.0, 7_800.0)
_CENTRES = _EDGES[1:-1]


def _bank() -> Array:
    rising = (FREQUENCIES[:, None] - _EDGES[:-2]) / (_EDGES[1:-1] - _EDGES[:-2])
    falling = (_EDGES[2:] - FREQUENCIES[:, None]) / (_EDGES[2:] - _EDGES[1:-1])
    return np.maximum(np.minimum(rising, falling), 0.0).astype(np.float32)


_BANK = _bank()
_BAND_TO_BIN = band_to_bin(_CENTRES)


def _bands(samples: Array) -> Array:
    """Return the power of every whole frame of samples in bands, (n, SPECTRUM_BANDS)."""
    frames = windows(samples, len(_WINDOW))[::HOP]
    spectra = np.fft.rfft(frames * _WINDOW, FFT, axis=1)
    return np.asarray((spectra.real**2 + spectra.imag**2) @ _BANK + _FLOOR, dtype=np.float64)


def _level_free(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logs - logs.mean(axis=-1, keepdims=True))


def long_term(samples: Samples) -> Array:
    """Return the long-term spectrum of speech, (2, SPECTRUM_BANDS).

    The mean of its log power spectra and the log of their mean, over frames near the loudest, both
    without their level.
    """
    power = _bands(np.concatenate([samples, np.zeros(len(_WINDOW), np.float32)]))
    level = np.log(power.sum(axis=1))
    loud = power[level > np.quantile(level, 0.98) - _LOUD]
    logs = _level_free(np.log(loud)).mean(axis=0)
    return np.stack([_level_free(logs), _level_free(np.log(loud.mean(axis=0)))]).astype(np.float32)


class Equaliser:
    """The equaliser of one stream.

    It acts as far as `similarity_boost` goes towards the voice, and only with `use_speaker_boost`.
    prior_frames: loud frames that "no difference" counts for.
    """

    def __init__(
        self,
        voice: SourceFilterVoice,
        settings: ConversionSettings,
        prior_frames: float = PRIOR_FRAMES,
    ) -> None:
        self._prior_frames = prior_frames
        self._tail = EMPTY
        self._peak = -np.inf
        self._gain = np.zeros(SPECTRUM_BANDS)
        self._given = np.zeros(SPECTRUM_BANDS)
        self._adopt(voice)
        self._choose(settings)

    def change(self, voice: Voice | None, settings: ConversionSettings | None) -> None:
        """Change voice or settings; what was heard of the former voice is forgotten."""
        if isinstance(voice, SourceFilterVoice):
            self._adopt(voice)
        if settings is not None:
            self._choose(settings)

    def _adopt(self, voice: SourceFilterVoice) -> None:
        self._wanted = voice.spectrum.astype(np.float64)
        self._edge = int((0.95 * voice.bandwidth > _CENTRES).sum())
        self._logs = np.zeros(SPECTRUM_BANDS)
        self._power = np.zeros(SPECTRUM_BANDS)
        self._count = 0.0

    def _choose(self, settings: ConversionSettings) -> None:
        self._reach = towards(settings) if settings.use_speaker_boost else 0.0

    def gains(self, instants: int) -> Array:
        """Return log power to add to the next instants' envelopes, (instants, BINS)."""
        part = (np.arange(1, instants + 1) / instants)[:, None]
        bands = self._given + part * (self._gain - self._given)
        self._given = self._gain
        return np.asarray(bands.astype(np.float32) @ _BAND_TO_BIN, dtype=np.float32)

    def hear(self, samples: Samples, voiced: bool) -> None:
        """Hear what has been rendered. voiced: whether there is voice in it; without, nobody may
        be speaking, and nothing is learnt."""
        heard = np.concatenate([self._tail, samples])
        frames = max(0, (len(heard) - len(_WINDOW)) // HOP + 1)
        self._tail = heard[frames * HOP :]
        if frames == 0:
            return
        bands = _bands(heard[: (frames - 1) * HOP + len(_WINDOW)])
        for power, level in zip(bands, np.log(bands.sum(axis=1)), strict=True):
            self._peak = max(self._peak - _PEAK_DECAY, float(level))
            if voiced and level > self._peak - _LOUD:
                self._learn(power * np.exp(-self._given))
        self._settle()

    def _learn(self, power: NDArray[np.float64]) -> None:
        keep = 1.0 - 1.0 / _MEMORY if self._count >= _MEMORY else 1.0
        self._logs = self._logs * keep + _level_free(np.log(power))
        self._power = self._power * keep + power
        self._count = self._count * keep + 1.0

    def _settle(self) -> None:
        """Reckon the gain of the next block."""
        if self._count == 0.0:
            self._gain = np.zeros(SPECTRUM_BANDS)
            return
        heard = np.stack([self._logs / self._count, _level_free(np.log(self._power))])
        apart = (self._wanted - heard).mean(axis=0)
        apart[self._edge :] = apart[max(0, self._edge - 1)]
        apart *= self._reach * self._count / (self._count + self._prior_frames)
        gain = np.clip(apart, -_MOST_CUT, _MOST_LIFT)
        # As loud as before, over all that was heard.
        self._gain = gain - np.log((self._power * np.exp(gain)).sum() / self._power.sum())
