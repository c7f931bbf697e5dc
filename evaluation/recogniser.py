"""What the recognisers share: how a clip is heard, and how mistakes are counted.

Two of the three are pocketsphinx with the English models that its wheel carries. It is a weak
recogniser, so its absolute figures mean little: compare with the rows of unconverted speech, of the
WORLD converter and of other words (chance).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pocketsphinx
import soxr

from evaluation.corpus import CORPUS_RATE, Samples

RATE = 16000


def levelled(samples: Samples) -> Samples:
    """The clip at -23 dBFS, where the recogniser hears best."""
    level = np.sqrt(np.mean(samples**2) + 1e-12)
    return np.asarray(samples * (0.07 / max(level, 1e-4)), dtype=np.float32)


def hear(decoder: pocketsphinx.Decoder, samples: Samples) -> None:
    """Play a 24 kHz clip to the decoder as one utterance, whatever it heard before."""
    wave = np.clip(soxr.resample(samples, CORPUS_RATE, RATE), -1.0, 1.0)
    # Cepstral means adapt from utterance to utterance: without this the order would matter.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw((wave * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def error_rate(truth: Sequence[str], heard: Sequence[str]) -> float:
    """Edit distance per phone or word of the truth; NaN when the truth is empty."""
    return edit_distance(truth, heard) / len(truth) if truth else float("nan")
