"""The trained engine: content, voice and decoder networks over a homomorphic vocoder."""

from menura.engine.neural.engine import NeuralEngine

__all__ = ["NeuralEngine"]
