"""How well the two speaker models tell people apart that no training saw.

python -m evaluation.speaker_trials
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from evaluation.command_line import run
from evaluation.corpus import CORPUS_RATE, Clip, Corpus, Samples
from evaluation.referees import Bench

PIECE = 3.5
"""Seconds of one trial side, about what a short conversion offers."""


def pieces(corpus: Corpus, clip: Clip) -> list[Samples]:
    """Up to three sides of trials, one after the other, from a clip."""
    samples, size = corpus.read(clip), int(PIECE * CORPUS_RATE)
    return [samples[s : s + size] for s in range(0, len(samples) - size + 1, size)][:3]


def equal_error_rate(same: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Where misses and false alarms are equally frequent, 0 to 1."""
    bounds = np.sort(np.concatenate([same, other]))
    misses = np.searchsorted(np.sort(same), bounds) / len(same)
    alarms = 1.0 - np.searchsorted(np.sort(other), bounds) / len(other)
    nearest = int(np.argmin(np.abs(misses - alarms)))
    return float((misses[nearest] + alarms[nearest]) / 2)


def main() -> None:
    """Ask both models about every piece and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=None)
    parser.add_argument("--cache", type=Path, default=Path("evaluation/cache"))
    options = parser.parse_args()
    corpus, bench = Corpus(options.corpus), Bench(options.cache)
    clips = [c for c in corpus.clips if c.split == "valid" and c.corpus != "wakeword"]
    sides = []
    for clip in track(clips, "pieces"):
        for piece in pieces(corpus, clip):
            vectors = {m: np.array(bench.ask(m, piece)) for m in ("resemblyzer", "own")}
            sides.append((clip, vectors))
    print("| trials | same | other | Resemblyzer: EER, same, other | own model: EER, same, other |")
    print("|---|---|---|---|---|")
    for name, corpora in (
        ("natural English", {"librispeech", "s2i"}),
        ("LibriSpeech alone", {"librispeech"}),
        ("synthetic", {"t145", "mimic3"}),
    ):
        chosen = [s for s in sides if s[0].corpus in corpora]
        cells, count = [], (0, 0)
        for model in ("resemblyzer", "own"):
            same, other = [], []
            for (one, ours), (two, theirs) in itertools.combinations(chosen, 2):
                near = same if one.person == two.person else other
                near.append(float(ours[model] @ theirs[model]))
            count = (len(same), len(other))
            rate = equal_error_rate(np.array(same), np.array(other))
            cells.append(f"{rate:.3f}, {np.median(same):.2f}, {np.median(other):.2f}")
        print(f"| {name} | {count[0]} | {count[1]} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    run(main)
