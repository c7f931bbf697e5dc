"""A target voice: what the rendering must know of it, and its serialisation."""

from dataclasses import dataclass

from menura.engine.serialisation import voice_from_bytes, voice_to_bytes
from menura.engine.source_filter.periodicity import BANDS
from menura.engine.source_filter.spectrum import Array
from menura.engine.source_filter.statistics import LTAS_BANDS

VERSION = 3

_SHAPES = {"timbre": (2, LTAS_BANDS), "periodicity": (BANDS,)}


@dataclass(frozen=True, slots=True)
class SourceFilterVoice:
    """Long-term statistics of one speaker.

    pitch: median F0 in log2 Hz. spread: its standard deviation in octaves.
    tract: vocal-tract length factor; formants lie at `tract` times an average speaker's.
    timbre: mean log spectra of voiced and of unvoiced speech relative to the level,
        (2, LTAS_BANDS).
    periodicity: mean periodic share of voiced power per band, (BANDS,).
    bandwidth: Hz above which the references hold nothing.
    """

    pitch: float
    spread: float
    tract: float
    timbre: Array
    periodicity: Array
    bandwidth: float

    def to_bytes(self) -> bytes:
        """Return a self-contained serialisation that `from_bytes` reads."""
        return voice_to_bytes(self, VERSION)

    @staticmethod
    def from_bytes(data: bytes) -> "SourceFilterVoice":
        """Read a voice written by `to_bytes`. Raises ValueError on anything else."""
        values = voice_from_bytes(data, SourceFilterVoice, VERSION, _SHAPES, "source-filter")
        return SourceFilterVoice(**values)  # type: ignore[arg-type]
