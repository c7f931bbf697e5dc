"""Files of every kind, made on the fly by PyAV alone, and how like two sounds are."""

import tempfile
from pathlib import Path

import av
import numpy as np

from menura.engine.interface import Samples

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def sweep(samples: int, sample_rate: int) -> Samples:
    """A chirp of moving loudness from 150 Hz up: every stretch of it is unlike every other."""
    time = np.arange(samples) / sample_rate
    phase = 2 * np.pi * (150 + 250 * time) * time
    loudness = 0.35 * (0.6 + 0.4 * np.sin(2 * np.pi * 2.7 * time))
    return (loudness * np.sin(phase)).astype(np.float32)


def id3(body: bytes) -> bytes:
    """Return an ID3 tag around its frames."""
    return b"ID3\x04\0\0" + synchsafe(len(body)) + body


def synchsafe(number: int) -> bytes:
    """Return a number as ID3 writes it, in seven bits of each of four bytes."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def make_file(
    samples: Samples,
    container: str,
    codec: str,
    sample_rate: int = 44_100,
    channels: int = 1,
    sample_format: str | None = None,
    options: dict[str, str] | None = None,
    video: bool = False,
) -> bytes:
    """Return a file with the samples in every channel; `video` adds a picture."""
    layout = LAYOUTS[channels]
    with tempfile.TemporaryDirectory() as folder:
        # Some muxers read again what they have written, which they can do by its path alone.
        path = Path(folder) / "made"
        with av.open(str(path), "w", format=container, options=options or {}) as file:
            picture = None
            if video:
                picture = file.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
            stream = file.add_stream(
                codec,
                rate=sample_rate,
                layout=layout,
                options={"strict": "-2"},
                **({"format": sample_format} if sample_format else {}),
            )
            if not codec.startswith(("pcm", "flac", "alac", "amr", "libopencore")):
                stream.bit_rate = min(64_000 * channels, 192_000)
            if "amrnb" in codec:
                stream.bit_rate = 12_200
            stream.codec_context.open()
            size = stream.codec_context.frame_size or 1024
            for at in range(0, samples.size, size):
                if picture is not None and at % (4 * size) == 0:
                    image = av.VideoFrame(64, 48, "yuv420p")
                    image.pts = at // (4 * size)
                    file.mux(picture.encode(image))
                frame = _frame(samples[at : at + size], stream.format.name, layout, channels)
                frame.sample_rate = sample_rate
                frame.pts = at
                file.mux(stream.encode(frame))
            if picture is not None:
                file.mux(picture.encode(None))
            file.mux(stream.encode(None))
        return path.read_bytes()


def _frame(samples: Samples, kind: str, layout: str, channels: int) -> av.AudioFrame:
    frame = av.AudioFrame(kind, layout, samples.size)
    base = kind.removesuffix("p")
    if base == "u8":
        values = np.clip(np.rint(samples * 128 + 128), 0, 255).astype(np.uint8)
    elif base.startswith("s"):
        full = 2.0 ** (int(base[1:]) - 1)
        values = np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1)
        values = values.astype(f"i{int(base[1:]) // 8}")
    else:
        values = samples.astype({"flt": np.float32, "dbl": np.float64}[base])
    if kind.endswith("p"):
        for plane in frame.planes[:channels]:
            plane.update(values.tobytes())
    else:
        frame.planes[0].update(np.repeat(values, channels).tobytes())
    return frame


def lag(heard: Samples, meant: Samples) -> int:
    """Samples by which `heard` is later than `meant`."""
    size = 1 << (heard.size + meant.size).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(meant, size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return peak if peak < heard.size else peak - size


def signal_to_noise(heard: Samples, meant: Samples) -> float:
    """Decibels, over the shorter of the two, in which they agree."""
    size = min(heard.size, meant.size)
    noise = np.mean((heard[:size] - meant[:size]).astype(np.float64) ** 2)
    return float(10 * np.log10(np.mean(meant[:size].astype(np.float64) ** 2) / (noise + 1e-20)))
