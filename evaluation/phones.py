"""Phones heard by pocketsphinx with no dictionary, only a language model of phones."""

from __future__ import annotations

import os
from functools import cache

import pocketsphinx

from evaluation.corpus import Samples
from evaluation.recogniser import hear, levelled


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
    """ARPAbet phones heard in a 24 kHz clip, whatever its level; no silences and noises."""
    decoder = _decoder()
    hear(decoder, levelled(samples))
    heard = [segment.word for segment in decoder.seg() or []]
    return [phone for phone in heard if phone != "SIL" and not phone.startswith(("+", "<", "["))]
