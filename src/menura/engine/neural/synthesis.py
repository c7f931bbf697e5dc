"""Streaming neural homomorphic vocoder: controls and F0 in, samples out (see `filters.py`)."""

import numpy as np
from numpy.typing import NDArray

from menura.engine.neural import filters
from menura.engine.neural.excitation import PulseTrain
from menura.engine.neural.features import HOP, Array, frames_of
from menura.engine.neural.filters import BEFORE, FFT, HARMONIC


class Synthesiser:
    """Sounds one stream. seed: decides the noise; the same seed gives the same samples."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._train = PulseTrain()
        self._pulses = np.zeros(0, np.float32)
        self._noise = self._random.standard_normal(HOP, np.float32)
        self._ringing = np.zeros(FFT, np.float32)
        self._begun = False

    def push(self, controls: Array, f0: Array, next_f0: Array) -> Array:
        """Take frames, (n, 176) and F0 in Hz at their centres and one frame on, and return samples.

        Returns `240 n` samples, which end where the last frame begins (240 fewer the first time).
        """
        count = len(controls)
        if count == 0:
            return np.zeros(0, np.float32)
        if not self._begun:
            self._pulses = self._train.push(np.repeat(f0[:1], 2))
        pulses = np.concatenate((self._pulses, self._train.push(next_f0)))
        noise = np.concatenate((self._noise, self._random.standard_normal(count * HOP, np.float32)))
        self._pulses, self._noise = pulses[-HOP:], noise[-HOP:]
        log_responses = np.concatenate(
            (
                controls[:, :HARMONIC] @ filters.harmonic_matrix(),
                controls[:, HARMONIC:] @ filters.noise_matrix(),
            )
        )
        excitation = np.concatenate(
            (frames_of(pulses, 0, 2 * HOP, count), frames_of(noise, 0, 2 * HOP, count))
        )
        both = _filtered(excitation, log_responses)
        parts = np.fft.irfft(both[:count] + both[count:], FFT, axis=1)
        out = np.zeros(count * HOP + FFT, np.float32)
        out[:FFT] = self._ringing
        for index in range(count):
            start = index * HOP
            out[start : start + BEFORE] += parts[index, FFT - BEFORE :]
            out[start + BEFORE : start + FFT] += parts[index, : FFT - BEFORE]
        done = count * HOP
        self._ringing = out[done : done + FFT].copy()
        skipped = 0 if self._begun else HOP
        self._begun = True
        return out[skipped:done]


def _filtered(excitation: Array, log_responses: Array) -> NDArray[np.complexfloating]:
    magnitude = np.exp(log_responses[:, : filters.BINS])
    phase = log_responses[:, filters.BINS :]
    response = np.empty(magnitude.shape, np.complex64)
    np.multiply(magnitude, np.cos(phase), out=response.real)
    np.multiply(magnitude, np.sin(phase), out=response.imag)
    impulse = np.fft.irfft(response, FFT, axis=1)
    impulse *= filters.response_taper()
    windowed = excitation * filters.overlap_window()
    return np.fft.rfft(windowed, FFT, axis=1) * np.fft.rfft(impulse, FFT, axis=1)
