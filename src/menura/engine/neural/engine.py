"""The neural engine behind the common interface."""

from collections.abc import Sequence
from pathlib import Path

from menura.engine.interface import (
    ConversionSettings,
    LatencyProfile,
    Measurement,
    Samples,
    Voice,
)
from menura.engine.neural import measurement
from menura.engine.neural.analysis import NeuralAnalysis
from menura.engine.neural.features import NeuralFeatures
from menura.engine.neural.mapping import NeuralMapping
from menura.engine.neural.networks import load_networks, shipped_networks
from menura.engine.neural.voice import VERSION, NeuralVoice
from menura.engine.source_filter.equaliser import Equaliser
from menura.engine.source_filter.rendering import SourceFilterRendering

EQUALISER_PRIOR = 350.0
"""Loud frames that the equaliser takes to half of its way: the envelopes it finds are the voice's
already, and what it does to single sounds costs naturalness (measured, docs/training-log.md)."""


class NeuralEngine:
    """A zero-shot converter trained for this project; see docs/model-card.md.

    folder: weights to use instead of those inside the package.
    """

    name = "neural"

    def __init__(self, folder: Path | None = None) -> None:
        self._networks = load_networks(folder) if folder else shipped_networks()
        self.version = f"{VERSION}-{self._networks.version}"

    def measure(self, references: Sequence[Samples]) -> Measurement:
        """Measure a voice from one or more 24 kHz recordings, 5 to 60 s in all.

        Raises UnusableReferenceError when they hold too little speech.
        """
        return measurement.measure(self._networks, references)

    def load_voice(self, data: bytes) -> NeuralVoice:
        """Read a voice written by `Voice.to_bytes`. Raises ValueError on anything else."""
        return NeuralVoice.from_bytes(data)

    def analysis(self, latency: LatencyProfile) -> NeuralAnalysis:
        """Start analysing one stream."""
        return NeuralAnalysis(self._networks, latency)

    def rendering(
        self, voice: Voice, settings: ConversionSettings, seed: int, latency: LatencyProfile
    ) -> SourceFilterRendering[NeuralFeatures]:
        """Start rendering one stream. The same seed and input give identical samples."""
        if not isinstance(voice, NeuralVoice):
            raise TypeError(f"{type(voice).__name__} is a voice of another engine")
        timbre = self._networks.timbre(latency.chunk)
        mapping = NeuralMapping(timbre, voice, settings)
        equaliser = Equaliser(voice, settings, EQUALISER_PRIOR)
        return SourceFilterRendering(mapping, equaliser, settings.speed, seed, latency)
