"""Phones heard by a network that knows no words: a CTC recogniser in the wheel of `hama`.

It mishears far less than pocketsphinx, and it has taught the networks nothing: training uses
neither its answers nor its weights.
"""

from __future__ import annotations

from functools import cache

import soxr
from hama.asr import ASRModel

from evaluation.corpus import CORPUS_RATE, Samples
from evaluation.recogniser import RATE, levelled


@cache
def _model() -> ASRModel:
    return ASRModel()


def ctc_phones_of(samples: Samples) -> list[str]:
    """IPA phones heard in a 24 kHz clip, whatever its level."""
    wave = soxr.resample(levelled(samples), CORPUS_RATE, RATE)
    return list(_model().transcribe_waveform(wave, sample_rate=RATE).phonemes)
