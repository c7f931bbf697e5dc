"""Words heard by a recogniser with a dictionary and trigrams of general English."""

from __future__ import annotations

from functools import cache

import pocketsphinx

from evaluation.corpus import Samples
from evaluation.recogniser import hear, levelled


@cache
def _decoder() -> pocketsphinx.Decoder:
    return pocketsphinx.Decoder(loglevel="FATAL")


def words_in(samples: Samples) -> list[str]:
    """Words heard in a 24 kHz clip at its own level."""
    decoder = _decoder()
    hear(decoder, samples)
    best = decoder.hyp()
    return best.hypstr.split() if best else []


def words_of(samples: Samples) -> list[str]:
    """Words heard in a 24 kHz clip, whatever its level."""
    return words_in(levelled(samples))
