"""The header of the WAV files that Menura writes."""

import struct


def wav_header(sample_rate: int, samples: int | None) -> bytes:
    """Return the 44 bytes before 16-bit mono samples; None writes the sizes of a live stream."""
    size = 0xFFFFFFFF if samples is None else min(2 * samples, 0xFFFFFFFF)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        min(size + 36, 0xFFFFFFFF),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate,
        2 * sample_rate,
        2,
        16,
        b"data",
        size,
    )


def wav_size(header: bytes) -> int:
    """Return how many bytes a file has that begins with such a header."""
    return 8 + int.from_bytes(header[4:8], "little")
