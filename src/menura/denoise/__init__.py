"""Noise removal as a streaming stage."""

from menura.denoise.interface import Denoiser
from menura.denoise.suppressor import LIVE, RECORDED, Suppressor

__all__ = ["Denoiser", "open_denoiser"]


def open_denoiser(*, live: bool = False) -> Denoiser:
    """Start removing the noise of one stream.

    live: give up some quality so that little is held back.
    """
    return Suppressor(LIVE if live else RECORDED)
