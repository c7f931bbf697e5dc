"""A short example spoken in a voice, made by converting a clip that comes with Menura."""

from itertools import chain

import numpy as np

from menura.audio.decode import open_decoder
from menura.audio.encode import open_encoder
from menura.audio.formats import FORMATS
from menura.audio.resample import Resampler
from menura.engine.interface import (
    HOP,
    RECORDING,
    SAMPLE_RATE,
    ConversionSettings,
    Engine,
    Features,
    Samples,
    Voice,
)
from menura.voices.premade import example_clip
from menura.voices.references import Permit

PREVIEW_FORMAT = next(known for known in FORMATS if known.name == "mp3_44100_64")

_SECOND = SAMPLE_RATE // HOP
"""Frames rendered with one permit."""


def make_preview(engine: Engine, voice: Voice, gender: str | None, permit: Permit) -> bytes:
    """Return an example in the voice, in `PREVIEW_FORMAT`. Blocks; meant for a thread.

    gender: label of the voice; it decides who speaks in the example that is converted.
    """
    with permit():
        source = _example(gender)
    analysis = engine.analysis(RECORDING)
    rendering = engine.rendering(voice, ConversionSettings(), 0, RECORDING)
    resampler = Resampler(SAMPLE_RATE, PREVIEW_FORMAT.sample_rate)
    encoder = open_encoder(PREVIEW_FORMAT)
    encoded = []
    known: list[Features] = []
    for start in range(0, source.size, SAMPLE_RATE):
        with permit():
            known.append(analysis.push(source[start : start + SAMPLE_RATE]))
    with permit():
        known.append(analysis.flush())
    for features in chain.from_iterable(part.split(_SECOND) for part in known):
        with permit():
            encoded.append(encoder.push(resampler.push(rendering.push(features))))
    with permit():
        encoded.append(encoder.push(resampler.push(rendering.flush(source.size))))
        encoded.append(encoder.push(resampler.flush()))
        encoded.append(encoder.finish())
    # The encoder knows the length only now, and its header says it.
    whole = b"".join(encoded)
    return encoder.header + whole[len(encoder.header) :]


def _example(gender: str | None) -> Samples:
    blocks = []
    with example_clip(gender).open("rb") as file:
        decoder = open_decoder(file)
        resampler = Resampler(decoder.sample_rate, SAMPLE_RATE)
        while (block := decoder.read()).size:
            blocks.append(resampler.push(block))
        blocks.append(resampler.flush())
        decoder.close()
    return np.concatenate(blocks)
