"""Streaming content codes: samples in, one code per 10 ms out."""

import numpy as np

from menura.engine.interface import EMPTY, HOP, Samples
from menura.engine.neural.mel import FFT, MEL_WINDOW, RunningMean, frames_of, hann, log_mel
from menura.engine.neural.networks import CODE, PATIENT, Networks
from menura.engine.source_filter.spectrum import Array


class ContentStream:
    """Hears one stream in blocks of a fixed number of samples counted from its start.

    look_ahead: frames after a frame that have been heard when its code comes out, QUICK or PATIENT.
    """

    def __init__(self, networks: Networks, block: int, look_ahead: int) -> None:
        self._networks = networks
        self._block = block
        self._pending = EMPTY
        self._history = np.zeros(MEL_WINDOW - HOP, np.float32)
        self._mean = RunningMean(networks.prior)
        self._state = np.zeros(networks.content_state, np.float32)
        self._look_ahead = self._early = look_ahead
        self._patient = np.array([look_ahead == PATIENT], np.float32)

    @property
    def delay(self) -> int:
        """Samples of input held back at most before their frame's code is given out."""
        return self._block + self._look_ahead * HOP

    def push(self, samples: Samples) -> Array:
        """Take samples in and return the codes that have become final, (frames, CODE)."""
        self._pending = np.concatenate((self._pending, samples))
        whole = len(self._pending) // self._block
        parts = [
            self._hear(self._pending[index * self._block : (index + 1) * self._block])
            for index in range(whole)
        ]
        self._pending = self._pending[whole * self._block :]
        return np.concatenate([np.zeros((0, CODE), np.float32), *parts])

    def flush(self, wanted: int) -> Array:
        """End the input with silence and return `wanted` more codes, (wanted, CODE)."""
        parts = [np.zeros((0, CODE), np.float32)]
        while sum(len(part) for part in parts) < wanted:
            parts.append(self.push(np.zeros(self._block - len(self._pending), np.float32)))
        return np.concatenate(parts)[:wanted]

    def _hear(self, samples: Samples) -> Array:
        heard = np.concatenate((self._history, samples))
        self._history = heard[len(heard) - (MEL_WINDOW - HOP) :]
        frames = frames_of(heard, 0, MEL_WINDOW, self._block // HOP)
        spectrum = np.fft.rfft(frames * hann(MEL_WINDOW), FFT)
        mel = log_mel((spectrum.real**2 + spectrum.imag**2).astype(np.float32))
        shape, relative = self._mean.push(mel)
        code, self._state = self._networks.content.run(
            None,
            {
                "mel": shape[None],
                "relative": relative[None, :, None],
                "patient": self._patient,
                "state": self._state,
            },
        )
        early = min(self._early, len(mel))
        self._early -= early
        return np.asarray(code[0, early:], np.float32)
