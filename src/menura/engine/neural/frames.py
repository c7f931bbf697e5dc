"""What the analysis tells the rendering about the source, one row per 10 ms frame."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from menura.engine.neural.features import BANDS, MELS, Array

CODE = 192


@dataclass(frozen=True, slots=True)
class NeuralFeatures:
    """A stretch of source speech.

    code: what is said, (n, 192). shape: level-free log-mel minus the speaker's mean, (n, 80).
    f0: Hz at the frame's centre, the last voiced value where unvoiced, (n,). next_f0: of the frame
    after.
    median: the speaker's median log F0 so far, (n,). energy: log power, (n,). gentle: energy over
    the speech's, (n,). gate: 0 in digital silence to 1, (n,). periodicity: (n, 4).
    borders: how many rows each block of the analysis gave; the rendering works in the same blocks.
    """

    code: Array
    shape: Array
    f0: Array
    next_f0: Array
    median: Array
    energy: Array
    gentle: Array
    gate: Array
    periodicity: Array
    borders: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Number of 10 ms frames."""
        return len(self.f0)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def blocks(self) -> "list[NeuralFeatures]":
        """Return the stretch cut at its borders."""
        out, start = [], 0
        for count in self.borders:
            out.append(self.rows(slice(start, start + count)))
            start += count
        return out

    def rows(self, chosen: slice) -> "NeuralFeatures":
        """Return some rows as one block."""
        return of_arrays([getattr(self, name)[chosen] for name in ARRAYS])

    @staticmethod
    def joined(parts: "Sequence[NeuralFeatures]") -> "NeuralFeatures":
        """Join stretches in time."""
        if not parts:
            return nothing()
        arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS]
        borders = tuple(border for part in parts for border in part.borders)
        return of_arrays(arrays, borders)


ARRAYS = tuple(field.name for field in fields(NeuralFeatures) if field.name != "borders")


def of_arrays(arrays: list[Array], borders: tuple[int, ...] | None = None) -> NeuralFeatures:
    """Return features from arrays in the order of `ARRAYS`; one block unless borders say else."""
    named = dict(zip(ARRAYS, arrays, strict=True))
    return NeuralFeatures(**named, borders=(len(arrays[0]),) if borders is None else borders)


def nothing() -> NeuralFeatures:
    """Return a stretch of no length."""
    none = np.zeros(0, np.float32)
    return NeuralFeatures(
        np.zeros((0, CODE), np.float32),
        np.zeros((0, MELS), np.float32),
        none,
        none,
        none,
        none,
        none,
        none,
        np.zeros((0, BANDS), np.float32),
        (),
    )
