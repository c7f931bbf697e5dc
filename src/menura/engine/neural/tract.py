"""Vocal-tract length: how far formants are moved before the network sees the source's envelope."""

import numpy as np

from menura.engine.neural.features import MEL_TOP, MELS, Array, mel_scale

_EXPONENT = 0.15
"""Octaves of formant per octave of pitch between speakers; men and women differ by 1 in pitch, 0.2
in formants."""
_LEAST, _MOST = 0.82, 1.22
_CORNERS = np.linspace(mel_scale(60.0), mel_scale(MEL_TOP), MELS + 2)
_HERTZ = 700.0 * np.expm1(_CORNERS[1:-1] / 1127.0)


def tract_ratio(source_f0: float, target_f0: float) -> float:
    """Return by which factor formants lie higher in a voice, judged by the two median F0s in Hz."""
    return float(np.clip((target_f0 / source_f0) ** _EXPONENT, _LEAST, _MOST))


def ratios(source: Array, target: float, towards: float) -> Array:
    """Return `tract_ratio` for each of the source's running medians of log F0, shape (n,).

    target: median log F0 of the voice. towards: 0 to 1, the share of the way.
    """
    wanted = np.exp((target - source) * _EXPONENT)
    return np.asarray(np.clip(wanted, _LEAST, _MOST) ** towards, np.float32)


def moved(mel: Array, ratio: Array) -> Array:
    """Return log-mel rows with formants at `ratio` times their frequency, shape (n, 80).

    ratio: one factor per row, (n,).
    """
    place = (mel_scale(_HERTZ[None] / ratio[:, None]) - _CORNERS[1]) / (_CORNERS[1] - _CORNERS[0])
    place = np.clip(place, 0.0, MELS - 1.001)
    low = place.astype(int)
    share = (place - low).astype(np.float32)
    rows = np.arange(len(mel))[:, None]
    return np.asarray(mel[rows, low] * (1 - share) + mel[rows, low + 1] * share)
