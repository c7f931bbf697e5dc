"""Log-mel spectra of speech and their running mean: what the content network hears.

The mel window of frame `t`, the samples `[240 t, 240 t + 240)`, ends with its last sample, so the
network never waits for a window. The running mean of the speech is taken away, so that it sees
neither level nor microphone, and less of the speaker.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import HOP, SAMPLE_RATE
from menura.engine.source_filter.spectrum import Array, mel_edges, windows

FFT = 1024
MELS = 80
"""Bands from 60 Hz to MEL_TOP."""
MEL_WINDOW = 600
"""Samples: 25 ms."""
MEL_TOP = 7_600.0
"""Half the speech in the world is recorded at 16 kHz: the network listens below that."""
FLOOR = 1e-8
"""Power under which a mel band counts as silent; full scale is about 1."""
SPEECH_RANGE = 5.0
"""A frame is speech when its level is within this many nepers (of power) of the running peak."""
PEAK_DECAY = 0.004
"""Nepers of power per frame by which the running peak falls: 1.7 dB a second."""
PEAK_START = -5.6
"""Where the running peak starts: speech at -45 dBFS, so that room noise alone is no speech."""
PRIOR_FRAMES = 60.0
MEMORY_FRAMES = 500.0
"""The running mean starts as if so many frames of average speech were heard, and forgets after so
many."""
OUTDONE_FRAMES = 5
"""Frames in a row so far over the mean level that it cannot be speech's: 50 ms, longer than a
click."""
MISHEARD_FRAMES = 50.0
"""Frames that may turn out to have been no speech and be kept: more outweigh the speech for
seconds."""


@lru_cache(maxsize=128)
def mel_bank(warp: float = 1.0) -> Array:
    """Return triangular mel filters of unit area, shape (513, 80).

    warp: frequencies are read at `warp` times their value, as if the vocal tract were that much
    shorter.
    """
    corners = mel_edges(MELS, high=MEL_TOP) * warp
    bins = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    width = np.maximum(right - left, 2.0 * SAMPLE_RATE / FFT)
    rising = (bins[:, None] - (middle - width / 2)) / (width / 2)
    falling = ((middle + width / 2) - bins[:, None]) / (width / 2)
    bank = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(bank / np.maximum(bank.sum(axis=0), 1e-3), np.float32)


@lru_cache(maxsize=64)
def hann(length: int) -> Array:
    """Return a periodic Hann window whose squares sum to 1, shape (length,)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return np.asarray(window / np.sqrt(np.sum(window**2)), np.float32)


def frames_of(samples: Array, first: int, length: int, count: int) -> Array:
    """Return `count` windows of `length`, the first starting at index `first`, hop 240, zeros
    outside."""
    last = first + (count - 1) * HOP + length
    if first < 0 or last > len(samples):
        samples = np.pad(samples, (max(0, -first), max(0, last - len(samples))))
    return windows(samples, length)[max(0, first) :: HOP][:count]


def power(samples: Array, count: int, warp: float = 1.0) -> Array:
    """Return the right-aligned power spectra the mel is made of, shape (count, 513)."""
    length = round(MEL_WINDOW / warp)
    frames = frames_of(samples, HOP - length, length, count) * hann(length)
    spectrum = np.fft.rfft(frames, FFT)
    return np.asarray((spectrum.real**2 + spectrum.imag**2).astype(np.float32))


def log_mel(spectra: Array, warp: float = 1.0) -> Array:
    """Return log-mel energies in nepers of power, shape (count, 80)."""
    return np.asarray(np.log(np.maximum(spectra @ mel_bank(warp), FLOOR)).astype(np.float32))


def level_of(mel: Array) -> Array:
    """Return the log of the summed mel power of each frame, shape (count,)."""
    top = mel.max(axis=-1, keepdims=True)
    return np.asarray((top[..., 0] + np.log(np.exp(mel - top).sum(axis=-1))).astype(np.float32))


def speech_frames(mel: Array) -> NDArray[np.bool_]:
    """Return which frames are speech: within 5 nepers of power of the loudest twentieth."""
    level = level_of(mel)
    return np.asarray(level > np.percentile(level, 95) - SPEECH_RANGE)


class SpeechLevel:
    """The mean level of one stream's speech so far, in nepers of power.

    While nobody speaks for long, the peak falls until a room's noise, or silence itself, counts as
    speech. What then is said outdoes it, and what was heard before is forgotten.

    peak, mean: what is assumed before anything is heard.
    """

    def __init__(self, peak: float, mean: float) -> None:
        self.peak = peak
        """The running peak, near which a frame counts as speech."""
        self.mean = mean
        self.heard = 0.0
        """Frames of speech that the mean is of; 1 anew when those before were none."""
        self._outdone = 0

    def hear(self, level: float) -> bool:
        """Take in a frame's level and return whether it is speech."""
        self.peak = max(self.peak - PEAK_DECAY, level)
        outdone = self.heard >= MISHEARD_FRAMES and level > self.mean + SPEECH_RANGE
        self._outdone = self._outdone + 1 if outdone else 0
        if level <= self.peak - SPEECH_RANGE:
            return False
        if self._outdone >= OUTDONE_FRAMES:
            self.heard = self._outdone = 0
        self.heard = min(self.heard + 1.0, MEMORY_FRAMES)
        self.mean += (level - self.mean) / self.heard
        return True


class RunningMean:
    """Mean log-mel of the speech so far: streaming, one state per stream.

    prior: the mean of average speech relative to its level, shape (80,).
    """

    def __init__(self, prior: Array) -> None:
        self._prior = prior.astype(np.float64)
        self._mean = self._prior
        self._speech = SpeechLevel(PEAK_START, 0.0)

    def push(self, mel: Array) -> tuple[Array, Array]:
        """Return mel minus the running mean, shape (n, 80), and each frame's level minus the
        speech's, (n,)."""
        levels = level_of(mel).astype(np.float64)
        shape, relative = np.empty_like(mel), np.empty(len(mel), np.float32)
        for index, level in enumerate(levels):
            if self._speech.hear(level):
                if self._speech.heard == 1.0:
                    self._mean = self._prior
                rate = 1.0 / (self._speech.heard + PRIOR_FRAMES)
                self._mean = self._mean + rate * (mel[index] - level - self._mean)
            reference = self._speech.mean if self._speech.heard else self._speech.peak
            shape[index] = mel[index] - reference - self._mean
            relative[index] = level - reference
        return shape, relative
