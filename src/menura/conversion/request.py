"""Everything that decides one conversion."""

from dataclasses import dataclass, field

from menura.audio.formats import OutputFormat
from menura.engine.interface import (
    LATENCY_PROFILES,
    SAMPLE_RATE,
    ConversionSettings,
    Engine,
    LatencyProfile,
    Voice,
)

MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class DurationLimits:
    """How long the audio of one conversion may be, in seconds; a maximum of 0 lifts it."""

    min_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How the source is read and analysed: all that matters before a voice is needed.

    file_format: of `audio.decode.FILE_FORMATS`. denoise: whether noise is removed first.
    sample_rate: of the samples that are analysed and rendered, in Hz; engines that convert know
    only `SAMPLE_RATE`.
    """

    engine: Engine
    file_format: str = "other"
    denoise: bool = False
    latency: LatencyProfile = LATENCY_PROFILES[0]
    sample_rate: int = SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """A source plan, and how its features become the answer.

    seed: 0 to 4294967295; the same request gives the same bytes.
    """

    source: SourcePlan
    voice: Voice
    output_format: OutputFormat
    settings: ConversionSettings = field(default_factory=ConversionSettings)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Duration:
    """The exact length of a source: samples at its own rate in Hz."""

    samples: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.samples / self.sample_rate
