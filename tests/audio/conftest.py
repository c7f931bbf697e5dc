"""Sounds and files made on the fly; nothing here needs more than PyAV."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Samples = NDArray[np.float32]

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def sweep(samples: int, sample_rate: int) -> Samples:
    """A chirp of moving loudness from 150 Hz up: every stretch of it is unlike every other."""
    time = np.arange(samples) / sample_rate
    phase = 2 * np.pi * (150 + 250 * time) * time
    loudness = 0.35 * (0.6 + 0.4 * np.sin(2 * np.pi * 2.7 * time))
    return (loudness * np.sin(phase)).astype(np.float32)


@dataclass(frozen=True)
class Recipe:
    """How to make a file with PyAV."""

    container: str
    codec: str
    sample_rate: int = 44_100
    channels: int = 1
    sample_format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    codec_options: dict[str, str] = field(default_factory=dict)
    video: bool = False

    def __str__(self) -> str:
        parts = [self.container, self.codec, f"{self.sample_rate}", f"{self.channels}ch"]
        parts += [self.sample_format or "", *self.options.values(), "video" if self.video else ""]
        return "-".join(part for part in parts if part)


def make_file(recipe: Recipe, samples: Samples, folder: Path) -> bytes:
    """Return a file with the samples in every channel."""
    path = folder / "made"
    layout = LAYOUTS[recipe.channels]
    with av.open(str(path), "w", format=recipe.container, options=recipe.options) as container:
        picture = None
        if recipe.video:
            picture = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stream = container.add_stream(
            recipe.codec,
            rate=recipe.sample_rate,
            layout=layout,
            options={"strict": "-2", **recipe.codec_options},
            **({"format": recipe.sample_format} if recipe.sample_format else {}),
        )
        if not recipe.codec.startswith(("pcm", "flac", "alac", "amr", "libopencore")):
            stream.bit_rate = min(64_000 * recipe.channels, 192_000)
        if "amrnb" in recipe.codec:
            stream.bit_rate = 12_200
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        for at in range(0, samples.size, size):
            if picture is not None and at % (4 * size) == 0:
                image = av.VideoFrame(64, 48, "yuv420p")
                image.pts = at // (4 * size)
                container.mux(picture.encode(image))
            frame = _frame(samples[at : at + size], stream.format.name, layout, recipe.channels)
            frame.sample_rate = recipe.sample_rate
            frame.pts = at
            container.mux(stream.encode(frame))
        if picture is not None:
            container.mux(picture.encode(None))
        container.mux(stream.encode(None))
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


@dataclass(frozen=True)
class Sounds:
    """What the tests of this folder share."""

    folder: Path
    sweep: Callable[[int, int], Samples] = sweep
    lag: Callable[[Samples, Samples], int] = lag
    signal_to_noise: Callable[[Samples, Samples], float] = signal_to_noise

    def file(self, recipe: Recipe, samples: Samples) -> bytes:
        """Make a file with the samples in every channel."""
        return make_file(recipe, samples, self.folder)

    def recipe(self, container: str, codec: str, *args: object, **kwargs: object) -> Recipe:
        """Return a recipe."""
        return Recipe(container, codec, *args, **kwargs)  # type: ignore[arg-type]

    def decoded(self, data: bytes) -> tuple[Samples, int]:
        """Decode plainly with PyAV, as a player does: the first channel, and the rate."""
        with av.open(io.BytesIO(data)) as container:
            rate = container.streams.audio[0].rate
            blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        samples = np.concatenate(blocks)
        if samples.dtype == np.int16:
            samples = samples.astype(np.float32) / 32768
        return samples, rate


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Sounds:
    return Sounds(tmp_path_factory.mktemp("sounds"))
