"""Two hours of speech through one stream: does anything drift, grow or break?

Speech as fast as one core converts it, in 20 ms chunks: six people in turn, in any order, with
pauses of up to two seconds. The output is compared with the input over the first and the last ten
minutes.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.recordings import SPEECH, recorded
from benchmarks.report import Report
from menura.engine.interface import HOP, LATENCY_PROFILES, SAMPLE_RATE, ConversionSettings, Samples
from menura.engine.registry import DEFAULT_MODEL, engine_for
from menura.engine.stream import ConversionStream

SECONDS = 7_200
WINDOW = 600
"""Seconds that are compared at either end."""
LEVEL = 3
SEED = 7
FARTHEST = 10
"""Frames of 10 ms within which the lag is looked for."""


def _resident() -> float:
    """Return this process's memory in megabytes (10**6 bytes); Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _talk(seconds: float) -> Iterator[Samples]:
    """Yield that much speech in chunks of the latency level."""
    rng = np.random.default_rng(SEED)
    clips = [recorded(path) for path in sorted(SPEECH.glob("*.flac"))]
    chunk = LATENCY_PROFILES[LEVEL].chunk
    left, held = int(seconds * SAMPLE_RATE) // chunk * chunk, np.zeros(0, np.float32)
    while left:
        while len(held) < chunk:
            pause = np.zeros(int(rng.uniform(0.1, 2.0) * SAMPLE_RATE), np.float32)
            held = np.concatenate([held, clips[rng.integers(len(clips))], pause])
        yield held[:chunk]
        held, left = held[chunk:], left - chunk


def _levels(samples: Samples) -> Samples:
    """Return the power of every whole frame of 10 ms in dB."""
    power = np.mean(samples.reshape(-1, HOP).astype(np.float64) ** 2, axis=1)
    return np.asarray(10.0 * np.log10(power + 1e-9), dtype=np.float32)


def _lag(source: Samples, result: Samples) -> float:
    """Return by how many ms the result's loudness follows the source's, by a parabola through the
    correlation's peak."""
    offsets = np.arange(-FARTHEST, FARTHEST + 1)
    middle = source[FARTHEST:-FARTHEST]
    likeness = np.array(
        [
            np.corrcoef(middle, result[FARTHEST + o : len(result) - FARTHEST + o])[0, 1]
            for o in offsets
        ]
    )
    best = int(np.clip(likeness.argmax(), 1, 2 * FARTHEST - 1))
    before, top, after = likeness[best - 1 : best + 2]
    vertex = 0.5 * (before - after) / (before - 2 * top + after)
    return 10.0 * float(offsets[best] + vertex)


def measure_soak(report: Report, quick: bool) -> None:
    """Memory, cost, level and lag at the end of a long stream, beside its beginning."""
    seconds = SECONDS // 12 if quick else SECONDS
    window = seconds // 12 if quick else WINDOW
    engine = engine_for(DEFAULT_MODEL)
    voice = engine.measure([recorded(SPEECH / "female_kerstin_de.flac")]).voice
    stream = ConversionStream(engine, voice, ConversionSettings(), LATENCY_PROFILES[LEVEL], SEED)
    # Whole from the start: what is kept for the comparison must not look like growth.
    source = np.full(seconds * SAMPLE_RATE // HOP, -90.0, np.float32)
    result = source.copy()
    ended = 0
    waiting = np.zeros(0, np.float32)
    memory: list[float] = []
    spent = [time.process_time()]
    broken = 0

    def take(samples: Samples) -> None:
        nonlocal waiting, broken, ended
        broken += int((~np.isfinite(samples)).sum())
        waiting = np.concatenate([waiting, samples])
        whole = len(waiting) // HOP * HOP
        levels = _levels(waiting[:whole])
        result[ended : ended + len(levels)] = levels[: len(result) - ended]
        ended += len(levels)
        waiting = waiting[whole:]

    for number, chunk in enumerate(_talk(seconds)):
        frames = len(chunk) // HOP
        source[number * frames : (number + 1) * frames] = _levels(chunk)
        take(stream.push(chunk))
        if (number + 1) * len(chunk) % (window * SAMPLE_RATE) == 0:
            memory.append(_resident())
            spent.append(time.process_time())
            print(f"  {len(memory) * window} of {seconds} s", flush=True)
    take(stream.flush())
    per = window * SAMPLE_RATE // HOP
    costs = np.diff(spent) / window
    what = f"{seconds // 60} minutes of speech"
    report.add(f"{what}: samples too many or too few", abs(len(source) - ended) * HOP, "")
    report.add(f"{what}: samples that are no number", broken, "")
    report.add(f"{what}: memory grown since {window} s", memory[-1] - memory[0], "MB", limit=20)
    report.add(f"{what}: RTF at the end over that at the beginning", costs[-1] / costs[0], "")
    for name, part in (("first", slice(None, per)), ("last", slice(-per, None))):
        loud = source[part] > -50.0
        change = float(np.median((result[part] - source[part])[loud]))
        report.add(f"{what}: level change, {name} {window} s", change, "dB")
        report.add(f"{what}: lag, {name} {window} s", _lag(source[part], result[part]), "ms")


SUITE = [measure_soak]
