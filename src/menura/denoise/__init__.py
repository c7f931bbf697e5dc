"""Noise removal as a streaming stage."""

from menura.denoise.suppressor import Denoiser

__all__ = ["Denoiser"]
