"""Tuning a voice on its own reference: where the network's spectra are too smooth or off in tone.

The reference is converted into its own voice and compared with itself, band by band. What the
network averages away is given back as contrast (after the global-variance postfilter of Silen et
al. 2012), and what is left of the difference in the long-term spectrum as an equaliser.
"""

import numpy as np

from menura.engine.interface import LATENCY_PROFILES, ConversionSettings, Samples
from menura.engine.neural import features, filters
from menura.engine.neural.analysis import NeuralAnalysis
from menura.engine.neural.features import HOP, MEL_TOP, MELS, Array, mel_scale
from menura.engine.neural.frames import NeuralFeatures
from menura.engine.neural.networks import Networks
from menura.engine.neural.rendering import NeuralRendering
from menura.engine.neural.voice import NeuralVoice

_MOST_CONTRAST = 1.5
_CONTRAST_SHARE = 0.7
"""Share of the missing deviation that is given back; all of it sounds harsh."""
_MOST_EQUALISER = 1.04
"""Nepers of amplitude: 9 dB."""


def tune(networks: Networks, voice: NeuralVoice, reference: Samples) -> NeuralVoice:
    """Return the voice with contrast and equaliser fitted on its reference."""
    latency = LATENCY_PROFILES[0]
    analysis = NeuralAnalysis(networks, latency)
    heard = NeuralFeatures.joined([analysis.push(reference), analysis.flush()])
    theirs = _mel(reference)
    chosen = features.speech_frames(theirs)
    result, gains = _rendered(networks, voice, heard, len(reference))
    ours = _mel(result)
    centre = gains[: len(chosen)][chosen].mean(axis=0).astype(np.float32)
    free_ours = ours[chosen] - features.level_of(ours[chosen])[:, None]
    free_theirs = theirs[chosen] - features.level_of(theirs[chosen])[:, None]
    missing = free_theirs.std(axis=0) / np.maximum(free_ours.std(axis=0), 0.3)
    factors = np.clip(1.0 + _CONTRAST_SHARE * (_smooth(missing) - 1.0), 1.0, _MOST_CONTRAST)
    contrast = _at_gains(factors)
    sharp = voice.tuned(centre, contrast, np.zeros_like(centre))
    result, _ = _rendered(networks, sharp, heard, len(reference))
    ours = _mel(result)
    difference = 0.5 * _smooth((theirs[chosen] - ours[chosen]).mean(axis=0))
    equaliser = _at_gains(np.clip(difference, -_MOST_EQUALISER, _MOST_EQUALISER))
    return sharp.tuned(centre, contrast, equaliser)


def _rendered(
    networks: Networks, voice: NeuralVoice, heard: NeuralFeatures, total: int
) -> tuple[Samples, Array]:
    rendering = NeuralRendering(
        networks, voice, ConversionSettings(), 0, LATENCY_PROFILES[0], most_correction=0.0
    )
    parts, gains = [], []
    for block in heard.blocks():
        parts.append(rendering.push(block))
        gains.append(rendering.free_gains)
    parts.append(rendering.flush(total))
    return np.concatenate(parts), np.concatenate(gains)


def _mel(samples: Samples) -> Array:
    return features.log_mel(features.power(samples, len(samples) // HOP))


def _smooth(bands: Array) -> Array:
    padded = np.pad(bands, 2, mode="edge")
    return np.asarray(np.convolve(padded, np.array([1, 2, 3, 2, 1]) / 9, mode="valid"), np.float32)


def _at_gains(bands: Array) -> Array:
    """Return values of the mel bands at the frequencies of the harmonic, then the noise gains."""
    corners = np.linspace(mel_scale(60.0), mel_scale(MEL_TOP), MELS + 2)[1:-1]
    hertz = 700.0 * np.expm1(corners / 1127.0)
    places = np.concatenate((filters.centres(filters.GAINS), filters.centres(filters.NOISE)))
    return np.asarray(np.interp(places, hertz, bands), np.float32)
