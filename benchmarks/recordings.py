"""Recordings to measure with."""

from pathlib import Path

import numpy as np

from menura.audio.decode import open_decoder
from menura.audio.resample import Resampler
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
