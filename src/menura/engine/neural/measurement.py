"""Measuring a voice from reference recordings, with refusals and warnings in plain words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import Measurement, Samples, UnusableReferenceError
from menura.engine.neural import features
from menura.engine.neural.features import HOP, SAMPLE_RATE, Array
from menura.engine.neural.networks import Networks
from menura.engine.neural.tuning import tune
from menura.engine.neural.voice import TUNED, NeuralVoice
from menura.engine.source_filter.pitch import REACH, PitchTracker

_TUNING_SECONDS = 10
_CROP = 320
"""Speech frames that the voice network hears at a time, as in training."""
_LEAST_SPEECH = 1.0
_LEAST_VOICED = 0.5
_TRACKER_AHEAD = 11
_BLOCK = 40


def statistics_of(shape: Array, f0: Array) -> Array:
    """Return what the voice network is told about a reference, (162,).

    shape: level-free log-mel of its speech frames, (n, 80). f0: Hz, 0 where unvoiced.
    """
    voiced = np.log(np.maximum(f0[f0 > 0], 1.0))
    pitch = (float(np.median(voiced)), float(np.std(voiced))) if len(voiced) else (5.0, 0.2)
    parts = ((shape.mean(axis=0) + 6.0) * 0.5, shape.std(axis=0) - 1.5, (pitch[0] - 5.0, pitch[1]))
    return np.concatenate(parts).astype(np.float32)


def track_f0(samples: Samples) -> Array:
    """Return F0 in Hz at each frame's centre, 0 where unvoiced."""
    tracker = PitchTracker(2 * _BLOCK, _TRACKER_AHEAD)
    late = (REACH + _TRACKER_AHEAD * HOP // 2) // HOP
    frames = len(samples) // HOP
    blocks = -(-(frames + late) // _BLOCK)
    padded = np.pad(samples, (0, blocks * _BLOCK * HOP - len(samples)))
    parts = [
        tracker.push(padded[start : start + _BLOCK * HOP]).f0[1::2]
        for start in range(0, len(padded), _BLOCK * HOP)
    ]
    return np.concatenate(parts)[late : late + frames]


def measure(networks: Networks, references: Sequence[Samples]) -> Measurement:
    """Measure a voice. Raises UnusableReferenceError when there is too little speech."""
    shapes, tracks, tops, kept = [], [], [], []
    for reference in references:
        samples = np.nan_to_num(np.asarray(reference, np.float32))
        count = len(samples) // HOP
        if count < 10:
            continue
        mel = features.log_mel(features.power(samples, count))
        level = features.level_of(mel)
        if float(np.percentile(level, 95)) < -12.0:
            continue
        chosen = features.speech_frames(mel)
        shapes.append(mel[chosen] - level[chosen, None])
        tracks.append(track_f0(samples))
        kept.append(samples)
        tops.append(_bandwidth(samples, count, chosen))
    seconds = sum(len(reference) for reference in references) / SAMPLE_RATE
    speech = sum(len(shape) for shape in shapes) * HOP / SAMPLE_RATE
    f0 = np.concatenate(tracks) if tracks else np.zeros(0, np.float32)
    voiced = float((f0 > 0).sum()) * HOP / SAMPLE_RATE
    if speech < _LEAST_SPEECH or voiced < _LEAST_VOICED:
        raise UnusableReferenceError(
            f"The references hold {voiced:.1f} s of voiced speech in {seconds:.1f} s; "
            f"at least {_LEAST_VOICED} s are needed, better 10 s."
        )
    shape = np.concatenate(shapes)
    statistics = statistics_of(shape, f0)
    crops = max(1, round(len(shape) / _CROP))
    repeated = np.tile(shape, (-(-_CROP // len(shape)), 1))
    starts = np.linspace(0, len(repeated) - _CROP, crops).astype(int)
    vectors = [
        networks.voice.run(
            None, {"reference": repeated[None, at : at + _CROP], "statistics": statistics[None]}
        )[0][0]
        for at in starts
    ]
    vector = np.mean(vectors, axis=0)
    learned = vector[:192]
    vector[:192] = learned / np.sqrt(np.mean(learned**2) + 1e-6)
    untuned = NeuralVoice(
        vector=vector.astype(np.float32),
        spectrum=shape.mean(axis=0).astype(np.float32),
        median=float(statistics[-2] + 5.0),
        spread=float(np.clip(statistics[-1], 0.05, 0.5)),
        centre=np.zeros(TUNED, np.float32),
        contrast=np.ones(TUNED, np.float32),
        equaliser=np.zeros(TUNED, np.float32),
    )
    voice = tune(networks, untuned, np.concatenate(kept)[: _TUNING_SECONDS * SAMPLE_RATE])
    return Measurement(voice, _warnings(references, seconds, voiced, max(tops)))


def _bandwidth(samples: Samples, count: int, chosen: NDArray[np.bool_]) -> float:
    spectra = features.power(samples, count)[chosen]
    top = np.percentile(spectra, 95, axis=0)
    smooth = np.convolve(top, np.ones(9) / 9, mode="same")
    present = np.flatnonzero(smooth > smooth[12:128].max() * 1e-5)
    return float(present[-1]) * SAMPLE_RATE / features.FFT


def _warnings(
    references: Sequence[Samples], seconds: float, voiced: float, bandwidth: float
) -> tuple[str, ...]:
    warnings = []
    if seconds < 5 or voiced < 2.0:
        warnings.append(
            f"The references are short ({seconds:.1f} s, {voiced:.1f} s of it voiced); "
            "10 to 60 s give a truer voice."
        )
    clipped = float(np.mean([np.mean(np.abs(reference) > 0.99) for reference in references]))
    if clipped > 1e-3:
        warnings.append(f"{100 * clipped:.1f} % of the samples are clipped.")
    if bandwidth < 5_000:
        warnings.append(
            f"The references hold little above {bandwidth / 1000:.1f} kHz; "
            "the voice may sound dull."
        )
    return tuple(warnings)
