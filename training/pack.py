"""The packed corpus, as `prepare.py` and `speak.py` write it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import HOP

HELD_OUT = 12
"""Every so many-th person of the labelled corpora is only for validation."""

Array = NDArray[np.float32]


@dataclass
class Clip:
    """One packed clip.

    split: `train` or `valid`. sex: `M`, `F` or unknown. bandwidth: in Hz. start, frames: where it
    lies in the pack, in frames of 10 ms. path: its name, which no other clip has.
    """

    path: str
    corpus: str
    person: str
    sex: str | None
    split: str
    text: str | None
    bandwidth: float
    start: int
    frames: int


class Pack:
    """The packed corpus, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._waves = np.memmap(folder / "waves.i16", np.int16, "r")
        self._f0 = np.memmap(folder / "f0.f32", np.float32, "r")
        self.clips: list[Clip] = []
        start = 0
        for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if (start + row["frames"]) * HOP > len(self._waves):
                break
            bandwidth = float(row["bandwidth_hz"] or 8_000.0)
            self.clips.append(
                Clip(
                    path=row["path"],
                    corpus=row["corpus"],
                    person=row["person"] or row["speaker"],
                    sex=row["sex"],
                    split=row["split"],
                    text=row["text"],
                    bandwidth=12_000.0 if bandwidth > 9_000.0 else min(bandwidth, 7_900.0),
                    start=start,
                    frames=row["frames"],
                )
            )
            start += row["frames"]

    def wave(self, clip: Clip) -> Array:
        """Return a clip's samples at 24 kHz, (240 frames,)."""
        part = self._waves[clip.start * HOP : (clip.start + clip.frames) * HOP]
        return np.asarray(part.astype(np.float32) / 32_767.0)

    def f0(self, clip: Clip) -> Array:
        """Return a clip's F0 in Hz, 0 where unvoiced, (frames,)."""
        return np.asarray(self._f0[clip.start : clip.start + clip.frames])


def held_out(clips: list[Clip]) -> set[str]:
    """Return the people of the train split that training leaves out, to choose settings by."""
    labelled = ("librispeech", "t145")
    known = {c.person for c in clips if c.split == "train" and c.corpus in labelled}
    return set(sorted(known)[::HELD_OUT])
