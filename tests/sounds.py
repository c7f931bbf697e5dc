"""What tests hear: recordings of `tests/speech`, small sounds made on the spot, files read back.

Files are read by PyAV alone, as a player reads them, and not by what is tested.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from menura.audio.wav_header import wav_header
from menura.engine.interface import Samples

SPEECH = Path(__file__).parent / "speech"


def speech(name: str, rate: int = 24_000, seconds: float | None = None) -> Samples:
    """Return a recording's beginning, or all of it, at a rate in Hz, shape (n,)."""
    whole = decoded((SPEECH / f"{name}.flac").read_bytes(), rate)
    return whole if seconds is None else whole[: int(seconds * rate)]


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
    codes = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    return wav_header(rate, samples.size) + codes.tobytes()


def long_wav(seconds: int, rate: int = 16_000) -> Iterator[bytes]:
    """Yield a 16-bit WAV file second by second, never whole in memory."""
    yield wav_header(rate, seconds * rate)
    second = wav(tone(1.0, rate), rate)[44:]
    for _ in range(seconds):
        yield second


def decoded(data: bytes, rate: int | None = None) -> Samples:
    """Return a file's samples, mono, at a rate in Hz or at its own."""
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler("flt", "mono", rate)
        blocks = [
            out.to_ndarray().ravel()
            for frame in container.decode(audio=0)
            for out in resampler.resample(frame)
        ]
        blocks += [out.to_ndarray().ravel() for out in resampler.resample(None)]
    return np.concatenate(blocks)


def seconds_of(audio: bytes | Path) -> float:
    """Return how long a file sounds."""
    with av.open(io.BytesIO(audio) if isinstance(audio, bytes) else audio) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.rate


def rms(samples: Samples) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples))))
