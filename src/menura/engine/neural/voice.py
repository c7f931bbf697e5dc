"""A target voice as the neural engine knows it, and its serialisation."""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from menura.engine.neural import bands
from menura.engine.neural.networks import CODE
from menura.engine.serialisation import voice_from_bytes, voice_to_bytes
from menura.engine.source_filter.spectrum import Array
from menura.engine.source_filter.voice import SHAPES, SourceFilterVoice

VERSION = 2
ROWS = 256
"""Moments of the reference that a voice consists of."""

ROW_STEP, VALUE_STEP = 1 / 32, 1 / 8
"""Steps to which codes, and nepers of power, are rounded: a voice is a byte per number."""

_SHAPES = SHAPES | {
    "rows": (ROWS, CODE + 1),
    "values": (ROWS, bands.COUNT),
    "means": (2 * bands.COUNT,),
}


@dataclass(frozen=True, slots=True)
class NeuralVoice(SourceFilterVoice):
    """Long-term statistics of one speaker, and what single sounds are like.

    rows: content code and voicing at ROWS moments of the reference, (ROWS, CODE + 1). values: the
    envelopes there over their level, in nepers of power, (ROWS, 64). means: mean envelopes of
    voiced and of unvoiced speech, (128,).
    """

    rows: Array
    values: Array
    means: Array

    @classmethod
    def of(cls, known: SourceFilterVoice, rows: Array, values: Array, means: Array) -> Self:
        """Add single sounds to what the source-filter engine measured."""
        own = {field.name: getattr(known, field.name) for field in fields(SourceFilterVoice)}
        return cls(**own, rows=rows, values=values, means=means)

    def to_bytes(self) -> bytes:
        """Return a self-contained serialisation that `from_bytes` reads: 37 kB."""
        short = replace(
            self,
            rows=np.rint(self.rows / ROW_STEP).astype(np.int8),
            values=np.rint(self.values / VALUE_STEP).astype(np.int8),
        )
        return voice_to_bytes(short, VERSION)

    @staticmethod
    def from_bytes(data: bytes) -> "NeuralVoice":
        """Read a voice written by `to_bytes`. Raises ValueError on anything else."""
        values = voice_from_bytes(data, NeuralVoice, VERSION, _SHAPES, "neural")
        voice = NeuralVoice(**values)  # type: ignore[arg-type]
        return replace(voice, rows=voice.rows * ROW_STEP, values=(voice.values * VALUE_STEP))
