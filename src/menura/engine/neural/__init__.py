"""The neural engine: the source-filter engine's analysis and synthesis, with an envelope that a
network forms."""

from menura.engine.neural.engine import NeuralEngine

__all__ = ["NeuralEngine"]
