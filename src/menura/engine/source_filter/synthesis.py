"""Synthesis by pulses and noise through time-varying minimum-phase filters.

Pulses stand at the exact instants where the phase of F0 completes a cycle; each is shaped by the
envelope at that instant, weighted by the periodic share. Noise is drawn once, cut into overlapping
windows that sum to one, and each window is shaped by its own instant's envelope and aperiodic
share. Where the source is unvoiced, its own waveform takes the place of the noise, filtered by what
the envelope has changed: consonants, breaths, creak and whispers keep their fine structure.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE, Samples
from menura.engine.source_filter.mapping import Sound
from menura.engine.source_filter.periodicity import CENTRES
from menura.engine.source_filter.spectrum import (
    BINS,
    FFT,
    FREQUENCIES,
    STEP,
    Array,
    band_to_bin,
    windows,
)

PRE = 8
"""Samples that a pulse between two samples rings ahead of its place."""

_SEEDED = 0.01
"""Share of unvoiced power that is drawn anew, so that every seed sounds, however faintly."""

_KEPT = (1.0 - _SEEDED) ** 0.5
"""Amplitude that the source keeps where it is unvoiced."""

FIRM = np.array([0.95, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)
"""Least periodic share of voiced sound per band: pitch is heard in the lowest harmonics, and noise
between them as hoarseness."""

_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * STEP) / (2 * STEP))).astype(np.float32)
_MINIMUM_PHASE = np.zeros(FFT, dtype=np.float32)
_MINIMUM_PHASE[0] = _MINIMUM_PHASE[FFT // 2] = 1.0
_MINIMUM_PHASE[1 : FFT // 2] = 2.0
_TURN = (np.arange(BINS) * (-2.0 * np.pi / FFT)).astype(np.float32)
"""Phase of each bin after a delay of one sample."""
_HIGH_PASS = np.log(1e-3 + (FREQUENCIES / 30.0) ** 4) - np.log(1.0 + (FREQUENCIES / 30.0) ** 4)
"""Log power that keeps pulses and noise from moving the zero line."""

_FALL = 64
"""Samples over which a filter's answer, which is cut where `FFT` ends, fades: a low resonance still
rings there, and a step would be heard in the pause behind it."""
_ENDS = np.ones(FFT, dtype=np.float32)
_ENDS[:PRE] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(PRE) + 0.5) / PRE)
_ENDS[-_FALL:] = 0.5 + 0.5 * np.cos(np.pi * (np.arange(_FALL) + 0.5) / _FALL)

_BAND_TO_BIN = band_to_bin(CENTRES)


def _filters(log_power: Array, delay: Array | None = None) -> NDArray[np.complex64]:
    """Return minimum-phase spectra of log power envelopes, both (rows, BINS).

    delay: samples by which each row's response comes late, (rows,).
    """
    # Minimum phase by folding the cepstrum.
    cepstra = np.fft.irfft(0.5 * (log_power + _HIGH_PASS), axis=1) * _MINIMUM_PHASE
    logs = np.fft.rfft(cepstra, axis=1)
    size = np.exp(logs.real)
    phase = logs.imag if delay is None else logs.imag + delay[:, None] * _TURN
    spectra = np.empty(logs.shape, dtype=np.complex64)
    spectra.real = size * np.cos(phase)
    spectra.imag = size * np.sin(phase)
    return spectra


class Synthesiser:
    """Renders one stream in blocks of at most `longest` instants."""

    def __init__(self, longest: int, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._noise = np.zeros(STEP, dtype=np.float32)
        self._phase = 0.0
        self._last: Sound | None = None
        self._output = np.zeros(PRE + longest * STEP + FFT + STEP, dtype=np.float64)

    def push(self, sound: Sound, grains: Array) -> Samples:
        """Take a block of instants; return the samples that became final.

        grains: the source around each instant, one step to either side, (instants, 2 * STEP).
        The samples end `PRE` samples before the block's last instant.
        """
        least = np.where(sound.f0[:, None] > 0, FIRM, np.float32(0.0))
        sound = replace(sound, periodicity=np.maximum(sound.periodicity, least))
        if self._last is None:
            self._last = sound
        last, self._last = self._last, sound
        f0 = np.concatenate([last.f0[-1:], sound.f0])
        share = np.concatenate([last.periodicity[-1:], sound.periodicity])
        logs = np.concatenate([last.envelope[-1:], sound.envelope])
        self._pulses(f0, share, logs)
        self._hiss(sound, grains)
        ready = len(sound.f0) * STEP
        out = self._output[:ready].astype(np.float32)
        self._output[:-ready] = self._output[ready:]
        self._output[-ready:] = 0.0
        return out

    def _pulses(self, f0: Array, share: Array, logs: Array) -> None:
        carried = np.where(f0[:-1] > 0, f0[:-1], f0[1:])
        reached = np.where(f0[1:] > 0, f0[1:], f0[:-1])
        ramp = np.arange(STEP) / STEP
        rate = (carried[:, None] + (reached - carried)[:, None] * ramp).ravel() / SAMPLE_RATE
        phase = self._phase + np.concatenate([[0.0], np.cumsum(rate)])
        self._phase = float(phase[-1] % 1.0)
        at = np.flatnonzero(np.floor(phase[1:]) > np.floor(phase[:-1]))
        if len(at) == 0:
            return
        place = at + (np.floor(phase[at + 1]) - phase[at]) / rate[at]
        spot = np.minimum(place / STEP, len(f0) - 1 - 1e-6)
        low = spot.astype(np.intp)
        part = (spot - low).astype(np.float32)[:, None]
        weight = (1 - part) * share[low] + part * share[low + 1]
        gain = np.sqrt(np.maximum(weight, 0.0) @ _BAND_TO_BIN)
        gain /= np.sqrt(rate[at]).astype(np.float32)[:, None]
        log_power = (1 - part) * logs[low] + part * logs[low + 1]
        whole = np.floor(place).astype(np.intp)
        delay = (place - whole + PRE).astype(np.float32)
        responses = np.fft.irfft(_filters(log_power, delay) * gain, axis=1) * _ENDS
        for start, response in zip(whole, responses, strict=True):
            self._output[start : start + FFT] += response

    def _hiss(self, sound: Sound, grains: Array) -> None:
        fresh = self._random.standard_normal(len(grains) * STEP, dtype=np.float32)
        noise = np.concatenate([self._noise, fresh])
        self._noise = noise[-STEP:]
        shown = windows(noise, 2 * STEP)[::STEP] * _WINDOW
        voiced = sound.f0 > 0
        share = np.where(voiced[:, None], sound.periodicity @ _BAND_TO_BIN, 1.0 - _SEEDED)
        gain = np.sqrt(np.maximum(1.0 - share, 0.0))
        spectra = np.fft.rfft(shown, FFT, axis=1) * _filters(sound.envelope) * gain
        kept = np.flatnonzero(~voiced)
        if len(kept):
            source = np.fft.rfft(grains[kept] * _WINDOW, FFT, axis=1)
            spectra[kept] += _KEPT * _filters(sound.change[kept]) * source
        shaped = np.fft.irfft(spectra, axis=1) * _ENDS
        for instant in range(len(grains)):
            start = PRE + instant * STEP
            self._output[start : start + FFT] += shaped[instant]
