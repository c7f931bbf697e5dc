"""Streaming conversion of features into another voice's samples."""

import numpy as np

from menura.engine.interface import (
    ConversionSettings,
    Features,
    LatencyProfile,
    Samples,
    Voice,
)
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.mapping import convert
from menura.engine.source_filter.spectrum import STEP
from menura.engine.source_filter.synthesis import PRE, Synthesiser
from menura.engine.source_filter.voice import SourceFilterVoice

_KNEE = 0.8
"""Amplitude above which peaks are bent so that they stay below full scale."""


def _within_full_scale(samples: Samples) -> Samples:
    over = np.maximum(np.abs(samples) - _KNEE, 0.0)
    bent = (1.0 - _KNEE) * np.tanh(over / (1.0 - _KNEE))
    return np.asarray(samples - np.sign(samples) * (over - bent), dtype=np.float32)


class SourceFilterRendering:
    """Renders one stream in blocks of a fixed number of instants counted from its start."""

    def __init__(
        self,
        voice: SourceFilterVoice,
        settings: ConversionSettings,
        seed: int,
        latency: LatencyProfile,
    ) -> None:
        self._voice = voice
        self._settings = settings
        self._speed = settings.speed
        self._seen = 0
        self._picked = 0
        self._instants = latency.chunk // STEP
        self._synthesiser = Synthesiser(self._instants, seed)
        self._pending = SourceFilterFeatures.nothing()
        self._skip = STEP + PRE
        self._given = 0
        self._held = SourceFilterFeatures.silence()

    @property
    def delay(self) -> int:
        """Samples held back between a frame's arrival and its last sample's departure."""
        return STEP + PRE

    def push(self, features: Features) -> Samples:
        """Take features in and return the samples that have become final."""
        if not isinstance(features, SourceFilterFeatures):
            raise TypeError(
                f"{type(features).__name__} comes from another engine's analysis"
            )
        self._pending = SourceFilterFeatures.joined([self._pending, self._at_speed(features)])
        parts = [np.zeros(0, dtype=np.float32)]
        while len(self._pending.f0) >= self._instants:
            parts.append(self._block(self._pending[: self._instants]))
            self._pending = self._pending[self._instants :]
        out = np.concatenate(parts)
        self._given += len(out)
        return out

    def flush(self, total: int) -> Samples:
        """End the stream and return the remaining samples."""
        wanted = round(total / self._speed)
        parts = [np.zeros(0, dtype=np.float32)]
        while self._given < wanted:
            if len(self._pending.f0) == 0:
                self._pending = self._held
            missing = self._instants - len(self._pending.f0)
            last = self._pending[-1:]
            part = self._block(
                SourceFilterFeatures.joined([self._pending] + [last] * missing)
            )
            self._pending = SourceFilterFeatures.nothing()
            part = part[: wanted - self._given]
            parts.append(part)
            self._given += len(part)
        return np.concatenate(parts)

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        if isinstance(voice, SourceFilterVoice):
            self._voice = voice
        if settings is not None:
            self._settings = settings

    def _at_speed(self, features: SourceFilterFeatures) -> SourceFilterFeatures:
        """Pick the instants of the source that the instants of the output stand for."""
        if self._speed == 1:
            return features
        first = self._seen
        self._seen += len(features.f0)
        rows = []
        while (row := int(self._picked * self._speed + 0.5)) < self._seen:
            rows.append(row - first)
            self._picked += 1
        return features[np.array(rows, np.intp)]

    def _block(self, features: SourceFilterFeatures) -> Samples:
        out = self._synthesiser.push(convert(features, self._voice, self._settings))
        self._held = features[-1:]
        skipped = min(self._skip, len(out))
        self._skip -= skipped
        return _within_full_scale(out[skipped:])
