"""Small recordings made on the spot, and engines for tests of the chain around an engine."""

import io
from collections.abc import Iterator

import numpy as np

from menura.audio.formats import OutputFormat, find_format
from menura.audio.riff import open_wav
from menura.conversion.passthrough import PassThrough, SameVoice
from menura.conversion.request import ConversionRequest, SourcePlan
from menura.engine.interface import Samples


def tone(seconds: float, rate: int = 16_000, seed: int = 0) -> Samples:
    """Return a voice-like gliding tone with a little noise, shape (n,)."""
    count = round(seconds * rate)
    time = np.arange(count) / rate
    pitch = 150 + 40 * np.sin(2 * np.pi * 0.7 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = 0.3 * np.sin(phase) + 0.1 * np.sin(3 * phase)
    noise = np.random.default_rng(seed).standard_normal(count) * 0.01
    return (sound + noise).astype(np.float32)


def wav(samples: Samples, rate: int = 16_000) -> bytes:
    """Return a 16-bit WAV file."""
    from menura.audio.encode import wav_header  # noqa: PLC0415

    codes = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    return wav_header(rate, samples.size) + codes.tobytes()


def long_wav(seconds: int, rate: int = 16_000) -> Iterator[bytes]:
    """Yield a 16-bit WAV file second by second, never whole in memory."""
    from menura.audio.encode import wav_header  # noqa: PLC0415

    yield wav_header(rate, seconds * rate)
    second = wav(tone(1.0, rate), rate)[44:]
    for _ in range(seconds):
        yield second


def read_wav(data: bytes) -> Samples:
    """Return the samples of a WAV file."""
    reader = open_wav(io.BytesIO(data))
    assert reader is not None
    blocks = []
    while (block := reader.read()).size:
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def output(name: str) -> OutputFormat:
    """Return an output format by name."""
    found = find_format(name)
    assert found is not None
    return found


def plain_request(name: str = "pcm_24000", **plan: object) -> ConversionRequest:
    """Return a request that leaves the voice as it is."""
    return ConversionRequest(SourcePlan(ENGINE, **plan), SameVoice(), output(name))  # type: ignore[arg-type]


ENGINE = PassThrough()
