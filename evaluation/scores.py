"""All figures of one conversion, and their medians over many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.clicks import clicks, joint_trace
from evaluation.corpus import CORPUS_RATE, Samples
from evaluation.pairs import Pair
from evaluation.prosody import (
    energy_correlation,
    energy_track,
    lag_ms,
    median_pitch,
    pitch_correlation,
    semitones,
    speech_level,
    voicing_error,
)
from evaluation.recogniser import error_rate
from evaluation.referees import Bench
from evaluation.resemblance import similarity

CHUNK = 480
"""Joints are looked for every 20 ms, the smallest chunk of a stream."""

FEWEST, DRAWS, DRAW_SEED = 8, 1_000, 20
"""Results of which an interval is told, and how it is drawn."""

Figures = dict[str, float]
Spread = dict[str, tuple[float, float]]


def _amount(values: npt.NDArray[np.float64]) -> np.float64:
    return np.median(np.abs(values))


@dataclass(frozen=True)
class Measure:
    """One row of a table: key in the figures, heading, digits, first bar and goal (as text), and
    what is taken of the values of many results."""

    key: str
    heading: str
    digits: int
    bar: str = ""
    goal: str = ""
    over: Callable[[npt.NDArray[np.float64]], np.float64] = np.median


MEASURES = (
    Measure("resemblyzer_target", "Resemblyzer to target", 2, "≥ 0.74", "≥ 0.82"),
    Measure("resemblyzer_source", "to source", 2),
    Measure("resemblyzer_nearer", "share nearer to target", 2, "≥ 0.85", "≥ 0.98", np.mean),
    Measure("own_target", "own model to target", 2),
    Measure("own_source", "to source", 2),
    Measure("own_nearer", "share nearer to target", 2, "≥ 0.85", "≥ 0.98", np.mean),
    Measure("phone_error", "phone error against source", 3, "≤ 0.38", "≤ 0.25"),
    Measure("ctc_phone_error", "phone error, CTC network", 3),
    Measure("word_error", "word error against source", 3),
    Measure("distillmos", "DistillMOS", 2, "≥ 3.3", "≥ 4.2"),
    Measure("dnsmos", "DNSMOS overall", 2),
    Measure("dnsmos_speech", "DNSMOS speech", 2),
    Measure("pitch_correlation", "log-F0 correlation", 3, "≥ 0.88", "≥ 0.93"),
    Measure("voicing_error", "voicing error", 3),
    Measure("pitch_offset", "F0 median off target, st", 2, "≤ 0.7", "≤ 0.4"),
    Measure("energy_correlation", "energy correlation", 3, "≥ 0.95", "≥ 0.97"),
    Measure("lag", "lag, ms", 1, "≤ 5", "≤ 2", _amount),
    Measure("clicks", "clicks per s more than source", 2, "0", "0", np.mean),
    Measure("joints", "joint trace, nepers", 3, "0", "0", np.mean),
    Measure("level", "level change, dB", 1),
    Measure("length", "length off, samples", 0, "0", "0", _amount),
)


def judge(bench: Bench, pair: Pair, result: Samples, quick: bool = False) -> Figures:
    """Every figure of one result; NaN where it cannot be told (nothing voiced, no phones)."""
    source, judged = pair.source, pair.target.judged
    figures: Figures = {"length": float(len(result) - len(source))}
    if not np.isfinite(result).all():
        raise ValueError(f"{pair.name}: the result holds NaN or infinite samples")
    if len(result) < CORPUS_RATE // 4:
        raise ValueError(f"{pair.name}: the result has only {len(result)} samples")

    for model in ("resemblyzer",) if quick else ("resemblyzer", "own"):
        ours, theirs, before = (
            np.asarray(bench.ask(model, clip), dtype=np.float32)
            for clip in (result, judged, source)
        )
        figures[f"{model}_target"] = similarity(ours, theirs)
        figures[f"{model}_source"] = similarity(ours, before)
        nearer = figures[f"{model}_target"] > figures[f"{model}_source"]
        figures[f"{model}_nearer"] = float(nearer)
    figures["phone_error"] = error_rate(bench.ask("phones", source), bench.ask("phones", result))
    figures["ctc_phone_error"] = error_rate(
        bench.ask("ctc_phones", source), bench.ask("ctc_phones", result)
    )
    figures["word_error"] = error_rate(bench.ask("words", source), bench.ask("words", result))
    if not quick:
        figures["distillmos"] = bench.ask("distillmos", result)
        figures["dnsmos_speech"], _, figures["dnsmos"] = bench.ask("dnsmos", result)

    before, after = (np.array(bench.ask("pitch", clip)) for clip in (source, result))
    spoken = [pair.target.reference, *([judged] if pair.target.held_out else [])]
    wanted = np.concatenate([bench.ask("pitch", clip) for clip in spoken])
    figures["pitch_correlation"] = pitch_correlation(before, after)
    figures["voicing_error"] = voicing_error(before, after)
    figures["pitch_offset"] = abs(semitones(median_pitch(after), median_pitch(wanted)))
    figures["energy_correlation"] = energy_correlation(energy_track(source), energy_track(result))
    figures["lag"] = lag_ms(source, result)
    seconds = len(source) / CORPUS_RATE
    figures["clicks"] = max(0.0, (len(clicks(result)) - len(clicks(source))) / seconds)
    figures["joints"] = joint_trace(result, CHUNK)
    figures["level"] = speech_level(result) - speech_level(source)
    return figures


def summary(rows: Iterable[Figures]) -> Figures:
    """Each measure over results, without those that could not be told."""
    table = list(rows)
    result: Figures = {}
    for measure in MEASURES:
        values = np.array([row.get(measure.key, np.nan) for row in table], dtype=np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            result[measure.key] = float(measure.over(values))
    return result


def intervals(rows: Iterable[Figures]) -> Spread:
    """Between which values 19 of 20 draws of as many results, each with replacement, would lie, of
    every measure that has a bar (bootstrap, Efron 1979; seeded)."""
    table = list(rows)
    result: Spread = {}
    for measure in MEASURES:
        values = np.array([row.get(measure.key, np.nan) for row in table], dtype=np.float64)
        values = values[np.isfinite(values)]
        if measure.bar and len(values) >= FEWEST:
            rng = np.random.default_rng(DRAW_SEED)
            draws = rng.choice(values, (DRAWS, len(values)))
            low, high = np.quantile([measure.over(draw) for draw in draws], [0.025, 0.975])
            result[measure.key] = float(low), float(high)
    return result
