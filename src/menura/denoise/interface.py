"""What the rest of Menura expects of a noise suppressor."""

from typing import Protocol

from menura.engine.interface import Samples


class Denoiser(Protocol):
    """Streaming noise suppression of one mono stream at `sample_rate`.

    Delay-compensated: the whole output is as long as the whole input and aligned with it.
    Any chunking of the input gives the same output.
    """

    @property
    def sample_rate(self) -> int:
        """Rate of input and output in Hz."""
        ...

    @property
    def delay(self) -> int:
        """Samples held back at most."""
        ...

    def push(self, samples: Samples) -> Samples:
        """Take samples in and return those that have become final."""
        ...

    def flush(self) -> Samples:
        """End the input and return the remaining samples. The object is spent afterwards."""
        ...
