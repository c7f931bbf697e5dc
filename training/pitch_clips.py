"""The clips that teach and judge the pitch tracker, with what Harvest and DIO hear in them."""

import random
from pathlib import Path

import numpy as np
import soxr
from evaluation.corpus import Clip, Corpus
from evaluation.prosody import energy_track
from evaluation.world import pyworld
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.spectrum import STEP
from training.pack import held_out

Array = NDArray[np.float32]

TAUGHT = ("librispeech", "s2i")
JUDGED = {"librispeech": 28, "s2i": 12}
"""People of each corpus who judge it."""
SHORTEST, LONGEST = 1.5, 12.0
"""Seconds that a clip must have, and that are heard of it."""
SEED = 8


def judged_clips(corpus: Corpus) -> list[Clip]:
    """Return a clip each of people that teach neither the tracker nor the expected median; none of
    them is held out of all training."""
    clips, rng = [], random.Random(SEED)
    held = held_out(corpus.clips)
    for name, number in JUDGED.items():
        people: dict[str, list[Clip]] = {}
        for clip in corpus.clips:
            known = clip.corpus == name and clip.split == "train" and clip.seconds >= 2.5
            if known and clip.person not in held:
                people.setdefault(clip.person, []).append(clip)
        for person in rng.sample(sorted(people), number):
            clips.append(rng.choice(people[person]))
    return clips


def taught_clips(corpus: Corpus) -> list[Clip]:
    """Return all clips that teach the tracker."""
    without = {clip.person for clip in judged_clips(corpus)}
    without |= held_out(corpus.clips)
    return [
        clip
        for clip in corpus.clips
        if clip.corpus in TAUGHT
        and clip.split == "train"
        and clip.seconds >= SHORTEST
        and clip.person not in without
    ]


def truth(samples: Array) -> tuple[Array, Array]:
    """Return F0 in Hz per 5 ms (0 where unvoiced) and how sure that is: 1, 0.5 or 0."""
    wave = soxr.resample(samples, SAMPLE_RATE, 16_000).astype(np.float64)
    wave += 1e-5 * np.random.default_rng(0).standard_normal(len(wave))
    harvest, times = pyworld.harvest(wave, 16_000, f0_floor=60.0, f0_ceil=600.0, frame_period=5.0)
    harvest = pyworld.stonemask(wave, harvest, times, 16_000)
    aperiodicity = pyworld.d4c(wave, harvest, times, 16_000)[:, 1]
    dio, times = pyworld.dio(wave, 16_000, f0_floor=60.0, f0_ceil=600.0, frame_period=5.0)
    dio = pyworld.stonemask(wave, dio, times, 16_000)
    n = min(len(harvest), len(dio), len(samples) // STEP)
    harvest, dio, aperiodicity = harvest[:n], dio[:n], aperiodicity[:n]
    level = np.repeat(energy_track(samples), 2)
    level = np.pad(level, (0, max(0, n - len(level))), mode="edge")[:n]
    voiced = (harvest > 0) & (aperiodicity < 0.999) & (level > level.max() - 45.0)
    ratio = np.log2(np.maximum(harvest, 1.0) / np.maximum(dio, 1.0))
    agreed = voiced & (dio > 0) & (np.abs(ratio) < 0.14)
    sure = np.where(agreed, 1.0, np.where(voiced, 0.5, np.where(dio == 0, 1.0, 0.0)))
    return np.where(voiced, harvest, 0.0).astype(np.float32), sure.astype(np.float32)


def labelled(corpus: Corpus, clip: Clip, cache: Path) -> tuple[Array, Array, Array]:
    """Return a clip's samples and `truth`, which is kept in a folder."""
    samples = corpus.read(clip)[: int(LONGEST * SAMPLE_RATE)]
    kept = cache / f"{clip.key.replace('/', '-')}.npz"
    if not kept.is_file():
        f0, sure = truth(samples)
        part = kept.with_suffix(".part")
        with open(part, "wb") as file:
            np.savez(file, f0=f0, sure=sure)
        part.replace(kept)
    with np.load(kept) as arrays:
        return samples, arrays["f0"], arrays["sure"]
