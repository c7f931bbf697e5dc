"""Streaming conversion of features into another voice's samples."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from menura.engine.interface import (
    ConversionSettings,
    Features,
    LatencyProfile,
    Samples,
    Voice,
)
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.mapping import LoudnessKeeper, convert
from menura.engine.source_filter.spectrum import STEP, Array
from menura.engine.source_filter.synthesis import PRE, Synthesiser
from menura.engine.source_filter.voice import SourceFilterVoice

_KNEE = 0.8
"""Amplitude above which peaks are bent so that they stay below full scale."""


class SourceFilterRendering:
    """Renders one stream in blocks of a fixed number of output instants counted from its start.

    The first block is as long as the first that the analysis gives out, so that neither waits for
    the other afterwards.
    Output instant m shows the source at instant `m * speed`, between two rows where it must.
    """

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
        self._instants = latency.chunk // STEP
        self._block_length = (latency.chunk - latency.look_ahead % latency.chunk) // STEP
        self._synthesiser = Synthesiser(self._instants, seed)
        self._loudness = LoudnessKeeper()
        self._rows = SourceFilterFeatures.silence()
        self._first = -1
        self._next = 0
        self._skip = STEP + PRE
        self._given = 0

    @property
    def delay(self) -> int:
        """Samples held back between a frame's arrival and its last sample's departure."""
        return STEP + PRE + (0 if self._speed == 1.0 else self._instants * STEP)

    def push(self, features: Features) -> Samples:
        """Take features in and return the samples that have become final."""
        if not isinstance(features, SourceFilterFeatures):
            raise TypeError(f"{type(features).__name__} comes from another engine's analysis")
        self._rows = SourceFilterFeatures.joined([self._rows, features])
        parts = [np.zeros(0, dtype=np.float32)]
        while self._first + len(self._rows.f0) > np.ceil(self._positions()[-1]):
            parts.append(self._block())
        out = np.concatenate(parts)
        self._given += len(out)
        return out

    def flush(self, total: int) -> Samples:
        """End the stream and return the remaining samples."""
        wanted = round(total / self._speed)
        parts = [np.zeros(0, dtype=np.float32)]
        while self._given < wanted:
            parts.append(self.push(SourceFilterFeatures.joined([self._rows[-1:]] * self._instants)))
        out = np.concatenate(parts)
        return out[: len(out) - (self._given - wanted)]

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        if isinstance(voice, SourceFilterVoice):
            self._voice = voice
        elif voice is not None:
            raise TypeError(f"{type(voice).__name__} is a voice of another engine")
        if settings is not None:
            self._settings = settings

    def _positions(self) -> NDArray[np.float64]:
        return (self._next + np.arange(self._block_length, dtype=np.float64)) * self._speed

    def _block(self) -> Samples:
        positions = self._positions()
        offsets = positions - self._first
        if self._speed == 1.0:
            shown = self._rows[int(offsets[0]) : int(offsets[0]) + self._block_length]
        else:
            shown = _between(self._rows, offsets)
        starts = np.rint(offsets * STEP).astype(np.intp) - STEP
        grains = sliding_window_view(self._rows.samples.ravel(), 2 * STEP)[starts]
        sound = convert(shown, self._voice, self._settings)
        sound = self._loudness.push(sound)
        out = self._synthesiser.push(sound, grains)
        self._next += self._block_length
        self._block_length = self._instants
        keep = int(self._next * self._speed) - 1
        self._rows = self._rows[keep - self._first :]
        self._first = keep
        skipped = min(self._skip, len(out))
        self._skip -= skipped
        return _within_full_scale(out[skipped:])


def _between(rows: SourceFilterFeatures, offsets: NDArray[np.float64]) -> SourceFilterFeatures:
    """Read features at fractional rows."""
    low = np.minimum(offsets.astype(np.intp), len(rows.f0) - 1)
    high = np.minimum(low + 1, len(rows.f0) - 1)
    part = (offsets - low).astype(np.float32)

    def mixed(values: Array) -> Array:
        return np.asarray(values[low] + part[:, None] * (values[high] - values[low]))

    before, after = rows.f0[low], rows.f0[high]
    voiced = (before > 0) & (after > 0)
    gliding = before * (np.maximum(after, 1.0) / np.maximum(before, 1.0)) ** part
    nearest = np.where(part < 0.5, low, high)
    return SourceFilterFeatures(
        rows.samples[nearest],
        np.where(voiced, gliding, rows.f0[nearest]),
        mixed(rows.periodicity),
        mixed(rows.envelope.astype(np.float32)).astype(np.float16),
        rows.pitch[nearest],
        rows.tract[nearest],
        rows.breath[nearest],
        rows.timbre[nearest],
    )


def _within_full_scale(samples: Samples) -> Samples:
    over = np.maximum(np.abs(samples) - _KNEE, 0.0)
    bent = (1.0 - _KNEE) * np.tanh(over / (1.0 - _KNEE))
    return np.asarray(samples - np.sign(samples) * (over - bent), dtype=np.float32)
