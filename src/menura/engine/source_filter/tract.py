"""Vocal-tract length from the shapes of vowels, without knowing which vowels they are.

Maximum-likelihood frequency warping against a mixture model of many speakers (Lee and Rose 1996):
of all warps, the one under which a speaker's voiced spectra look most like average ones. The first
two cepstral terms are left out, since microphones and vocal effort tilt the spectrum too. F0 gives
the prior.
"""

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter.settling import PRIOR_PITCH
from menura.engine.source_filter.spectrum import Array, mel_bank, mel_edges

WARPS: NDArray[np.float64] = np.exp(np.linspace(np.log(0.84), np.log(1.2), 13))
"""Tract factors that are tried: formants at so many times an average speaker's."""

_BANDS = 26
_RANGE = (100.0, 5_600.0)
"""Hz between which vowels are compared."""
_FIRST, _LAST = 3, 14
"""Cepstral terms that are compared."""
_FRAMES_PER_PHONE = 12.0
"""Instants that count as one, since neighbours say the same."""
_MOST_PHONES = 20.0
"""Phones after which more of the same says nothing new: spectra of one recording err alike, and
would outvote F0 between two tract lengths that are about as likely."""
_PRIOR_SPREAD = 0.06
"""Standard deviation of the natural log of the tract factor around what F0 foretells."""
_PITCH_SLOPE = 0.15
"""Natural log of the tract factor per octave of F0: men and women are an octave and 1.15 apart."""


def _cepstra_of_warp(warp: float) -> NDArray[np.float64]:
    bank = mel_bank(mel_edges(_BANDS, *_RANGE) * warp)
    turns = np.arange(_FIRST, _LAST + 1)[None, :] * (np.arange(_BANDS)[:, None] + 0.5)
    return np.asarray(bank @ np.cos(np.pi / _BANDS * turns))


@cache
def _projection() -> Array:
    return np.concatenate([_cepstra_of_warp(warp) for warp in WARPS], axis=1).astype(np.float32)


@cache
def average() -> dict[str, NDArray[np.float32]]:
    """Return the average speaker: mixture `means`, `precisions`, `offsets`; `timbre`; `breath`."""
    with (
        (files(__package__) / "average.npz").open("rb") as held,
        np.load(held) as arrays,
    ):
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


def cepstra(envelope: Array) -> Array:
    """Return cepstral terms 3 to 14 under every warp, (rows, warps, terms)."""
    return np.asarray(envelope @ _projection()).reshape(
        len(envelope), len(WARPS), _LAST - _FIRST + 1
    )


def log_likelihoods(envelope: Array) -> NDArray[np.float64]:
    """Return how well each warp explains rows of voiced log envelopes, summed, (warps,)."""
    model = average()
    terms = cepstra(envelope)
    flat = terms.reshape(-1, terms.shape[2])
    scores = (
        model["offsets"]
        + flat @ (model["means"] * model["precisions"]).T
        - 0.5 * (flat * flat) @ model["precisions"].T
    )
    top = scores.max(axis=1, keepdims=True)
    logs = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1))
    return np.asarray(logs.reshape(len(envelope), len(WARPS)).sum(axis=0), dtype=np.float64)


def tract(total: NDArray[np.float64], count: float, pitch: float) -> float:
    """Return the expected tract factor.

    total: log likelihoods of the warps, summed over `count` instants, (warps,). pitch: median F0 in
    log2 Hz.
    """
    logs = np.log(WARPS)
    usual = np.clip(_PITCH_SLOPE * (pitch - PRIOR_PITCH), -0.12, 0.14)
    phones = max(count / _FRAMES_PER_PHONE, 1e-9)
    evidence = total / _FRAMES_PER_PHONE * min(1.0, _MOST_PHONES / phones)
    score = evidence - 0.5 * ((logs - usual) / _PRIOR_SPREAD) ** 2
    weight = np.exp(score - score.max())
    return float(np.exp((weight * logs).sum() / weight.sum()))
