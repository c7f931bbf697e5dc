"""The noise suppressors that are compared.

Those whose package is not installed are left out: `pip install livekit pyrnnoise` adds them.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray
from pywebrtc_audio import NoiseSuppressor

from menura.denoise import Denoiser

Signal = NDArray[np.float32]
RATE = 24_000
"""Rate in Hz at which candidates are compared, and at which some of them run."""


@dataclass(frozen=True)
class Candidate:
    """A suppressor: `run` takes and returns one whole signal at `rate`."""

    name: str
    rate: int
    run: Callable[[Signal], Signal]


def ffmpeg_filter(rate: int, name: str, arguments: str) -> Callable[[Signal], Signal]:
    """Return a runner of one FFmpeg audio filter through PyAV."""

    def run(x: Signal) -> Signal:
        graph = av.filter.Graph()
        source = graph.add_abuffer(sample_rate=rate, format="fltp", layout="mono")
        node = graph.add(name, arguments)
        sink = graph.add("abuffersink")
        source.link_to(node)
        node.link_to(sink)
        graph.configure()
        out: list[Signal] = []

        def drain() -> None:
            while True:
                try:
                    out.append(graph.pull().to_ndarray()[0])  # type: ignore[union-attr]
                except (av.error.BlockingIOError, av.error.EOFError):
                    return

        for start in range(0, len(x), 1024):
            frame = av.AudioFrame.from_ndarray(x[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate = rate
            frame.pts = start
            graph.push(frame)
            drain()
        graph.push(None)
        drain()
        return np.concatenate(out)

    return run


def candidates() -> Iterator[Candidate]:
    """Yield what is installed here."""
    yield Candidate("none", RATE, lambda x: x)

    for live in (False, True):

        def menura(x: Signal, live: bool = live) -> Signal:
            denoiser = Denoiser(live=live)
            blocks = [denoiser.push(x[start : start + 960]) for start in range(0, len(x), 960)]
            return np.concatenate((*blocks, denoiser.flush()))

        yield Candidate(f"**Menura**, {'live' if live else 'recorded'}", 48_000, menura)
    for rate, strength in ((48_000, 1), (16_000, 0), (16_000, 1), (16_000, 2)):

        def webrtc(x: Signal, rate: int = rate, strength: int = strength) -> Signal:
            return NoiseSuppressor(sample_rate=rate, level=strength).process(x)

        yield Candidate(f"WebRTC NS level {strength}, {rate // 1000} kHz", rate, webrtc)
    if importlib.util.find_spec("livekit"):
        from livekit import rtc  # noqa: PLC0415

        def livekit(x: Signal) -> Signal:
            module = rtc.AudioProcessingModule(noise_suppression=True)
            pcm = np.clip(x * 32768, -32768, 32767).astype(np.int16)
            pcm = np.pad(pcm, (0, -len(pcm) % 480))
            out = []
            for start in range(0, len(pcm), 480):
                frame = rtc.AudioFrame(pcm[start : start + 480].tobytes(), 48_000, 1, 480)
                module.process_stream(frame)
                out.append(np.frombuffer(frame.data, np.int16).astype(np.float32) / 32768)
            return np.concatenate(out)[: len(x)]

        yield Candidate("WebRTC NS (livekit)", 48_000, livekit)
    if importlib.util.find_spec("pyrnnoise"):
        from pyrnnoise import rnnoise  # noqa: PLC0415

        def recurrent(x: Signal) -> Signal:
            state = rnnoise.create()
            padded = np.pad(x, (0, -len(x) % 480))
            out = [
                rnnoise.process_mono_frame(state, (np.clip(block, -1, 1) * 32767).astype(np.int16))[
                    0
                ].astype(np.float32)
                / 32767
                for block in padded.reshape(-1, 480)
            ]
            rnnoise.destroy(state)
            return np.concatenate(out)[: len(x)]

        yield Candidate("RNNoise (pyrnnoise)", 48_000, recurrent)
    for arguments in ("nr=12:nt=w:tn=1", "nr=20:nt=w:tn=1", "nr=24:nf=-40:tn=1"):
        yield Candidate(
            f"FFmpeg afftdn={arguments}", RATE, ffmpeg_filter(RATE, "afftdn", arguments)
        )
    yield Candidate("FFmpeg anlmdn=s=0.001", RATE, ffmpeg_filter(RATE, "anlmdn", "s=0.001"))
    yield Candidate("FFmpeg afwtdn=adaptive=1", RATE, ffmpeg_filter(RATE, "afwtdn", "adaptive=1"))
