"""A target voice as the network knows it, and its serialisation."""

from dataclasses import dataclass, replace

from menura.engine.neural import filters
from menura.engine.neural.features import MELS, Array
from menura.engine.serialisation import voice_from_bytes, voice_to_bytes

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
        return voice_to_bytes(self, VERSION)

    @staticmethod
    def from_bytes(data: bytes) -> "NeuralVoice":
        """Read a voice written by `to_bytes`. Raises ValueError on anything else."""
        values = voice_from_bytes(data, NeuralVoice, VERSION, _SHAPES, "neural")
        return NeuralVoice(**values)  # type: ignore[arg-type]

    def tuned(self, centre: Array, contrast: Array, equaliser: Array) -> "NeuralVoice":
        """Return the same voice with another tuning."""
        return replace(self, centre=centre, contrast=contrast, equaliser=equaliser)
