"""The source-filter engine behind the common interface."""

from collections.abc import Sequence

from menura.engine.interface import (
    ConversionSettings,
    LatencyProfile,
    Measurement,
    Samples,
    Voice,
)
from menura.engine.source_filter import measurement
from menura.engine.source_filter.analysis import SourceFilterAnalysis
from menura.engine.source_filter.equaliser import Equaliser
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.mapping import SourceFilterMapping
from menura.engine.source_filter.rendering import SourceFilterRendering
from menura.engine.source_filter.voice import VERSION, SourceFilterVoice


class SourceFilterEngine:
    """Pitch, vocal-tract length and timbre moved to a voice; no trained weights, any language."""

    name = "source_filter"
    version = str(VERSION)

    def measure(self, references: Sequence[Samples]) -> Measurement:
        """Measure a voice from one or more 24 kHz recordings, 5 to 60 s in all.

        Raises UnusableReferenceError when they hold too little speech.
        """
        return measurement.measure(references)

    def load_voice(self, data: bytes) -> SourceFilterVoice:
        """Read a voice written by `Voice.to_bytes`. Raises ValueError on anything else."""
        return SourceFilterVoice.from_bytes(data)

    def analysis(self, latency: LatencyProfile) -> SourceFilterAnalysis:
        """Start analysing one stream."""
        return SourceFilterAnalysis(latency)

    def rendering(
        self,
        voice: Voice,
        settings: ConversionSettings,
        seed: int,
        latency: LatencyProfile,
    ) -> SourceFilterRendering[SourceFilterFeatures]:
        """Start rendering one stream. The same seed and input give identical samples."""
        if not isinstance(voice, SourceFilterVoice):
            raise TypeError(f"{type(voice).__name__} is a voice of another engine")
        mapping = SourceFilterMapping(voice, settings)
        equaliser = Equaliser(voice, settings)
        return SourceFilterRendering(mapping, equaliser, settings.speed, seed, latency)
