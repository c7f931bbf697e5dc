"""Streaming analysis of the source: samples in, one row of features per 10 ms out."""

import numpy as np

from menura.engine.interface import LatencyProfile, Samples
from menura.engine.neural import features
from menura.engine.neural.features import CENTRE, HOP, MEL_WINDOW, MELS, Array
from menura.engine.neural.frames import CODE, NeuralFeatures, nothing
from menura.engine.neural.networks import LOOK_AHEAD, SKIP_AHEAD, Networks
from menura.engine.neural.pitch import PitchRange
from menura.engine.source_filter.pitch import REACH as PITCH_REACH
from menura.engine.source_filter.pitch import PitchTracker

_STEP = HOP // 2
_START_F0 = 150.0
_BEFORE = 3
"""Hops kept before the oldest frame that is still to be described, more than any window's reach."""


class NeuralAnalysis:
    """Analyses one stream in blocks of `latency.chunk` samples counted from its start."""

    def __init__(self, networks: Networks, latency: LatencyProfile) -> None:
        self._networks = networks
        self._chunk = latency.chunk
        self._block_frames = latency.chunk // HOP
        self._ahead = max(LOOK_AHEAD, latency.look_ahead // HOP)
        known = (self._ahead + 1) * HOP - (CENTRE + HOP) - PITCH_REACH - _STEP
        self._pitch_ahead = known // _STEP
        self._tracker = PitchTracker(2 * self._block_frames, self._pitch_ahead)
        self._range = PitchRange()
        self._mean = features.RunningMean(networks.prior)
        self._state = np.zeros(networks.content_state, np.float32)
        self._pending = np.zeros(0, np.float32)
        self._history = np.zeros((_BEFORE + self._ahead + 1) * HOP + self._chunk, np.float32)
        self._codes = np.zeros((0, CODE), np.float32)
        self._shapes = np.zeros((0, MELS), np.float32)
        self._levels = np.zeros(0, np.float32)
        self._f0 = np.zeros(0, np.float32)
        self._medians = np.zeros(0, np.float32)
        self._last_f0 = 0.0
        self._blocks = 0
        self._total = 0
        self._given = 0

    @property
    def delay(self) -> int:
        """Samples of input held back at most before their features are given out."""
        return self._chunk + self._ahead * HOP

    def push(self, samples: Samples) -> NeuralFeatures:
        """Take samples in and return the features that have become final (possibly no frames)."""
        self._total += len(samples)
        clean = np.nan_to_num(np.asarray(samples, dtype=np.float32), posinf=0.0, neginf=0.0)
        return self._advance(np.clip(clean, -4.0, 4.0))

    def flush(self) -> NeuralFeatures:
        """End the input and return the remaining features. The object is spent afterwards."""
        wanted = -(-self._total // HOP)
        parts = []
        while self._given < wanted:
            missing = self._chunk - len(self._pending)
            parts.append(self._advance(np.zeros(missing, np.float32)))
        rest = NeuralFeatures.joined(parts)
        surplus = self._given - wanted
        if surplus <= 0:
            return rest
        *kept, last = rest.blocks()
        return NeuralFeatures.joined([*kept, last.rows(slice(0, last.frames - surplus))])

    def _advance(self, samples: Samples) -> NeuralFeatures:
        self._pending = np.concatenate((self._pending, samples))
        whole = len(self._pending) // self._chunk
        parts = [
            self._block(self._pending[index * self._chunk : (index + 1) * self._chunk])
            for index in range(whole)
        ]
        self._pending = self._pending[whole * self._chunk :]
        return NeuralFeatures.joined([part for part in parts if part.frames])

    def _block(self, samples: Array) -> NeuralFeatures:
        self._history = np.concatenate((self._history[len(samples) :], samples))
        self._blocks += 1
        self._hear(samples)
        end = self._blocks * self._block_frames
        first, last = self._given, end - self._ahead - 1
        count = last - first + 1
        if count <= 0:
            return nothing()
        self._given += count
        return self._describe(count, end - first)

    def _hear(self, samples: Array) -> None:
        count = self._block_frames
        start = len(self._history) - (count - 1) * HOP - MEL_WINDOW
        frames = features.frames_of(self._history, start, MEL_WINDOW, count)
        spectrum = np.fft.rfft(frames * features.hann(MEL_WINDOW), features.FFT)
        mel = features.log_mel((spectrum.real**2 + spectrum.imag**2).astype(np.float32))
        shape, relative = self._mean.push(mel)
        code, self._state = self._networks.content.run(
            None,
            {"mel": shape[None], "relative": relative[None, :, None], "state": self._state},
        )
        self._codes = np.concatenate((self._codes, code[0]))
        self._shapes = np.concatenate((self._shapes, shape - relative[:, None]))
        self._levels = np.concatenate((self._levels, features.level_of(mel) - relative))
        tracked = self._tracker.push(samples).f0[1::2]
        before = (PITCH_REACH + self._pitch_ahead * _STEP) // HOP
        late = max(0, before - (self._blocks - 1) * count)
        tracked = tracked[min(late, count) :]
        self._medians = np.concatenate((self._medians, self._range.push(tracked)))
        before_voice = self._last_f0
        if before_voice == 0.0 and np.any(tracked > 0):
            before_voice = float(tracked[tracked > 0][0])
        held = features.hold(tracked, before_voice or _START_F0)
        if np.any(tracked > 0):
            self._last_f0 = float(held[-1])
        self._f0 = np.concatenate((self._f0, held))

    def _describe(self, count: int, behind: int) -> NeuralFeatures:
        """Return the next `count` frames, the first of which began `behind` hops ago."""
        origin = len(self._history) - behind * HOP
        window = self._history[origin - _BEFORE * HOP :]
        spectra = features.centred_power(window, count, _BEFORE)
        total = features.energy(window, count, _BEFORE)
        f0, following = self._f0[:count], self._f0[1 : count + 1]
        codes = self._codes[LOOK_AHEAD : LOOK_AHEAD + count]
        gentle = total - self._levels[:count] + 4.5
        described = NeuralFeatures(
            code=codes,
            shape=self._shapes[SKIP_AHEAD : SKIP_AHEAD + count],
            f0=f0,
            next_f0=following,
            median=self._medians[:count],
            energy=total,
            gentle=gentle,
            gate=np.clip(1.0 - features.FLOOR * np.exp(-total), 0.0, 1.0).astype(np.float32),
            periodicity=features.periodicity(spectra, f0),
            borders=(count,),
        )
        self._codes = self._codes[count:]
        self._shapes = self._shapes[count:]
        self._levels = self._levels[count:]
        self._f0 = self._f0[count:]
        self._medians = self._medians[count:]
        return described
