"""Streaming feature extraction: samples in, one row of features per 5 ms out."""

from collections import deque

import numpy as np

from menura.engine.interface import EMPTY, LatencyProfile, Samples
from menura.engine.source_filter import envelope as spectral
from menura.engine.source_filter import periodicity as periodic
from menura.engine.source_filter import pitch
from menura.engine.source_filter.features import HalfArray, SourceFilterFeatures
from menura.engine.source_filter.settling import Settling
from menura.engine.source_filter.spectrum import STEP, Array
from menura.engine.source_filter.statistics import SpeakerStatistics

_REACH = max(spectral.REACH, periodic.REACH)
"""Samples to either side of an instant that its envelope and periodic shares need."""

_FORETOLD = 15_360
"""Samples of settling up to which the source's median is foretold. Who hears more may count."""


def cleaned(samples: Samples) -> Array:
    """Return samples without infinities and NaN, within 12 dB of full scale."""
    clean = np.asarray(samples, dtype=np.float32)
    if not np.isfinite(clean).all():
        clean = np.nan_to_num(clean, posinf=0.0, neginf=0.0)
    return np.asarray(np.clip(clean, -4.0, 4.0))


class SourceFilterAnalysis:
    """Analyses one stream in blocks of `latency.chunk` samples counted from its start.

    lent: blocks of the level's settling that the mapping waits itself, and so need not be waited
    for here.
    """

    def __init__(self, latency: LatencyProfile, lent: int = 0) -> None:
        self._chunk = latency.chunk
        self._look_ahead = latency.look_ahead
        self._settling = latency.settling // latency.chunk - lent
        self._instants = latency.chunk // STEP
        self._tracker = pitch.PitchTracker(
            self._instants, (latency.look_ahead - pitch.REACH) // STEP
        )
        self._statistics = SpeakerStatistics()
        self._expected = (
            Settling(latency.settling // STEP) if latency.settling <= _FORETOLD else None
        )
        self._waiting: deque[tuple[Array, Array, Array, HalfArray]] = deque()
        self._pending = EMPTY
        self._history = np.zeros(latency.look_ahead + 2 * _REACH, dtype=np.float32)
        self._total = 0
        self._blocks = 0
        self._given = 0

    @property
    def delay(self) -> int:
        """Samples of input held back at most before their features are given out."""
        return (1 + self._settling) * self._chunk + self._look_ahead

    def push(self, samples: Samples) -> SourceFilterFeatures:
        """Take samples in and return the features that have become final (possibly no frames)."""
        self._total += len(samples)
        return self._advance(cleaned(samples))

    def flush(self) -> SourceFilterFeatures:
        """End the input and return the remaining features. The object is spent afterwards."""
        wanted = -(-self._total // STEP)
        missing = wanted * STEP + self._look_ahead - self._blocks * self._chunk
        blocks = max(0, -(-missing // self._chunk))
        padding = blocks * self._chunk - len(self._pending)
        parts = [self._advance(np.zeros(max(0, padding), dtype=np.float32))]
        for _ in range(len(self._waiting)):
            # Of the median, the silence that follows tells more.
            self._hear(np.zeros(self._instants, np.float32))
            parts.append(self._settled())
        rest = SourceFilterFeatures.joined(parts)
        return rest[: len(rest.f0) - (self._given - wanted)]

    def _advance(self, samples: Samples) -> SourceFilterFeatures:
        self._pending = np.concatenate([self._pending, samples])
        whole = len(self._pending) // self._chunk
        parts = [
            self._block(self._pending[i * self._chunk : (i + 1) * self._chunk])
            for i in range(whole)
        ]
        self._pending = self._pending[whole * self._chunk :]
        return SourceFilterFeatures.joined([part for part in parts if len(part.f0)])

    def _block(self, samples: Samples) -> SourceFilterFeatures:
        self._blocks += 1
        kept = self._look_ahead + 2 * _REACH
        self._history = np.concatenate([self._history[-kept:], samples])
        tracked = self._tracker.push(samples)
        first = 2 * _REACH
        centres = first + STEP * np.arange(self._instants)
        shape = spectral.envelopes(self._history, centres, tracked)
        share, f0 = periodic.periodicities(self._history, centres, tracked)
        source = self._history[first : first + self._chunk].reshape(self._instants, STEP).copy()
        self._statistics.push(f0, share, shape)
        self._hear(f0)
        self._waiting.append((source, f0, share, shape.astype(np.float16)))
        if len(self._waiting) <= self._settling:
            return SourceFilterFeatures.joined([])
        return self._settled()

    def _hear(self, f0: Array) -> None:
        if self._expected is not None:
            self._expected.push(f0)

    def _settled(self) -> SourceFilterFeatures:
        """Join the block that has waited longest with what is known of the speaker by now."""
        first = (self._blocks - len(self._waiting)) * self._chunk - self._look_ahead
        before_start = max(0, -first) // STEP
        source, f0, share, shape = self._waiting.popleft()
        known, rows = self._statistics, self._instants
        median = float(known.pitch[0]) if self._expected is None else self._expected.median
        usual = np.array([median, known.steady_spread], dtype=np.float32)
        self._given += max(0, rows - before_start)
        features = SourceFilterFeatures(
            source,
            f0,
            share,
            shape,
            usual[None].repeat(rows, axis=0),
            np.full(rows, known.tract, dtype=np.float32),
            known.breath[None].repeat(rows, axis=0),
            known.timbre.astype(np.float16)[None].repeat(rows, axis=0),
        )
        return features[before_start:]
