"""The yardstick: an offline WORLD converter (Morise et al. 2016).

Log-F0 mapped by mean and variance, the envelope warped by the ratio of the vocal tracts' lengths,
the long-term spectrum matched.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from evaluation.corpus import CORPUS_RATE, Samples

with warnings.catch_warnings():
    # pyworld asks setuptools for its own version on import.
    warnings.simplefilter("ignore")
    import pyworld

Array = npt.NDArray[np.float64]
TOP = 7500.0
"""Highest frequency that is matched: most references hold nothing above 8 kHz."""


def analyse(samples: Samples) -> tuple[Array, Array, Array]:
    """F0 in Hz (0 where unvoiced), log envelope in nepers of power, aperiodicity; 5 ms frames."""
    wave = samples.astype(np.float64)
    f0, times = pyworld.harvest(wave, CORPUS_RATE, f0_floor=60.0, f0_ceil=600.0)
    f0 = pyworld.stonemask(wave, f0, times, CORPUS_RATE)
    envelope = np.log(pyworld.cheaptrick(wave, f0, times, CORPUS_RATE) + 1e-12)
    aperiodicity = pyworld.d4c(wave, f0, times, CORPUS_RATE)
    return f0, envelope, aperiodicity


def warp(envelope: Array, factor: float) -> Array:
    """Stretch the frequency axis: factor > 1 moves formants up."""
    bins = np.arange(envelope.shape[-1], dtype=np.float64)
    return np.stack([np.interp(bins / factor, bins, frame) for frame in np.atleast_2d(envelope)])


def smooth(spectrum: Array, terms: int) -> Array:
    """Keep the first cosine terms of a log spectrum."""
    whole = np.concatenate([spectrum, spectrum[-2:0:-1]])
    cepstrum = np.fft.rfft(whole).real / len(whole)
    cepstrum[terms:] = 0.0
    return np.asarray(np.fft.irfft(cepstrum * len(whole), len(whole))[: len(spectrum)])


def tract_ratio(source: Array, target: Array) -> float:
    """Warp factor that brings the detail of one mean log envelope nearest to another's."""
    high = int(5000.0 / (CORPUS_RATE / 2) * (len(source) - 1))

    def detail(spectrum: Array) -> Array:
        fine = smooth(spectrum, 24) - smooth(spectrum, 4)
        return fine[20:high]

    factors = np.arange(0.82, 1.221, 0.02)
    goal = detail(target)
    errors = [
        np.mean((detail(warp(source, f)[0]) - goal) ** 2) + 2.0 * np.log(f) ** 2 for f in factors
    ]
    return float(factors[int(np.argmin(errors))])


def synthesise(f0: Array, envelope: Array, aperiodicity: Array, count: int) -> Array:
    """Return so many samples of what `analyse` gives, changed or not."""
    made = pyworld.synthesize(f0, np.exp(envelope), aperiodicity, CORPUS_RATE)[:count]
    return np.pad(made, (0, count - len(made)))


def convert(source: Samples, reference: Samples) -> Samples:
    """Convert a whole clip at 24 kHz; as many samples out as in."""
    f0, envelope, aperiodicity = analyse(source)
    wanted_f0, wanted, _ = analyse(reference)
    ours, theirs = np.log(f0[f0 > 0]), np.log(wanted_f0[wanted_f0 > 0])
    scale = float(np.clip(theirs.std() / ours.std(), 0.6, 1.6))
    moved = np.where(
        f0 > 0, np.exp((np.log(np.maximum(f0, 1.0)) - ours.mean()) * scale + theirs.mean()), 0.0
    )
    mean_ours, mean_theirs = envelope[f0 > 0].mean(axis=0), wanted[wanted_f0 > 0].mean(axis=0)
    factor = tract_ratio(mean_ours, mean_theirs)
    warped = warp(envelope, factor)
    step = smooth(mean_theirs - warped[f0 > 0].mean(axis=0), 40)
    edge = int(TOP / (CORPUS_RATE / 2) * (len(step) - 1))
    step[edge:] = step[edge]
    step -= step[:edge].mean()
    shaped = warped + np.clip(step, -3.5, 3.5)
    result = synthesise(np.clip(moved, 0.0, 700.0), shaped, aperiodicity, len(source))
    level = np.sqrt(np.mean(source.astype(np.float64) ** 2) / (np.mean(result**2) + 1e-12))
    result *= min(level, 0.98 / (np.abs(result).max() + 1e-9))
    return result.astype(np.float32)
