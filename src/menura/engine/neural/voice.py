"""A target voice as the network knows it, and its serialisation."""

import io
from dataclasses import dataclass, fields, replace

import numpy as np

from menura.engine.neural import filters
from menura.engine.neural.features import MELS, Array

VOICE = 256
VERSION = 1
TUNED = filters.GAINS + filters.NOISE
"""Gains that a voice's tuning reaches: the harmonic, then the noise filter's."""
_SHAPES = {
    "vector": (VOICE,),
    "spectrum": (MELS,),
    "centre": (TUNED,),
    "contrast": (TUNED,),
    "equaliser": (TUNED,),
}


@dataclass(frozen=True, slots=True)
class NeuralVoice:
    """What a reference recording says about a speaker.

    vector: of the voice network, (256,). spectrum: mean level-free log-mel of the speech, (80,).
    median: of log F0 in Hz. spread: its standard deviation in nepers.
    centre: mean gains of the voice over the level, in nepers, (144,). contrast: factors by which
    gains are driven away from it. equaliser: nepers added to the gains.
    """

    vector: Array
    spectrum: Array
    median: float
    spread: float
    centre: Array
    contrast: Array
    equaliser: Array

    def to_bytes(self) -> bytes:
        """Return a self-contained serialisation that `from_bytes` reads."""
        held = io.BytesIO()
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(held, allow_pickle=False, version=np.asarray(VERSION), **arrays)
        return held.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "NeuralVoice":
        """Read a voice written by `to_bytes`. Raises ValueError on anything else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as held:
                version = int(held["version"])
                arrays = {field.name: held[field.name] for field in fields(NeuralVoice)}
        except Exception as error:
            raise ValueError("These bytes hold no neural voice.") from error
        if version != VERSION:
            raise ValueError(f"Voice version {version} is not {VERSION}; measure the voice anew.")
        for name, array in arrays.items():
            if array.shape != _SHAPES.get(name, ()) or not np.isfinite(array).all():
                raise ValueError(f"The voice's '{name}' is damaged.")
        rows = {name: arrays[name].astype(np.float32) for name in _SHAPES}
        return NeuralVoice(median=float(arrays["median"]), spread=float(arrays["spread"]), **rows)

    def tuned(self, centre: Array, contrast: Array, equaliser: Array) -> "NeuralVoice":
        """Return the same voice with another tuning."""
        return replace(self, centre=centre, contrast=contrast, equaliser=equaliser)
