"""What the teacher still hears of held-out people's words after a conversion.

    python -m training.hearing --pack ../packed --engine neural --level 3

Phone errors of the judging suite's recogniser move by chance, and with what nobody hears. Here
Whisper hears twenty conversions among readers that training left out: how far its encoder's answer,
along the directions that tell sounds apart (`lessons.py`), has moved from what it answers to the
source, as a share of that answer's power; and how many of its words differ. The networks have
learnt from this very recogniser, so it compares settings and engines; it does not judge them. A
phone recogniser that taught them nothing (package `hama`, a CTC network of 4.7 MB in its wheel,
Apache 2.0) does: the edit distance between the phones of source and result. Beside them stand what
the judging suite says of likeness (Resemblyzer) and naturalness (DistillMOS). Settings are compared
on these pairs; the judging pairs are for what was chosen.
"""

import argparse
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from evaluation.converters import converter
from evaluation.ctc_phones import ctc_phones_of
from evaluation.naturalness import distillmos
from evaluation.pairs import Pair, target_of
from evaluation.recogniser import error_rate
from evaluation.resemblance import resemblyzer_vector, similarity
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE
from menura.engine.neural import mapping
from training.ear import lost
from training.lessons import directions_of
from training.pack import Clip, Pack, held_out
from training.teacher import Teacher

PAIRS = 20
"""Every second within one sex."""
LONGEST = 7.5
"""Seconds of a source that are heard."""
LEAST = 11.5
"""Seconds of speech that a target must have."""
LOUD = 5.0
"""Nepers of power under the loudest frame within which frames count."""
ROWS_PER_SECOND = 50
SEED = 4

Array = NDArray[np.float32]


def held_out_pairs(folder: Path) -> list[Pair]:
    """Return conversions among a pack's held-out readers, each as rarely repeated as can be.

    Raises FileNotFoundError when they are too few.
    """
    pack = Pack(folder)
    held = held_out(pack.clips)
    clips: dict[str, list[Clip]] = {}
    for clip in pack.clips:
        if clip.split == "train" and clip.corpus == "librispeech" and clip.person in held:
            clips.setdefault(clip.person, []).append(clip)
    sex = {person: own[0].sex for person, own in clips.items()}
    long = [p for p, own in clips.items() if sum(c.frames for c in own) > 100 * LEAST]
    rng = random.Random(SEED)
    chosen: list[tuple[str, str]] = []
    used: Counter[tuple[str, str]] = Counter()
    for turn in range(PAIRS):
        pool = [
            (source, target)
            for source in sorted(clips)
            for target in long
            if source != target
            and (sex[source] == sex[target]) == (turn % 2 == 0)
            and (source, target) not in chosen
        ]
        if not pool:
            raise FileNotFoundError(f"{folder} has too few held-out readers for {PAIRS} pairs")
        rng.shuffle(pool)
        pick = min(pool, key=lambda pair: used["source", pair[0]] + used["target", pair[1]])
        used.update(zip(("source", "target"), pick, strict=True))
        chosen.append(pick)
    pairs = []
    for source, target in chosen:
        speech = np.concatenate([pack.wave(clip) for clip in clips[target]])
        pairs.append(
            Pair(
                f"{source}__{target}",
                "held",
                pack.wave(clips[source][0])[: int(LONGEST * SAMPLE_RATE)],
                sex[source],
                target_of(target, sex[target], [speech]),
            )
        )
    return pairs


def moved(before: Array, after: Array, loud: NDArray[np.bool_]) -> float:
    """Return `ear.lost` of one clip. before, after: the teacher's, a row per 20 ms. loud: the rows
    that count. What differs all along, as a speaker does, is no loss."""
    rows = min(len(before), len(after), len(loud))
    return float(lost(*(torch.from_numpy(part[None, :rows]) for part in (before, after, loud))))


def loud_rows(wave: Array) -> NDArray[np.bool_]:
    """Return which 20 ms of a wave are speech rather than pause."""
    length = SAMPLE_RATE // ROWS_PER_SECOND
    power = np.square(wave[: len(wave) // length * length].reshape(-1, length)).mean(axis=1)
    level = np.log(power + 1e-9)
    return np.asarray(level > level.max() - LOUD)


def words_of(text: str | None) -> list[str]:
    """Return a transcript's words without their punctuation."""
    return re.sub(r"[^a-z' ]", " ", (text or "").lower()).split()


def main() -> None:
    """Convert and hear the pairs; one line with the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--model", type=Path, default=Path("../whisper"))
    parser.add_argument("--engine", default="neural", help="as for `make evaluate`")
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--kept", type=float, help="another share of the source's envelope")
    arguments = parser.parse_args()
    if arguments.kept is not None:
        mapping.KEPT = mapping.PATIENT_KEPT = (arguments.kept, arguments.kept)
    directions = directions_of(arguments.pack)
    teacher = Teacher(arguments.model)
    engine = converter(arguments.engine, LATENCY_PROFILES[arguments.level])
    missed, errors, phones, likeness, natural = [], [], [], [], []
    for pair in track(held_out_pairs(arguments.pack), "hearing"):
        result = engine.convert(pair)
        (before, said), (after, heard) = (
            teacher.hear(wave, True) for wave in (pair.source, result)
        )
        answers = (rows.astype(np.float32) @ directions for rows in (before, after))
        missed.append(moved(*answers, loud_rows(pair.source)))
        errors.append(error_rate(words_of(said), words_of(heard)))
        there, here = (ctc_phones_of(wave) for wave in (pair.source, result))
        phones.append(error_rate(there, here))
        made, *people = (
            resemblyzer_vector(wave) for wave in (result, pair.target.judged, pair.source)
        )
        likeness.append([similarity(made, person) for person in people])
        natural.append(distillmos(result))
    target, source = np.mean(likeness, axis=0)
    print(
        f"{engine.name}: lost {np.mean(missed):.3f}, words {np.nanmean(errors):.3f},"
        f" phones {np.mean(phones):.3f}, to target {target:.3f}, to source {source:.3f},"
        f" DistillMOS {np.mean(natural):.2f}"
    )


if __name__ == "__main__":
    run(main)
