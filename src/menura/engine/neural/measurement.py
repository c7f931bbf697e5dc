"""Measuring a voice from reference recordings: statistics, and moments of its speech."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import LATENCY_PROFILES, Measurement, Samples
from menura.engine.neural import bands
from menura.engine.neural.analysis import NeuralAnalysis
from menura.engine.neural.features import NeuralFeatures
from menura.engine.neural.mel import SPEECH_RANGE
from menura.engine.neural.networks import Networks
from menura.engine.neural.voice import ROW_STEP, ROWS, VALUE_STEP, NeuralVoice
from menura.engine.source_filter.measurement import described
from menura.engine.source_filter.spectrum import Array

_QUIETEST = 5.0
"""Nepers of power under the speech's level at which a frame no longer tells of the voice."""
_PRIOR_FRAMES = 10.0


def measure(networks: Networks, references: Sequence[Samples]) -> Measurement:
    """Measure a voice. Raises UnusableReferenceError when there is too little speech."""
    parts = []
    for reference in references:
        analysis = NeuralAnalysis(networks, LATENCY_PROFILES[0])
        parts += [analysis.push(np.asarray(reference, np.float32)), analysis.flush()]
    features = NeuralFeatures.joined(parts)
    known, warnings = described(features, references)
    frames = features[1::2]
    shape, level = over_level(frames.envelope.astype(np.float32))
    chosen = level > speech_level(level) - _QUIETEST
    voiced = (frames.f0 > 0).astype(np.float32)[chosen]
    rows = np.concatenate((frames.code.astype(np.float32)[chosen], voiced[:, None]), axis=1)
    random = np.random.default_rng(0)
    some = random.choice(len(rows), ROWS, replace=len(rows) < ROWS)
    voice = NeuralVoice.of(
        known,
        _rounded(rows[some], ROW_STEP),
        _rounded(shape[chosen][some], VALUE_STEP),
        means_of(shape[chosen], voiced > 0),
    )
    return Measurement(voice, warnings)


def over_level(envelope: Array) -> tuple[Array, Array]:
    """Return the bands of log power envelopes over their level, (n, 64), and the level, (n,)."""
    source = envelope @ bands.BANK
    level = bands.level(source)
    return source - level[:, None], level


def speech_level(level: Array) -> float:
    """Return the mean level of the frames in which somebody speaks."""
    return float(level[level > np.percentile(level, 95) - SPEECH_RANGE].mean())


def means_of(shape: Array, voiced: NDArray[np.bool_]) -> Array:
    """Return the mean envelopes of voiced and of unvoiced speech, (128,)."""
    whole = _PRIOR_FRAMES * shape.mean(axis=0)
    parts = [
        (shape[kind].sum(axis=0) + whole) / (int(kind.sum()) + _PRIOR_FRAMES)
        for kind in (voiced, ~voiced)
    ]
    return np.concatenate(parts).astype(np.float32)


def _rounded(values: Array, step: float) -> Array:
    return np.asarray(np.clip(np.rint(values / step), -127, 127) * step, np.float32)
