"""Conversions that leave the voice as it is, for tests of the chain around an engine."""

import io

import numpy as np

from menura.audio.formats import OutputFormat, find_format
from menura.audio.riff import open_wav
from menura.conversion.passthrough import PassThrough, SameVoice
from menura.conversion.request import ConversionRequest, SourcePlan
from menura.engine.interface import Samples

ENGINE = PassThrough()


def read_wav(data: bytes) -> Samples:
    """Return the samples of a WAV file."""
    reader = open_wav(io.BytesIO(data))
    assert reader is not None
    blocks = []
    while (block := reader.read()).size:
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def output(name: str) -> OutputFormat:
    """Return an output format by name."""
    found = find_format(name)
    assert found is not None
    return found


def plain_request(name: str = "pcm_24000", **plan: object) -> ConversionRequest:
    """Return a request that leaves the voice as it is."""
    return ConversionRequest(SourcePlan(ENGINE, **plan), SameVoice(), output(name))  # type: ignore[arg-type]
