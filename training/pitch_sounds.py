"""Sounds of known pitch for the pitch tracker: clips heard otherwise, vowels, creak, hum.

Each function returns samples at SAMPLE_RATE, F0 in Hz per 5 ms (0 where unvoiced) and the weight of
that truth, 0 to 2.
"""

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.correlogram import CEILING, FLOOR
from menura.engine.source_filter.spectrum import STEP

Array = NDArray[np.float32]


def varied(
    samples: Array, f0: Array, sure: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return a clip at another speed, level, in noise or in a telephone's band."""
    factor = float(2.0 ** rng.uniform(-0.45, 0.6))
    heard = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)
    at = np.minimum((np.arange(len(heard) // STEP) * factor).round().astype(int), len(f0) - 1)
    f0, sure = f0[at] * factor, sure[at].copy()
    sure[(f0 > 0) & ((f0 < FLOOR) | (f0 > CEILING))] = 0.0
    power = float(np.mean(heard**2))
    if rng.random() < 0.3:
        band = butter(2, (300, 3_400), "bandpass", fs=SAMPLE_RATE, output="sos")
        heard = sosfilt(band, heard).astype(np.float32)
    if rng.random() < 0.7:
        noise = rng.standard_normal(len(heard))
        if rng.random() < 0.5:
            noise = sosfilt(butter(1, 500, fs=SAMPLE_RATE, output="sos"), noise)
        noise *= np.sqrt(power / np.mean(noise**2)) * 10.0 ** rng.uniform(-1.8, -0.4)
        heard = heard + noise.astype(np.float32)
    return heard * np.float32(10.0 ** rng.uniform(-1.5, 0.3)), f0, sure


def vowel(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return a sung tone or glide of known F0."""
    seconds = 0.6
    glide = rng.uniform(-0.4, 0.4) * (rng.random() < 0.5)
    # Speech has hardly any of the ends of the range, and what is sung has.
    low, high = ((58.0, 780.0), (56.0, 80.0), (480.0, 795.0))[rng.choice(3, p=(0.5, 0.2, 0.3))]
    ends = rng.uniform(*np.log2([low, high])) + np.array([0.0, glide])
    track = 2.0 ** np.clip(np.linspace(*ends, int(seconds * SAMPLE_RATE)), *np.log2([55.5, 798.0]))
    phase = 2 * np.pi * np.cumsum(track) / SAMPLE_RATE
    formants = (rng.uniform(300, 850), rng.uniform(850, 2_200), rng.uniform(2_300, 3_200))
    if rng.random() < 0.4:
        # The second harmonic outshouts the first: the commonest trap.
        formants = (2.0 * float(track.mean()) + rng.uniform(-40, 40), *formants[1:])
    # A telephone takes the fundamental away, and a period remains.
    lowest = int(rng.integers(2, 6)) if rng.random() < 0.4 else 1
    bend = rng.uniform(0.0, 1.0)
    flat = rng.random() < 0.25
    sound = np.zeros(len(track))
    for harmonic in range(lowest, int(6_000 / track.max()) + 1):
        gain = sum(1.0 / (1.0 + ((harmonic * track - f) / 90.0) ** 2) for f in formants)
        gain = 1.0 if flat else gain / harmonic**0.5
        sound += gain * np.cos(harmonic * phase + bend * harmonic**2)
    sound *= 0.2 / np.abs(sound).max()
    sound += 10.0 ** rng.uniform(-4, -2) * rng.standard_normal(len(sound))
    f0 = track[::STEP].astype(np.float32)
    sure = np.full(len(f0), 2.0, np.float32)
    sure[:8] = sure[-8:] = 0.0
    return sound.astype(np.float32), f0, sure


def creak(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return a fundamental whose period and loudness waver, in a little hiss: no hum, but voice."""
    count, hold = int(0.6 * SAMPLE_RATE), SAMPLE_RATE // 100
    places = np.arange(0, count, hold)
    wander = rng.normal(0.0, rng.uniform(0.03, 0.12), len(places))
    track = rng.uniform(62.0, 220.0) * 2.0 ** np.repeat(wander, hold)[:count]
    loud = np.interp(np.arange(count), places, rng.uniform(0.4, 1.0, len(places)))
    sound = loud * np.cos(2 * np.pi * np.cumsum(track) / SAMPLE_RATE)
    sound *= 10.0 ** rng.uniform(-2.0, -1.0)
    hiss = np.diff(rng.standard_normal(count + 1)) * np.abs(sound).max()
    sound += 10.0 ** rng.uniform(-2.0, -0.8) * hiss
    sure = np.full(count // STEP, 2.0, np.float32)
    sure[:8] = sure[-8:] = 0.0
    told = np.full(count // STEP, np.exp(np.log(track).mean()), np.float32)
    return sound.astype(np.float32), told, sure


def hum(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return the hum of the mains, which is no voice."""
    time = np.arange(int(0.6 * SAMPLE_RATE)) / SAMPLE_RATE
    mains = rng.choice((50.0, 60.0)) * rng.choice((1.0, 2.0)) * rng.uniform(0.995, 1.005)
    sound = 10.0 ** rng.uniform(-3, -1) * rng.standard_normal(len(time))
    for harmonic in range(1, int(rng.integers(2, 12))):
        gain = rng.uniform(0.2, 1.2) / harmonic ** rng.uniform(0.7, 1.5)
        sound += gain * np.sin(2 * np.pi * harmonic * mains * time + rng.uniform(0, 2 * np.pi))
    sound *= 10.0 ** rng.uniform(-3.0, -1.3) / np.sqrt(np.mean(sound**2))
    quiet = np.zeros(len(time) // STEP, np.float32)
    return sound.astype(np.float32), quiet, quiet + 1
