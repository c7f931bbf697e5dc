"""Phone error under one recogniser, which hears source and result alike.

The recogniser is pocketsphinx with the English acoustic model and phone language model that its
wheel carries. It is a weak recogniser, so its absolute figures mean little: compare with the rows
of unconverted speech, of the WORLD converter and of other words (chance).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

import numpy as np
import pocketsphinx
import soxr

from evaluation.corpus import CORPUS_RATE, Samples

RATE = 16000


@cache
def _decoder() -> pocketsphinx.Decoder:
    model = os.path.join(pocketsphinx.get_model_path(), "en-us")
    return pocketsphinx.Decoder(
        hmm=os.path.join(model, "en-us"),
        allphone=os.path.join(model, "en-us-phone.lm.bin"),
        lw=2.0,
        beam=1e-20,
        pbeam=1e-20,
        loglevel="FATAL",
    )


def phones_of(samples: Samples) -> list[str]:
    """ARPAbet phones heard in a 24 kHz clip, without silences and noises."""
    wave = soxr.resample(samples, CORPUS_RATE, RATE)
    level = np.sqrt(np.mean(wave**2) + 1e-12)
    wave = np.clip(wave * (0.07 / max(level, 1e-4)), -1.0, 1.0)
    decoder = _decoder()
    # Cepstral means adapt from utterance to utterance: without this the order would matter.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw((wave * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    heard = [segment.word for segment in decoder.seg() or []]
    return [phone for phone in heard if phone != "SIL" and not phone.startswith(("+", "<", "["))]


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def phone_error(truth: Sequence[str], heard: Sequence[str]) -> float:
    """Edit distance per phone of the truth; NaN when the truth is empty."""
    return edit_distance(truth, heard) / len(truth) if truth else float("nan")
