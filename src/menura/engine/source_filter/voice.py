"""A target voice: what the rendering must know of it, and its serialisation."""

import io
from dataclasses import dataclass, fields

import numpy as np

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
        held = io.BytesIO()
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(held, allow_pickle=False, version=np.asarray(VERSION), **arrays)
        return held.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "SourceFilterVoice":
        """Read a voice written by `to_bytes`. Raises ValueError on anything else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as held:
                version = int(held["version"])
                arrays = {field.name: held[field.name] for field in fields(SourceFilterVoice)}
        except Exception as error:
            raise ValueError("These bytes hold no source-filter voice.") from error
        if version != VERSION:
            raise ValueError(f"Voice version {version} is not {VERSION}; measure the voice anew.")
        values: dict[str, float | Array] = {}
        for name, array in arrays.items():
            if array.shape != _SHAPES.get(name, ()) or not np.isfinite(array).all():
                raise ValueError(f"The voice's '{name}' is damaged.")
            values[name] = array.astype(np.float32) if array.shape else float(array)
        return SourceFilterVoice(**values)  # type: ignore[arg-type]
