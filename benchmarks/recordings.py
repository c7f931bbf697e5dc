"""Recordings to measure with."""

from pathlib import Path

import numpy as np

from menura.audio.decode import open_decoder
from menura.audio.level import to_int16
from menura.audio.resample import Resampler
from menura.audio.wav_header import wav_header
from menura.engine.interface import SAMPLE_RATE, Samples

ROOT = Path(__file__).parent.parent
EXAMPLES, SPEECH = ROOT / "examples", ROOT / "tests" / "speech"


def recorded(path: Path, rate: int = SAMPLE_RATE) -> Samples:
    """Return a recording at a rate in Hz, mono, shape (n,)."""
    with path.open("rb") as file:
        decoder = open_decoder(file)
        blocks = []
        while (block := decoder.read()).size:
            blocks.append(block)
    stage = Resampler(decoder.sample_rate, rate)
    return np.concatenate((*map(stage.push, blocks), stage.flush()))


def speech(seconds: float, rate: int = SAMPLE_RATE) -> bytes:
    """Return 16-bit samples of an example at a rate in Hz, repeated to a length."""
    samples = to_int16(recorded(EXAMPLES / "speech_female.mp3", rate))
    return np.resize(samples, round(seconds * rate)).astype("<i2").tobytes()


def wav(samples: bytes, rate: int = SAMPLE_RATE) -> bytes:
    """Return a WAV file of 16-bit samples."""
    return wav_header(rate, len(samples) // 2) + samples
