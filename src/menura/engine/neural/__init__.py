"""The trained engine: content network, voice network and decoder over a neural homomorphic vocoder."""

from menura.engine.neural.engine import NeuralEngine

__all__ = ["NeuralEngine"]
