"""An engine that leaves the voice as it is: for audio that only passes through the chain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from menura.engine.interface import (
    EMPTY,
    HOP,
    ConversionSettings,
    Features,
    LatencyProfile,
    Measurement,
    Samples,
    Voice,
)


@dataclass(frozen=True, slots=True)
class SameVoice:
    """The voice of the source itself."""

    def to_bytes(self) -> bytes:
        """Return nothing: there is nothing to keep."""
        return b""


@dataclass(frozen=True, slots=True)
class PlainFeatures:
    """The samples themselves, shape (n,)."""

    samples: Samples

    @property
    def frames(self) -> int:
        """Number of 10 ms frames, the last of which may be a part of one."""
        return -(-self.samples.size // HOP)

    def split(self, frames: int) -> list["PlainFeatures"]:
        """Return the same in stretches of so many frames at most, in time; of none comes none."""
        size = frames * HOP
        starts = range(0, self.samples.size, size)
        return [PlainFeatures(self.samples[start : start + size]) for start in starts]


class _Analysis:
    delay = HOP - 1

    def __init__(self) -> None:
        self._rest: Samples = EMPTY

    def push(self, samples: Samples) -> PlainFeatures:
        joined = np.concatenate((self._rest, samples))
        whole = joined.size // HOP * HOP
        self._rest = joined[whole:]
        return PlainFeatures(joined[:whole])

    def flush(self) -> PlainFeatures:
        return PlainFeatures(self._rest)


class _Rendering:
    delay = 0

    def push(self, features: Features) -> Samples:
        assert isinstance(features, PlainFeatures)
        return features.samples

    def flush(self, total: int) -> Samples:
        return EMPTY

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        pass


class PassThrough:
    """An engine whose output is its input, at any sample rate. `speed` must be 1."""

    name = "pass-through"
    version = "1"

    def measure(self, references: Sequence[Samples]) -> Measurement:
        """Return the one voice there is."""
        return Measurement(SameVoice(), ())

    def load_voice(self, data: bytes) -> SameVoice:
        """Return the one voice there is."""
        return SameVoice()

    def analysis(self, latency: LatencyProfile) -> _Analysis:
        """Start one stream."""
        return _Analysis()

    def rendering(
        self, voice: Voice, settings: ConversionSettings, seed: int, latency: LatencyProfile
    ) -> _Rendering:
        """Start one stream."""
        return _Rendering()
