"""A recording through an engine, as a client sends it: in pieces."""

import numpy as np

from menura.engine.interface import (
    LATENCY_PROFILES,
    ConversionSettings,
    Engine,
    LatencyProfile,
    Samples,
    Voice,
)
from menura.engine.stream import ConversionStream


def converted(
    engine: Engine,
    voice: Voice,
    source: Samples,
    latency: LatencyProfile = LATENCY_PROFILES[3],
    *,
    seed: int = 1,
    chunk: int = 4_800,
    **chosen: float | bool,
) -> Samples:
    """Return what becomes of a recording; `chosen` are voice settings."""
    stream = ConversionStream(engine, voice, ConversionSettings(**chosen), latency, seed)
    parts = [stream.push(source[at : at + chunk]) for at in range(0, len(source), chunk)]
    return np.concatenate([*parts, stream.flush()])
