"""What the analysis tells the rendering: the source-filter engine's features, and content codes."""

from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np

from menura.engine.neural.networks import CODE
from menura.engine.source_filter.features import HalfArray, SourceFilterFeatures


@dataclass(frozen=True, slots=True)
class NeuralFeatures(SourceFilterFeatures):
    """A stretch of source speech, one row per 5 ms instant.

    code: content code of the instant's frame, (n, CODE), half precision.
    """

    GLIDING: ClassVar[tuple[str, ...]] = (*SourceFilterFeatures.GLIDING, "code")

    code: HalfArray

    @classmethod
    def of(cls, known: SourceFilterFeatures, code: HalfArray) -> Self:
        """Add codes to what the source-filter analysis found."""
        own = {field.name: getattr(known, field.name) for field in fields(SourceFilterFeatures)}
        return cls(**own, code=code)

    @classmethod
    def silence(cls) -> Self:
        """Return one instant of silence."""
        return cls.of(SourceFilterFeatures.silence(), np.zeros((1, CODE), np.float16))
