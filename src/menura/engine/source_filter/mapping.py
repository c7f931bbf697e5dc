"""Turning the source's features towards a voice: F0, vocal-tract length, long-term spectrum."""

from dataclasses import dataclass

import numpy as np

from menura.engine.interface import ConversionSettings
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.spectrum import BINS, Array, at_bins
from menura.engine.source_filter.statistics import spectral_level, spread_over_bins
from menura.engine.source_filter.voice import SourceFilterVoice

_LARGEST_CORRECTION = 2.8
"""Largest change of the long-term spectrum in nepers of power: 12 dB."""


def tract_from_pitch(pitch: float) -> float:
    """Return the likely formant position of a speaker, relative to one at 150 Hz (log2 Hz)."""
    return float(np.clip(2.0 ** (0.25 * (pitch - np.log2(150.0))), 0.85, 1.2))


@dataclass(frozen=True, slots=True)
class Sound:
    """What the synthesiser renders, one row per instant: F0 in Hz (0 unvoiced), periodic share per
    band, log power envelope."""

    f0: Array
    periodicity: Array
    envelope: Array


def convert(
    features: SourceFilterFeatures,
    voice: SourceFilterVoice,
    settings: ConversionSettings,
) -> Sound:
    """Return the features as the voice would have uttered them."""
    towards = min(1.0, settings.similarity_boost / 0.75)
    voiced = features.f0 > 0
    f0 = np.zeros_like(features.f0)
    logs = np.log2(features.f0[voiced])
    medians = features.pitch[voiced, 0]
    f0[voiced] = 2.0 ** (logs + towards * (voice.pitch - medians))
    tract = np.array([tract_from_pitch(float(value)) for value in features.pitch[:, 0]])
    warp = (voice.tract / tract) ** towards
    positions = (np.arange(BINS)[None, :] / warp[:, None]).astype(np.float32)
    warped = at_bins(features.envelope, positions)
    source = at_bins(
        spread_over_bins(features.timbre.reshape(-1, features.timbre.shape[2])),
        np.repeat(positions, 2, axis=0),
    ).reshape(len(f0), 2, BINS)
    target = spread_over_bins(voice.timbre)
    correction = np.clip(
        towards * (target[None] - source), -_LARGEST_CORRECTION, _LARGEST_CORRECTION
    )
    chosen = np.where(voiced[:, None], correction[:, 0], correction[:, 1])
    shaped = warped + chosen
    shaped += (spectral_level(features.envelope) - spectral_level(shaped))[:, None]
    return Sound(np.clip(f0, 0, 1_000).astype(np.float32), features.periodicity, shaped)
