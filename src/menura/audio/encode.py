"""From mono samples to any output format, streamed: one encoder and one header for each stream."""

from typing import Protocol

from menura.audio.formats import OutputFormat
from menura.audio.mp3_encoder import Mp3Encoder
from menura.audio.opus_encoder import OpusEncoder
from menura.audio.plain_encoder import PlainEncoder
from menura.engine.interface import Samples


class Encoder(Protocol):
    """One stream in one output format; any chunking of the samples gives the same bytes."""

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of the samples it takes."""
        ...

    @property
    def delay(self) -> int:
        """Samples at most that were pushed and cannot be decoded from the bytes given so far."""
        ...

    @property
    def header(self) -> bytes:
        """The bytes that the stream begins with; empty for a format without any.

        After `finish` it says the true length. It never changes its size, so whoever kept the
        whole stream may write it over the stream's beginning if `total` was not known.
        """
        ...

    def push(self, samples: Samples) -> bytes:
        """Take samples in and return the bytes that have become final, whole samples only."""
        ...

    def finish(self) -> bytes:
        """End the stream and return the remaining bytes. The object is spent afterwards.

        Raises ValueError if a `total` was promised and another number of samples came.
        """
        ...


def open_encoder(output_format: OutputFormat, total: int | None = None) -> Encoder:
    """Start a stream.

    total: number of samples that will come, if it is known: headers then say it from the start.
    """
    if output_format.codec == "mp3":
        return Mp3Encoder(output_format, total)
    if output_format.codec == "opus":
        return OpusEncoder(output_format, total)
    return PlainEncoder(output_format, total)
