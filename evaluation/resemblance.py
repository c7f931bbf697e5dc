"""Who does it sound like: two speaker models that know nothing of each other."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from evaluation.corpus import CORPUS_RATE, Samples
from evaluation.speaker_model import RATE, SpeakerNet, embed, load_speaker_net

Vector = npt.NDArray[np.float32]


@cache
def _resemblyzer() -> Any:
    with warnings.catch_warnings():
        # Old import paths and torch.load without weights_only, in the package itself.
        warnings.simplefilter("ignore")
        import resemblyzer  # noqa: PLC0415

        return resemblyzer, resemblyzer.VoiceEncoder("cpu", verbose=False)


@cache
def _own() -> SpeakerNet:
    return load_speaker_net()


def resemblyzer_vector(samples: Samples) -> Vector:
    """Unit vector (256,) of Resemblyzer's GE2E encoder (Wan et al. 2018) for a 24 kHz clip."""
    package, encoder = _resemblyzer()
    wave = soxr.resample(samples, CORPUS_RATE, RATE)
    wave = wave * (0.9 / max(0.9, float(np.abs(wave).max())))
    speech = package.preprocess_wav(wave + 1e-6 * np.sin(np.arange(len(wave))))
    if len(speech) < RATE // 2:
        # Nothing that its voice detector calls speech: judge the whole clip.
        speech = wave
    return np.asarray(encoder.embed_utterance(speech.astype(np.float32)), dtype=np.float32)


def own_vector(samples: Samples) -> Vector:
    """Unit vector (128,) of the suite's own model for a 24 kHz clip."""
    return embed(_own(), soxr.resample(samples, CORPUS_RATE, RATE))


def similarity(one: Vector, other: Vector) -> float:
    """Cosine of two unit vectors."""
    return float(one @ other)
