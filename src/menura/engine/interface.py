"""The seam between the server and whatever converts voices.

An engine turns 24 kHz mono samples, a voice and settings into 24 kHz mono samples, and says its
delay. Conversion has two halves, so that the half that needs no request field can run while an
upload is still arriving:

    samples ──> Analysis ──> Features ──> Rendering ──> samples
               (the source only)          (voice, settings, seed)

Both halves are per-stream state objects. Any chunking of the input gives the same output, and the
output has exactly as many samples as the input (divided by `ConversionSettings.speed`), aligned
with it in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 24_000
"""Rate of every engine's input and output, in Hz."""

HOP = 240
"""Frame advance of the features in samples: 10 ms."""

Samples = NDArray[np.float32]
"""Mono audio, shape (n,), nominal range -1 to 1."""

EMPTY: Samples = np.zeros(0, np.float32)
"""No samples: what a stage gives while nothing is final."""


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """What one level of `optimize_streaming_latency` costs and buys.

    chunk: samples gathered before work is done, at 24 kHz.
    look_ahead: samples of future an engine may wait for before it commits to a frame.
    settling: samples for which a frame waits besides, so that more is known of its speaker. A
    multiple of `chunk`.
    """

    level: int
    chunk: int
    look_ahead: int
    settling: int = 0


LATENCY_PROFILES: tuple[LatencyProfile, ...] = (
    LatencyProfile(0, chunk=3840, look_ahead=7680, settling=15360),
    LatencyProfile(1, chunk=1920, look_ahead=1440, settling=7680),
    LatencyProfile(2, chunk=960, look_ahead=960, settling=1920),
    LatencyProfile(3, chunk=480, look_ahead=720),
    LatencyProfile(4, chunk=480, look_ahead=720),
)
"""Levels 0 to 4: 160, 80, 40, 20, 20 ms chunks; 320, 60, 40, 30, 30 ms look-ahead; 640, 320, 80, 0,
0 ms settling."""

RECORDING = LatencyProfile(0, chunk=3840, look_ahead=7680, settling=384_000)
"""Level 0 where nobody waits for the first sound: frames wait for 16 s, so that a speaker is known
before the first word is said."""


@dataclass(frozen=True, slots=True)
class ConversionSettings:
    """How a voice is applied; the contract's `voice_settings` with every value decided.

    stability, similarity_boost, style: 0 to 1. speed: 0.7 to 1.2. transpose: semitones by which all
    pitch is moved, its intervals kept; None for to where the voice speaks, in the voice's range.
    """

    stability: float = 0.5
    similarity_boost: float = 0.75
    style: float = 0.0
    use_speaker_boost: bool = True
    speed: float = 1.0
    transpose: float | None = None


class UnusableReferenceError(ValueError):
    """A reference recording from which no voice can be measured; the text says why, plainly."""


class Voice(Protocol):
    """A target voice as one engine knows it: immutable, shared between streams."""

    def to_bytes(self) -> bytes:
        """Return a self-contained serialisation that `Engine.load_voice` reads."""
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """A voice measured from references, and what the listener should know about it.

    warnings: plain sentences, for example about a short, noisy or band-limited reference.
    """

    voice: Voice
    warnings: tuple[str, ...]


class Features(Protocol):
    """What an analysis knows of a stretch of source speech; opaque outside its engine."""

    @property
    def frames(self) -> int:
        """Number of 10 ms frames, the last of which may be a part of one."""
        ...

    def split(self, frames: int) -> "Sequence[Features]":
        """Return the same in stretches of so many frames at most, in time; of none comes none."""
        ...


class Analysis(Protocol):
    """Streaming feature extraction from the source."""

    @property
    def delay(self) -> int:
        """Samples of input held back at most before their features are given out."""
        ...

    def push(self, samples: Samples) -> Features:
        """Take samples in and return the features that have become final (possibly no frames)."""
        ...

    def flush(self) -> Features:
        """End the input and return the remaining features. The object is spent afterwards."""
        ...


class Rendering(Protocol):
    """Streaming conversion of features into another voice's samples."""

    @property
    def delay(self) -> int:
        """Samples held back between a frame's arrival and its last sample's departure."""
        ...

    def push(self, features: Features) -> Samples:
        """Take features in and return the samples that have become final."""
        ...

    def flush(self, total: int) -> Samples:
        """End the stream and return the remaining samples.

        total: samples that were pushed into the analysis; the whole output has
        `round(total / speed)` samples.
        """
        ...

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        ...


class Engine(Protocol):
    """A conversion method: read-only and shared by all streams."""

    @property
    def name(self) -> str:
        """Stable name, part of a stored voice."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever stored voices must be measured anew."""
        ...

    def measure(self, references: Sequence[Samples]) -> Measurement:
        """Measure a voice from one or more 24 kHz recordings, 5 to 60 s in all.

        Raises UnusableReferenceError when they hold too little speech.
        """
        ...

    def load_voice(self, data: bytes) -> Voice:
        """Read a voice written by `Voice.to_bytes`. Raises ValueError on anything else."""
        ...

    def analysis(self, latency: LatencyProfile) -> Analysis:
        """Start analysing one stream."""
        ...

    def rendering(
        self, voice: Voice, settings: ConversionSettings, seed: int, latency: LatencyProfile
    ) -> Rendering:
        """Start rendering one stream. The same seed and input give identical samples."""
        ...
