"""Noise removal as a streaming stage."""

from menura.denoise.interface import Denoiser
from menura.denoise.suppressor import Suppressor

__all__ = ["Denoiser", "open_denoiser"]


def open_denoiser() -> Denoiser:
    """Start removing the noise of one stream."""
    return Suppressor()
