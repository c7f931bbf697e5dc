"""Measuring a voice from reference recordings, with refusals and warnings in plain words."""

from collections.abc import Sequence

import numpy as np

from menura.engine.interface import (
    LATENCY_PROFILES,
    SAMPLE_RATE,
    Measurement,
    Samples,
    UnusableReferenceError,
)
from menura.engine.source_filter.analysis import SourceFilterAnalysis, cleaned
from menura.engine.source_filter.equaliser import long_term
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.spectrum import STEP
from menura.engine.source_filter.statistics import (
    BANK,
    SpeakerStatistics,
    spectral_level,
)
from menura.engine.source_filter.voice import SourceFilterVoice

_LEAST_VOICED = 0.7
"""Seconds of voiced speech without which no voice can be measured."""
_BLOCK = 200
"""Instants heard at a time."""


def measure(references: Sequence[Samples]) -> Measurement:
    """Measure a voice. Raises UnusableReferenceError when there is too little speech."""
    parts = []
    for reference in references:
        analysis = SourceFilterAnalysis(LATENCY_PROFILES[0])
        parts += [analysis.push(np.asarray(reference, np.float32)), analysis.flush()]
    return Measurement(*described(SourceFilterFeatures.joined(parts), references))


def described(
    features: SourceFilterFeatures, references: Sequence[Samples]
) -> tuple[SourceFilterVoice, tuple[str, ...]]:
    """Return the voice of analysed references, and warnings about them.

    Raises UnusableReferenceError when there are none, or when they hold too little speech.
    """
    if not references:
        raise UnusableReferenceError("No reference recording was given.")
    seconds = sum(len(reference) for reference in references) / SAMPLE_RATE
    voiced = features.f0 > 0
    spoken = float(voiced.sum()) * STEP / SAMPLE_RATE
    if spoken < _LEAST_VOICED:
        raise UnusableReferenceError(
            f"The references hold {spoken:.1f} s of voiced speech in {seconds:.1f} s; "
            f"at least {_LEAST_VOICED} s are needed, better 10 s."
        )
    known = SpeakerStatistics()
    for _ in range(2):
        for start in range(0, len(voiced), _BLOCK):
            rows = slice(start, start + _BLOCK)
            known.push(
                features.f0[rows],
                features.periodicity[rows],
                features.envelope[rows].astype(np.float32),
            )
    voice = SourceFilterVoice(
        pitch=float(known.pitch[0]),
        spread=float(np.clip(known.pitch[1], 0.05, 0.6)),
        tract=known.tract,
        timbre=known.timbre,
        periodicity=known.breath,
        spectrum=long_term(cleaned(np.concatenate(references))),
        bandwidth=_bandwidth(features),
    )
    return voice, _warnings(references, seconds, spoken, _noise(features), voice)


def _bandwidth(features: SourceFilterFeatures) -> float:
    envelope = features.envelope.astype(np.float32)
    level = spectral_level(envelope)
    loud = envelope[level > level.max() - 8.0] @ BANK
    top = np.quantile(loud, 0.95, axis=0)
    present = np.flatnonzero(top > top.max() - 11.5)
    edge = BANK[:, present[-1]] @ np.linspace(0, SAMPLE_RATE / 2, BANK.shape[0])
    return float(edge)


def _noise(features: SourceFilterFeatures) -> float:
    """Return the level of the quietest twentieth under the loudest quarter, in dB."""
    quiet, loud = np.quantile(spectral_level(features.envelope.astype(np.float32)), [0.05, 0.85])
    return float((quiet - loud) * 10.0 / np.log(10.0))


def _warnings(
    references: Sequence[Samples],
    seconds: float,
    spoken: float,
    noise: float,
    voice: SourceFilterVoice,
) -> tuple[str, ...]:
    warnings = []
    if seconds < 5 or spoken < 2.5:
        warnings.append(
            f"The references are short ({seconds:.1f} s, {spoken:.1f} s of it voiced); "
            "10 to 60 s give a truer voice."
        )
    clipped = np.mean([np.mean(np.abs(reference) > 0.99) for reference in references])
    if clipped > 1e-3:
        warnings.append(f"{100 * clipped:.1f} % of the samples are clipped.")
    if noise > -25.0:
        warnings.append(
            f"The references are noisy: their pauses lie only {-noise:.0f} dB under the speech."
        )
    if voice.bandwidth < 5_000:
        warnings.append(
            f"The references hold little above {voice.bandwidth / 1000:.1f} kHz; "
            "the voice will sound dull."
        )
    return tuple(warnings)
