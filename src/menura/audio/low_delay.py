"""Sample-rate conversion that holds back a millisecond or two, for live streams.

The filter of `Resampler` rings longer and its library works in blocks of up to 40 ms. FFmpeg's
polyphase filter gives every sample as soon as its 16 neighbours are there.
"""

from contextlib import suppress

import av
import numpy as np
from av.filter import Graph

from menura.audio.resample import resampled_length
from menura.engine.interface import EMPTY, Samples

TAPS = 32
"""Length of FFmpeg's polyphase filter, in samples at the lower of the two rates."""


class LowDelayResampler:
    """A stage that changes the rate of a mono stream with the least delay.

    The whole output has `resampled_length(n, from_rate, to_rate)` samples for n samples in and is
    aligned with the input; any chunking gives the same output. Equal rates pass through.

    Where `to_rate` in lowest terms with `from_rate` has more than the 1024 phases of FFmpeg's
    filter (23,565 Hz to 24,000 has 1600), that interpolates between two of them, and the last
    sample of a chunk may differ by a millionth. As many phases as such rates have would cost a
    live stream a tenth of a second before it begins.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate = from_rate
        self.to_rate = to_rate
        self._taken = 0
        self._given = 0
        self._swr = None if from_rate == to_rate else _swr(from_rate, to_rate)

    @property
    def delay_seconds(self) -> float:
        """Seconds held back at most, once the first `TAPS` samples are in."""
        if self._swr is None:
            return 0.0
        return (TAPS / 2 + 1) / min(self.from_rate, self.to_rate)

    def push(self, samples: Samples) -> Samples:
        """Take samples at `from_rate` and return those at `to_rate` that have become final."""
        self._taken += samples.size
        if self._swr is None or not samples.size:
            return samples
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, np.float32)[None], "flt", "mono"
        )
        frame.sample_rate = self.from_rate
        return self._collect(frame)

    def flush(self) -> Samples:
        """End the input and return the remaining samples. The object is spent afterwards."""
        if self._swr is None:
            return EMPTY
        rest = self._collect(None) if self._taken else EMPTY
        missing = resampled_length(self._taken, self.from_rate, self.to_rate) - self._given
        return np.concatenate((rest, np.zeros(missing, np.float32)))

    def _collect(self, frame: av.AudioFrame | None) -> Samples:
        assert self._swr is not None
        self._swr.push(frame)
        pieces = []
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                piece = self._swr.pull()
                assert isinstance(piece, av.AudioFrame)
                pieces.append(piece.to_ndarray()[0])
        if not pieces:
            return EMPTY
        due = resampled_length(self._taken, self.from_rate, self.to_rate) - self._given
        samples: Samples = np.concatenate(pieces).astype(np.float32, copy=False)[: max(0, due)]
        self._given += samples.size
        return samples


def _swr(from_rate: int, to_rate: int) -> Graph:
    """Return what `av.AudioResampler` makes, but without threads of its own: FFmpeg would start as
    many as there are cores, up to 16, which no filter of sound uses."""
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add("abuffer", sample_rate=str(from_rate), sample_fmt="flt", channel_layout="mono"),
        graph.add("aformat", sample_rates=str(to_rate), sample_fmts="flt", channel_layouts="mono"),
        graph.add("abuffersink"),
    ).configure()
    return graph
