"""Envelopes in 64 mel-spaced bands: what the envelope network reads and writes."""

import numpy as np

from menura.engine.neural.mel import MEL_TOP
from menura.engine.source_filter.spectrum import Array, band_to_bin, mel, mel_bank, mel_edges

COUNT = 64
"""Bands from 60 Hz to 12 kHz."""

EDGES = mel_edges(COUNT)
CENTRES = EDGES[1:-1]
"""Centre of each band in Hz."""
FORMED = int((CENTRES < MEL_TOP).sum())
"""Bands that the networks form: what lies above is owned by too few recordings."""
_MELS = np.linspace(mel(np.array(60.0)), mel(np.array(12_000.0)), COUNT + 2)

BANK: Array = mel_bank(EDGES).astype(np.float32)
"""Averages log power at bins to bands, (BINS, COUNT)."""

BAND_TO_BIN: Array = band_to_bin(CENTRES)
"""Interpolates bands at bins, (COUNT, BINS)."""


def warped(bands: Array, ratio: Array) -> Array:
    """Return rows of bands with formants at `ratio` times their frequency, shape (n, COUNT).

    ratio: one factor per row, (n,). Values are held at both ends.
    """
    place = (mel(CENTRES[None] / ratio[:, None]) - _MELS[1]) / (_MELS[1] - _MELS[0])
    place = np.clip(place, 0.0, COUNT - 1.001)
    low = place.astype(np.intp)
    share = (place - low).astype(np.float32)
    rows = np.arange(len(bands))[:, None]
    return np.asarray(bands[rows, low] * (1 - share) + bands[rows, low + 1] * share)


_HEARD = ((CENTRES > 100.0) & (CENTRES < 5_000.0)).astype(np.float32) * np.diff(EDGES)[1:].astype(
    np.float32
)
_HEARD = _HEARD / _HEARD.sum()


def level(bands: Array) -> Array:
    """Return the log of the mean power between 100 Hz and 5 kHz, shape (n,).

    bands: log power, (n, COUNT).
    """
    top = bands.max(axis=-1)
    power = np.exp(bands - top[..., None]) @ _HEARD
    return np.asarray(top + np.log(power + 1e-6), dtype=np.float32)
