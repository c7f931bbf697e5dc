"""Known signals for the measures."""

import numpy as np

RATE = 24000


def voice(f0: float | np.ndarray, seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """A vowel-like sound: harmonics with two resonances, syllable-like loudness, a little noise."""
    n = int(seconds * RATE)
    track = np.broadcast_to(np.asarray(f0, dtype=np.float64), n)
    phase = 2 * np.pi * np.cumsum(track) / RATE
    wave = np.zeros(n)
    rng = np.random.default_rng(seed)
    for k in range(1, 40):
        hertz = k * float(track.mean())
        if hertz > 5000:
            break
        gain = 1 / (1 + ((hertz - 600) / 150) ** 2) + 0.5 / (1 + ((hertz - 1500) / 200) ** 2) + 0.02
        wave += gain * np.cos(k * phase + rng.uniform(0, 2 * np.pi))
    times = np.arange(0, seconds + 0.2, 0.12)
    syllables = rng.uniform(0.05, 1.0, len(times)) * (times > 0) * (times < seconds - 0.12)
    loudness = np.interp(np.arange(n) / RATE, times, syllables)
    noise = 1e-3 * rng.standard_normal(n)
    return (0.1 * wave * loudness + noise).astype(np.float32)
