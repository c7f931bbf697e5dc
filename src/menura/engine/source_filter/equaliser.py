"""Brings the long-term spectrum of what is rendered to that of the voice's own recordings.

Mapping moves envelopes; what a listener averages over seconds is the waveform, with its harmonics,
its noise and what of the source came through. So the rendered samples are heard again, and the next
ones are equalised by what still lies between them and the voice. Half of the difference is taken
between mean log spectra, half between mean power spectra, which the loud vowels decide. Until
enough is heard, what usually lies between an engine's output and natural voices (`equaliser.npz`,
by `training.equaliser`) stands for it.
"""

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from menura.engine.interface import HOP, ConversionSettings, Samples, Voice
from menura.engine.source_filter.spectrum import FFT, FREQUENCIES, Array, mel
from menura.engine.source_filter.voice import SPECTRUM_BANDS, SourceFilterVoice

FULL_SIMILARITY = 0.75
"""`similarity_boost` from which the whole difference is taken."""

_WINDOW = np.hanning(2 * HOP + HOP // 2 + 1)[:-1].astype(np.float32)
_LOUD = 5.5
"""Nepers of power under the running peak at which a frame no longer counts."""
_PEAK_DECAY = 0.004
"""Decay of the peak in nepers per frame."""
_PRIOR_FRAMES = 50.0
"""Loud frames that the usual difference counts for: fewer follow single sounds, and cost phones."""
_MEMORY = 1_500.0
"""Loud frames after which one is forgotten: 15 s of speech."""
_MOST_CUT, _MOST_LIFT = 2.5, 2.0
"""Largest changes of a band in nepers of power."""
_FLOOR = 1e-10

_EDGES = 700.0 * np.expm1(
    np.linspace(mel(np.array(80.0)), mel(np.array(7_800.0)), SPECTRUM_BANDS + 2) / 1127.0
)
_CENTRES = _EDGES[1:-1]


def _bank() -> Array:
    rising = (FREQUENCIES[:, None] - _EDGES[:-2]) / (_EDGES[1:-1] - _EDGES[:-2])
    falling = (_EDGES[2:] - FREQUENCIES[:, None]) / (_EDGES[2:] - _EDGES[1:-1])
    return np.maximum(np.minimum(rising, falling), 0.0).astype(np.float32)


_BANK = _bank()
_SPREAD = np.stack([np.interp(FREQUENCIES, _CENTRES, row) for row in np.eye(SPECTRUM_BANDS)])
_SPREAD = _SPREAD.astype(np.float32)


def _bands(samples: Array) -> Array:
    """Return the power of every whole frame of samples in bands, (n, SPECTRUM_BANDS)."""
    frames = sliding_window_view(samples, len(_WINDOW))[::HOP]
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


@cache
def usual(engine: str) -> NDArray[np.float64]:
    """Return what usually lies between voices and what an engine renders, (SPECTRUM_BANDS,)."""
    with (files(__package__) / "equaliser.npz").open("rb") as held, np.load(held) as arrays:
        return np.asarray(arrays[engine], dtype=np.float64)


class Equaliser:
    """The equaliser of one stream.

    It acts as far as `similarity_boost` reaches, and only with `use_speaker_boost`.

    expected: difference from the voice that is assumed until enough is heard, in nepers of power,
    (SPECTRUM_BANDS,).
    """

    def __init__(
        self,
        voice: SourceFilterVoice,
        settings: ConversionSettings,
        expected: NDArray[np.float64],
    ) -> None:
        self._tail = np.zeros(0, dtype=np.float32)
        self._peak = -np.inf
        self._expected = expected
        self._began = False
        self._given = np.zeros(SPECTRUM_BANDS)
        self._adopt(voice)
        self._choose(settings)
        self._settle()

    def change(self, voice: Voice | None, settings: ConversionSettings | None) -> None:
        """Change voice or settings; what was heard of the former voice is forgotten."""
        if isinstance(voice, SourceFilterVoice):
            self._adopt(voice)
        if settings is not None:
            self._choose(settings)
        self._settle()

    def _adopt(self, voice: SourceFilterVoice) -> None:
        self._wanted = voice.spectrum.astype(np.float64)
        self._edge = int((0.95 * voice.bandwidth > _CENTRES).sum())
        self._logs = np.zeros(SPECTRUM_BANDS)
        self._power = np.zeros(SPECTRUM_BANDS)
        self._count = 0.0

    def _choose(self, settings: ConversionSettings) -> None:
        reach = min(1.0, settings.similarity_boost / FULL_SIMILARITY)
        self._reach = reach if settings.use_speaker_boost else 0.0

    def gains(self, instants: int, voiced: bool) -> Array:
        """Return log power to add to the next instants' envelopes, (instants, BINS).

        voiced: whether there is voice in them. Before the first of a stream they stay as they are.
        """
        self._began |= voiced
        gain = self._gain if self._began else self._given
        part = (np.arange(1, instants + 1) / instants)[:, None]
        bands = self._given + part * (gain - self._given)
        self._given = gain
        return np.asarray(bands.astype(np.float32) @ _SPREAD, dtype=np.float32)

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

    @property
    def apart(self) -> NDArray[np.float64]:
        """What lies between the voice and what would be rendered without this, as far as it was
        heard, in nepers of power; (SPECTRUM_BANDS,)."""
        if self._count == 0.0:
            return self._expected
        heard = np.stack([self._logs / self._count, _level_free(np.log(self._power))])
        return np.asarray((self._wanted - heard).mean(axis=0))

    def _settle(self) -> None:
        """Reckon the gain of the next block."""
        if self._reach == 0.0:
            self._gain = np.zeros(SPECTRUM_BANDS)
            return
        known = self._count / (self._count + _PRIOR_FRAMES)
        apart = self._reach * (self._expected + known * (self.apart - self._expected))
        apart[self._edge :] = apart[max(0, self._edge - 1)]
        gain = np.clip(apart, -_MOST_CUT, _MOST_LIFT)
        # As loud as before, over all that was heard.
        power = (1.0 - known) * _shares(np.exp(self._wanted[1] - self._expected))
        power += known * _shares(self._power + _FLOOR)
        self._gain = gain - np.log((power * np.exp(gain)).sum())


def _shares(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(power / power.sum())
