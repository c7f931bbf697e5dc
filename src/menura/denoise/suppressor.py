"""WebRTC's noise suppressor, asked twice and applied without touching the phase.

WebRTC's suppressor (a Wiener filter over quantile noise estimates) decides from the past alone, and
so takes onsets, soft speech and the first second for noise. Here one instance hears the signal as
it comes and another hears it backwards, block by block, from a look-ahead on; both know the first
second beforehand. Only their gains are used: a spectral bin is attenuated as far as both agree. The
gains act on the short-time spectrum at 48 kHz, so nothing is band-limited or delayed by a fraction
of a sample.

    48 kHz ─┬──────────────────────────────── STFT ──── x gain ──── overlap-add ─>
            └─ 16 kHz ─┬─ suppressor, forwards ──┐         │
                       └─ suppressor, backwards ─┴─ the larger gain

Live audio can wait for less of a second opinion, and is treated more gently for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pywebrtc_audio import NoiseSuppressor

from menura.audio.resample import FULL_QUALITY, LOW_DELAY_QUALITY, Quality, Resampler
from menura.engine.interface import EMPTY, Samples

_RATE = 48_000
_NARROW_RATE = 16_000

_HOP = 160
_WIDE_HOP = 480
"""Frame advance: 10 ms at 16 and at 48 kHz. Windows are two hops long."""

_BEHIND = 3
"""Frames before a block that the backward instance hears too: its lateness and a window."""

_LATE = 96
"""Samples by which WebRTC's suppressor is late at 16 kHz."""

_TOP_BINS = 40
"""Bins below 8 kHz whose mean gain holds for all that lies above."""

_LOUDEST = 4.0
"""Input is limited to this magnitude: one absurd sample must not blind the suppressors."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How long a suppressor may wait, in frames of 10 ms, and how far it goes.

    block: decided at a time. ahead: heard beyond a block, at least 1. settle: heard before the
    first block, at least `_BEHIND`. level: of WebRTC, 0 to 3: noise falls by 6, 12, 18 or 21 dB at
    most.
    """

    block: int
    ahead: int
    settle: int
    level: int
    quality: Quality


_RECORDED = _Pace(block=20, ahead=10, settle=100, level=2, quality=FULL_QUALITY)
_LIVE = _Pace(block=5, ahead=5, settle=10, level=1, quality=LOW_DELAY_QUALITY)


