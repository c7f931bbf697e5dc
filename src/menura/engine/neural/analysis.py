"""Streaming analysis: the source-filter engine's, with content codes beside it."""

import numpy as np

from menura.engine.interface import HOP, LatencyProfile, Samples
from menura.engine.neural.content import ContentStream
from menura.engine.neural.features import NeuralFeatures
from menura.engine.neural.networks import CODE, PATIENT, QUICK, Networks
from menura.engine.source_filter.analysis import SourceFilterAnalysis, cleaned
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.spectrum import STEP, Array

_ROWS = HOP // STEP
"""Instants of a frame, which share its code."""


class NeuralAnalysis:
    """Analyses one stream in blocks of `latency.chunk` samples counted from its start."""

    def __init__(self, networks: Networks, latency: LatencyProfile) -> None:
        lent = networks.timbre(latency.chunk).ahead * HOP // latency.chunk
        self._sound = SourceFilterAnalysis(latency, lent)
        # Where the features wait anyway, the network may as well hear what follows.
        enough = self._sound.delay >= latency.chunk + PATIENT * HOP
        look_ahead = PATIENT if enough else QUICK
        self._content = ContentStream(networks, latency.chunk, look_ahead)
        self._codes = np.zeros((0, CODE), np.float16)
        self._instant = 0

    @property
    def delay(self) -> int:
        """Samples of input held back at most before their features are given out."""
        return max(self._sound.delay, self._content.delay)

    def push(self, samples: Samples) -> NeuralFeatures:
        """Take samples in and return the features that have become final (possibly no frames)."""
        known = self._sound.push(samples)
        self._keep(self._content.push(cleaned(samples)))
        return self._joined(known)

    def flush(self) -> NeuralFeatures:
        """End the input and return the remaining features. The object is spent afterwards."""
        rest = self._sound.flush()
        last = -(-(self._instant % _ROWS + len(rest.f0)) // _ROWS)
        self._keep(self._content.flush(max(0, last - len(self._codes))))
        return self._joined(rest)

    def _keep(self, codes: Array) -> None:
        self._codes = np.concatenate((self._codes, codes.astype(np.float16)))

    def _joined(self, known: SourceFilterFeatures) -> NeuralFeatures:
        rows = self._instant % _ROWS + np.arange(len(known.f0))
        found = NeuralFeatures.of(known, self._codes[rows // _ROWS])
        self._instant += len(rows)
        spent = (rows[-1] + 1) // _ROWS if len(rows) else 0
        self._codes = self._codes[spent:]
        return found
