"""Reduce what the teacher heard to what tells sounds apart: `lessons.f16` beside the waves.

    python -m training.lessons --pack ../packed

A person's own mean is taken away; then linear discriminants of the phones' halves (Fisher 1936; Rao
1948) are found on the labelled English clips, and every frame is seen along them: 64 numbers per
10 ms, in which the same sound varies by about 1 whoever speaks. What they say of other languages is
not bound to English phones.
"""

import argparse
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from evaluation.command_line import run
from numpy.typing import NDArray
from rich.progress import track

from training.pack import Clip, Pack
from training.phones import CLASSES

WIDTH = 512
"""Numbers per 20 ms in `heard.f16`: what the teacher's encoder gives out."""
LESSON = 64
"""Numbers of a lesson."""
PRIOR_ROWS = 200.0
"""Rows of the average person that a person's mean begins with."""
FEWEST = 5
"""Rows that a half of a phone must have to be told from others."""
DIRECTIONS = "directions.npy"
RIDGE = 0.03
"""Share of the mean variance added to every direction within the phones."""

Array = NDArray[np.float32]


def row_count(clip: Clip) -> int:
    """Return the rows that a clip has in `heard.f16`."""
    return -(-clip.frames // 2)


class Heard:
    """What the teacher made of the clips of a pack, less the mean of the person who speaks."""

    def __init__(self, folder: Path) -> None:
        self.pack = Pack(folder)
        self._rows = np.memmap(folder / "heard.f16", np.float16, "r").reshape(-1, WIDTH)
        self._start: dict[str, int] = {}
        rows = 0
        sums: dict[str, Array] = defaultdict(lambda: np.zeros(WIDTH, np.float32))
        counts: dict[str, int] = defaultdict(int)
        for clip in track(self.pack.clips, "means"):
            self._start[clip.path] = rows
            rows += row_count(clip)
            own = self._own(clip)
            voiced = (self.pack.f0(clip)[::2] > 0) & own.any(axis=1)
            sums[clip.person] += own[voiced].sum(axis=0)
            counts[clip.person] += int(voiced.sum())
        usual = np.sum(list(sums.values()), axis=0) / max(1, sum(counts.values()))
        self._means = {
            person: (total + PRIOR_ROWS * usual) / (counts[person] + PRIOR_ROWS)
            for person, total in sums.items()
        }

    def _own(self, clip: Clip) -> Array:
        start = self._start[clip.path]
        return np.asarray(self._rows[start : start + row_count(clip)], np.float32)

    def frames(self, clip: Clip) -> Array:
        """Return a row per 10 ms frame, between the teacher's rows, zeros where it heard nothing,
        (frames, WIDTH)."""
        rows = self._own(clip)
        rows -= self._means[clip.person] * rows.any(axis=1, keepdims=True)
        # The teacher's row i is centred at 20 i ms, frame j at 10 j + 5 ms.
        place = np.clip(0.5 * np.arange(clip.frames) + 0.25, 0.0, len(rows) - 1.0)
        low = place.astype(np.intp)
        high = np.minimum(low + 1, len(rows) - 1)
        share = (place - low).astype(np.float32)[:, None]
        return np.asarray(rows[low] * (1.0 - share) + rows[high] * share)


def discriminants(heard: Heard, labels: NDArray[np.int8], every: int = 3) -> Array:
    """Return the directions that tell phones' halves apart, (WIDTH, LESSON)."""
    count = np.zeros(CLASSES)
    sums = np.zeros((CLASSES, WIDTH))
    squares = np.zeros((WIDTH, WIDTH))
    for clip in track(heard.pack.clips, "phones"):
        own = labels[clip.start : clip.start + clip.frames : every]
        known = own >= 0
        if not known.any():
            continue
        rows = heard.frames(clip)[::every][known].astype(np.float64)
        np.add.at(sums, own[known], rows)
        np.add.at(count, own[known], 1)
        squares += rows.T @ rows
    used = count > FEWEST
    means = sums[used] / count[used][:, None]
    total = count[used].sum()
    between = (means * count[used][:, None]).T @ means / total
    middle = (means * count[used][:, None]).sum(axis=0) / total
    within = squares / count.sum() - between
    between -= np.outer(middle, middle)
    within += RIDGE * np.trace(within) / WIDTH * np.eye(WIDTH)
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(np.maximum(values, 1e-9))
    turned = np.linalg.eigh(white.T @ between @ white).eigenvectors
    return np.asarray((white @ turned[:, ::-1])[:, :LESSON], np.float32)


def write(heard: Heard, directions: Array, out: Path) -> None:
    """Write the lessons of a pack."""
    part = out.with_suffix(".part")
    with open(part, "wb") as file:
        for clip in track(heard.pack.clips, "lessons"):
            file.write((heard.frames(clip) @ directions).astype(np.float16).tobytes())
    os.replace(part, out)


def lessons_of(folder: Path) -> NDArray[np.float16] | None:
    """Return a pack's lessons, (frames, LESSON), or None where there are none."""
    path = folder / "lessons.f16"
    return np.memmap(path, np.float16, "r").reshape(-1, LESSON) if path.exists() else None


def directions_of(folder: Path) -> Array:
    """Return the directions that a pack's lessons were seen along, (WIDTH, LESSON)."""
    return np.asarray(np.load(folder / DIRECTIONS), np.float32)


def main() -> None:
    """Find the discriminants and write the pack's lessons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    arguments = parser.parse_args()
    heard = Heard(arguments.pack)
    directions = discriminants(heard, np.fromfile(arguments.pack / "labels.i8", np.int8))
    np.save(arguments.pack / DIRECTIONS, directions)
    write(heard, directions, arguments.pack / "lessons.f16")


if __name__ == "__main__":
    run(main)