class Denoiser:
    """A stage that suppresses the noise of one mono stream.

    sample_rate: Hz of what it takes and gives. live: give up some quality so that little is held
    back. The whole output is as long as the whole input and aligned with it; any chunking of the
    input gives the same output. Samples that are not finite are taken as silence.
    """

    sample_rate = _RATE

    def __init__(self, *, live: bool = False) -> None:
        pace = _LIVE if live else _RECORDED
        self._pace = pace
        self._down = Resampler(_RATE, _NARROW_RATE, pace.quality)
        self._forwards = NoiseSuppressor(sample_rate=_NARROW_RATE, level=pace.level)
        self._backwards = NoiseSuppressor(sample_rate=_NARROW_RATE, level=pace.level)
        self._hops_heard = _BEHIND + pace.block + pace.ahead
        self._begun = False
        # All but `_narrow` begin one hop before the next block's first frame.
        self._wide: Samples = np.zeros(_WIDE_HOP, np.float32)
        self._narrow = EMPTY
        self._heard = EMPTY
        self._overlap: Samples = np.zeros(_WIDE_HOP, np.float32)
        self._taken = 0
        self._given = 0

    @property
    def delay(self) -> int:
        """Samples held back at most.

        At first what it takes to settle; then a block, the look-ahead and a hop.
        """
        frames = max(self._pace.settle, self._pace.block + self._pace.ahead + 1)
        return frames * _WIDE_HOP + self._down.delay * (_RATE // _NARROW_RATE)

    def push(self, samples: Samples) -> Samples:
        """Take samples in and return those that have become final."""
        finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        limited = finite.clip(-_LOUDEST, _LOUDEST).astype(np.float32, copy=False)
        self._taken += limited.size
        return self._take(limited, self._down.push(limited))

    def flush(self) -> Samples:
        """End the input and return the remaining samples. The object is spent afterwards."""
        rest = self._taken - self._given
        if not rest:
            return EMPTY
        last = self._down.flush()
        # What follows the end is its mirror image: silence there would mislead the suppressors.
        known = np.concatenate((self._narrow, last))
        if not known.size:
            known = np.zeros(1, np.float32)
        beyond = self._pace.settle + 2 * self._hops_heard
        mirrored = np.pad(known, (0, beyond * _HOP), "symmetric")[known.size :]
        silence = np.zeros(beyond * _WIDE_HOP, np.float32)
        return self._take(silence, np.concatenate((last, mirrored)))[:rest]

    def _take(self, wide: Samples, narrow: Samples) -> Samples:
        self._wide = np.concatenate((self._wide, wide))
        # The suppressors give full scale at most; what they are compared with must not have more.
        self._narrow = np.concatenate((self._narrow, narrow.clip(-1.0, 1.0)))
        if not self._begun and self._narrow.size >= self._pace.settle * _HOP:
            self._begin()
        out = []
        while self._begun and self._narrow.size >= self._hops_heard * _HOP:
            gains = self._gains(self._narrow[: self._hops_heard * _HOP])
            out.append(self._apply(gains))
            self._given += out[-1].size
            self._narrow = self._narrow[self._pace.block * _HOP :]
        return np.concatenate(out) if out else EMPTY

    def _begin(self) -> None:
        """Let both instances get to know the noise before anything depends on them."""
        self._begun = True
        start = self._narrow[: self._pace.settle * _HOP]
        onwards, back = start.copy(), start[::-1].copy()
        for heard in (onwards, back, onwards):
            self._backwards.process(heard)
        for heard in (back, onwards, back):
            self._forwards.process(heard)
        self._narrow = np.concatenate((back[-_BEHIND * _HOP :], self._narrow))
        first = self._narrow[(_BEHIND - 1) * _HOP : (_BEHIND + 1) * _HOP]
        self._heard = self._forwards.process(first.copy())[_LATE:]

    def _gains(self, narrow: Samples) -> NDArray[np.float32]:
        """Return the gains of a block's frames, 0 to 1, shape (block, _HOP + 1)."""
        block = self._pace.block
        fresh = narrow[(_BEHIND + 1) * _HOP : (_BEHIND + 1 + block) * _HOP]
        self._heard = np.concatenate((self._heard, self._forwards.process(fresh.copy())))
        size = (block + 1) * _HOP
        start = (_BEHIND - 1) * _HOP
        power = _power(narrow[start : start + size])
        backwards = self._backwards.process(narrow[::-1].copy())[_LATE:][::-1]
        kept = np.maximum(_power(self._heard[:size]), _power(backwards[start - _LATE :][:size]))
        self._heard = self._heard[block * _HOP :]
        return np.sqrt(np.minimum(kept / power, 1.0)).astype(np.float32)

    def _apply(self, gains: NDArray[np.float32]) -> Samples:
        block = self._pace.block
        above = np.mean(gains[:, -_TOP_BINS:], axis=1, keepdims=True)
        above = np.repeat(above, _WIDE_HOP - _HOP, axis=1)
        window = _window(_WIDE_HOP)
        frames = _frames(self._wide[: (block + 1) * _WIDE_HOP], _WIDE_HOP) * window
        spectra = np.fft.rfft(frames) * np.concatenate((gains, above), axis=1)
        shaped = (np.fft.irfft(spectra) * window).astype(np.float32)
        out = shaped[:, :_WIDE_HOP]
        out[1:] += shaped[:-1, _WIDE_HOP:]
        out[0] += self._overlap
        self._overlap = shaped[-1, _WIDE_HOP:].copy()
        self._wide = self._wide[block * _WIDE_HOP :]
        # The first hop lies before the stream's beginning.
        return out.reshape(-1)[0 if self._given else _WIDE_HOP :]


def _window(hop: int) -> NDArray[np.float64]:
    """Return the square root of a periodic Hann window: its squares overlap to one."""
    return np.asarray(np.sin(np.pi * np.arange(2 * hop) / (2 * hop)))


def _frames(samples: Samples, hop: int) -> Samples:
    """Return frames of two hops each, shape (hops - 1, 2 * hop)."""
    hops = samples.reshape(-1, hop)
    return np.concatenate((hops[:-1], hops[1:]), axis=1)


def _power(samples: Samples) -> NDArray[np.float64]:
    """Return the short-time power spectrum, smoothed over three bins, never zero."""
    spectra = np.fft.rfft(_frames(samples, _HOP) * _window(_HOP))
    power = np.pad(np.abs(spectra) ** 2, ((0, 0), (1, 1)), "edge")
    return np.asarray(power[:, :-2] / 4 + power[:, 1:-1] / 2 + power[:, 2:] / 4 + 1e-12)
