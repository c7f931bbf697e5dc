"""From mono samples to any output format, streamed: one encoder and one header for each stream."""

from menura.audio.encoder import Encoder
from menura.audio.formats import OutputFormat
from menura.audio.mp3_encoder import Mp3Encoder
from menura.audio.opus_encoder import OpusEncoder
from menura.audio.plain_encoder import PlainEncoder


def open_encoder(output_format: OutputFormat, total: int | None = None) -> Encoder:
    """Start a stream.

    total: number of samples that will come, if it is known: headers then say it from the start.
    """
    kinds = {"mp3": Mp3Encoder, "opus": OpusEncoder}
    return kinds.get(output_format.codec, PlainEncoder)(output_format, total)
