"""What the analysis tells the rendering about the source."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter.periodicity import BANDS
from menura.engine.source_filter.settling import PRIOR_PITCH
from menura.engine.source_filter.spectrum import BINS, POWER_FLOOR, STEP, Array
from menura.engine.source_filter.statistics import LTAS_BANDS, PRIOR_SPREAD

HalfArray = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class SourceFilterFeatures:
    """A stretch of source speech, one row per 5 ms instant; row i lies at sample `120 i`.

    samples: the source itself from each instant to the next, shape (n, STEP).
    f0: Hz, 0 where unvoiced, (n,).
    periodicity: periodic share of the power per band, (n, BANDS).
    envelope: log power, (n, BINS); half precision, a hundredth of a neper, for long uploads.
    pitch: running median and spread of the source's log2 F0, (n, 2).
    tract: running vocal-tract factor, (n,): formants lie at so many times an average speaker's.
    breath: running mean periodic share of the voiced instants, (n, BANDS).
    timbre: running long-term log spectra, voiced and unvoiced, (n, 2, LTAS_BANDS),
        half precision.
    """

    GLIDING: ClassVar[tuple[str, ...]] = ("periodicity", "envelope")
    """Fields that may be read between two rows; of the others the nearest row is taken."""

    samples: Array
    f0: Array
    periodicity: Array
    envelope: HalfArray
    pitch: Array
    tract: Array
    breath: Array
    timbre: HalfArray

    def described_by(self, later: Self) -> Self:
        """Return the same stretch with what is known of the speaker as many rows later."""
        return replace(
            self,
            pitch=later.pitch,
            tract=later.tract,
            breath=later.breath,
            timbre=later.timbre,
        )

    @property
    def frames(self) -> int:
        """Number of 10 ms frames, the last of which may be a part of one."""
        return -(-len(self.f0) // 2)

    def split(self, frames: int) -> list[Self]:
        """Return the same in stretches of so many frames at most, in time; of none comes none."""
        return [self[row : row + 2 * frames] for row in range(0, len(self.f0), 2 * frames)]

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join stretches in time; of none there comes one of no length."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.silence()[:0]
        return cls(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            )
        )

    @classmethod
    def silence(cls) -> Self:
        """Return one instant of silence."""
        return cls(
            np.zeros((1, STEP), np.float32),
            np.zeros(1, np.float32),
            np.zeros((1, BANDS), np.float32),
            np.full((1, BINS), np.log(POWER_FLOOR), np.float16),
            np.array([[PRIOR_PITCH, PRIOR_SPREAD]], np.float32),
            np.ones(1, np.float32),
            np.full((1, BANDS), 0.5, np.float32),
            np.zeros((1, 2, LTAS_BANDS), np.float16),
        )
