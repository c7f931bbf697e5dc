"""Analysis and rendering joined into one stage: samples in, converted samples out."""

import numpy as np

from menura.engine.interface import (
    ConversionSettings,
    Engine,
    LatencyProfile,
    Samples,
    Voice,
)


class ConversionStream:
    """One stream through one engine, for live use and for files alike.

    Gives exactly `round(total / speed)` samples, aligned with the input, whatever the chunking.
    """

    def __init__(
        self,
        engine: Engine,
        voice: Voice,
        settings: ConversionSettings,
        latency: LatencyProfile,
        seed: int = 0,
    ) -> None:
        self._analysis = engine.analysis(latency)
        self._rendering = engine.rendering(voice, settings, seed, latency)
        self._total = 0

    @property
    def delay(self) -> int:
        """Samples of input at most between a sample's arrival and its counterpart's departure."""
        return self._analysis.delay + self._rendering.delay

    def push(self, samples: Samples) -> Samples:
        """Take 24 kHz samples in and return the converted samples that have become final."""
        self._total += len(samples)
        return self._rendering.push(self._analysis.push(samples))

    def flush(self) -> Samples:
        """End the stream and return what remains. The object is spent afterwards."""
        head = self._rendering.push(self._analysis.flush())
        return np.concatenate([head, self._rendering.flush(self._total)])

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        self._rendering.change(voice, settings)
