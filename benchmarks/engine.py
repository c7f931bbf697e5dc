"""Real-time factor of the engines on one core: seconds of one core per second of speech."""

import time

from benchmarks.recordings import SPEECH, recorded
from benchmarks.report import Report
from menura.engine.interface import (
    LATENCY_PROFILES,
    SAMPLE_RATE,
    ConversionSettings,
    Engine,
    Samples,
)
from menura.engine.registry import MODELS, engine_for
from menura.engine.stream import ConversionStream

LIMITS = {3: 0.15, 0: 0.08}
"""Asked of levels 3 (20 ms chunks) and 0 (160 ms)."""


def _cost(engine: Engine, source: Samples, reference: Samples, level: int) -> float:
    latency = LATENCY_PROFILES[level]
    voice = engine.measure([reference]).voice
    stream = ConversionStream(engine, voice, ConversionSettings(), latency, 1)
    begun = time.process_time()
    for start in range(0, len(source), latency.chunk):
        stream.push(source[start : start + latency.chunk])
    stream.flush()
    return (time.process_time() - begun) * SAMPLE_RATE / len(source)


def measure_engines(report: Report, quick: bool) -> None:
    """Cost of one stream through each model, best of several runs, and of adding a voice."""
    source = recorded(SPEECH / "male_librispeech_1235.flac")[: (4 if quick else 12) * SAMPLE_RATE]
    reference = recorded(SPEECH / "female_ljspeech.flac")
    for model in (model["model_id"] for model in MODELS if model["model_id"].startswith("menura")):
        engine = engine_for(model)
        for level, limit in LIMITS.items():
            costs = [_cost(engine, source, reference, level) for _ in range(2 if quick else 5)]
            chunk = LATENCY_PROFILES[level].chunk * 1_000 // SAMPLE_RATE
            report.add(f"{model}, {chunk} ms chunks, RTF", min(costs), "", limit=limit)
        begun = time.process_time()
        engine.measure([reference])
        seconds = len(reference) / SAMPLE_RATE
        spent = time.process_time() - begun
        report.add(f"{model}, a voice from {seconds:.0f} s of speech", spent, "s")


SUITE = [measure_engines]
