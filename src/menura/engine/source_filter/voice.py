"""A target voice: what the rendering must know of it, and its serialisation."""

from dataclasses import dataclass

from menura.engine.serialisation import voice_from_bytes, voice_to_bytes
from menura.engine.source_filter.periodicity import BANDS
from menura.engine.source_filter.spectrum import Array
from menura.engine.source_filter.statistics import LTAS_BANDS

VERSION = 4

SPECTRUM_BANDS = 40
"""Mel-spaced bands of the recordings' own long-term spectrum, 80 Hz to 7.8 kHz."""

SHAPES = {
    "timbre": (2, LTAS_BANDS),
    "periodicity": (BANDS,),
    "spectrum": (2, SPECTRUM_BANDS),
}
"""Shapes of the arrays that a voice holds."""


@dataclass(frozen=True, slots=True)
class SourceFilterVoice:
    """Long-term statistics of one speaker.

    pitch: median F0 in log2 Hz. spread: its standard deviation in octaves.
    tract: vocal-tract length factor; formants lie at `tract` times an average speaker's.
    timbre: mean log spectra of voiced and of unvoiced speech relative to the level,
        (2, LTAS_BANDS).
    periodicity: mean periodic share of voiced power per band, (BANDS,).
    spectrum: long-term spectrum of the recordings themselves, as `equaliser.long_term` gives it,
        (2, SPECTRUM_BANDS).
    bandwidth: Hz above which the references hold nothing.
    """

    pitch: float
    spread: float
    tract: float
    timbre: Array
    periodicity: Array
    spectrum: Array
    bandwidth: float

    def to_bytes(self) -> bytes:
        """Return a self-contained serialisation that `from_bytes` reads."""
        return voice_to_bytes(self, VERSION)

    @staticmethod
    def from_bytes(data: bytes) -> "SourceFilterVoice":
        """Read a voice written by `to_bytes`. Raises ValueError on anything else."""
        values = voice_from_bytes(data, SourceFilterVoice, VERSION, SHAPES, "source-filter")
        return SourceFilterVoice(**values)  # type: ignore[arg-type]
