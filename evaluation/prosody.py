"""Pitch, voicing, energy, lag and level: what a converter should keep or move exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, sosfiltfilt

from evaluation.corpus import CORPUS_RATE, Samples
from evaluation.world import pyworld

Array = npt.NDArray[np.float64]
FRAME = 0.01
"""Frame step in seconds of every track here."""
TRACK_RATE = 16000


def pitch_track(samples: Samples) -> Array:
    """F0 in Hz per 10 ms, 0 where unvoiced: Harvest, voicing decided by D4C (Morise 2016)."""
    wave = soxr.resample(samples, CORPUS_RATE, TRACK_RATE).astype(np.float64)
    # A floor of noise keeps digital silence from being called voiced.
    wave += 1e-5 * np.random.default_rng(0).standard_normal(len(wave))
    f0, times = pyworld.harvest(
        wave, TRACK_RATE, f0_floor=60.0, f0_ceil=600.0, frame_period=1000 * FRAME
    )
    f0 = pyworld.stonemask(wave, f0, times, TRACK_RATE)
    aperiodicity = pyworld.d4c(wave, f0, times, TRACK_RATE)
    level = energy_track(samples)
    level = np.pad(level, (0, max(0, len(f0) - len(level))), mode="edge")[: len(f0)]
    voiced = (f0 > 0) & (aperiodicity[:, 1] < 0.999) & (level > level.max() - 45.0)
    return np.where(voiced, f0, 0.0)


def energy_track(samples: Samples) -> Array:
    """Level in dB per 10 ms (25 ms Hann window), with a floor 60 dB under the loudest frame."""
    hop, window = int(FRAME * CORPUS_RATE), np.hanning(int(0.025 * CORPUS_RATE))
    padded = np.pad(samples.astype(np.float64) ** 2, len(window) // 2)
    smoothed = np.convolve(padded, window / window.sum(), mode="same")
    level = 10.0 * np.log10(smoothed[len(window) // 2 :: hop] + 1e-12)
    return np.maximum(level, level.max() - 60.0)


def _correlation(one: Array, other: Array) -> float:
    if len(one) < 10 or one.std() < 1e-9 or other.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def pitch_correlation(source: Array, result: Array) -> float:
    """Pearson correlation of log-F0 on frames voiced in both; NaN when fewer than 10."""
    n = min(len(source), len(result))
    both = (source[:n] > 0) & (result[:n] > 0)
    return _correlation(np.log(source[:n][both]), np.log(result[:n][both]))


def voicing_error(source: Array, result: Array) -> float:
    """Share of all frames whose voicing decision differs."""
    n = min(len(source), len(result))
    return float(np.mean((source[:n] > 0) != (result[:n] > 0)))


def median_pitch(track: Array) -> float:
    """Median F0 in Hz over voiced frames; NaN when nothing is voiced."""
    return float(np.median(track[track > 0])) if (track > 0).any() else float("nan")


def semitones(frequency: float, wanted: float) -> float:
    """Signed distance in semitones."""
    return float(12.0 * np.log2(frequency / wanted))


def energy_correlation(source: Array, result: Array) -> float:
    """Pearson correlation of two energy tracks in dB."""
    n = min(len(source), len(result))
    return _correlation(source[:n], result[:n])


def lag_ms(source: Samples, result: Samples, reach: float = 100.0) -> float:
    """By how many ms the result comes after the source.

    Peak of the summed cross-correlation of the log envelopes of four bands, at 1 ms steps with a
    parabola through the peak; slow changes are removed first.
    """
    total = None
    span = int(reach)
    for low, high in ((150, 700), (700, 1800), (1800, 3500), (3500, 7000)):
        band = butter(2, (low, high), "bandpass", fs=CORPUS_RATE, output="sos")
        tracks = []
        for samples in (source, result):
            power = sosfiltfilt(band, samples.astype(np.float64)) ** 2
            smoothed = np.convolve(power, np.hanning(480) / 240.0, mode="same")[::24]
            level = np.log(np.maximum(smoothed, smoothed.max() * 1e-5) + 1e-14)
            level -= uniform_filter1d(level, 201, mode="nearest")
            tracks.append(level)
        one, other = tracks
        near = np.zeros(2 * span + 1)
        for place, shift in enumerate(range(-span, span + 1)):
            n = min(len(one) - max(0, -shift), len(other) - max(0, shift))
            early = one[max(0, -shift) :][:n]
            late = other[max(0, shift) :][:n]
            # Over the overlap alone: a zero-padded correlation leans towards no lag.
            near[place] = np.nan_to_num(_correlation(early, late))
        total = near if total is None else total + near
    assert total is not None
    peak = int(np.argmax(total))
    if 0 < peak < len(total) - 1:
        left, mid, right = total[peak - 1 : peak + 2]
        peak = peak + 0.5 * (left - right) / (left - 2 * mid + right - 1e-12)
    return float(peak - span)


def speech_level(samples: Samples) -> float:
    """RMS level in dBFS over frames within 30 dB of the loudest."""
    level = energy_track(samples)
    kept = level[level > level.max() - 30.0]
    return float(10.0 * np.log10(np.mean(10.0 ** (kept / 10.0))))
