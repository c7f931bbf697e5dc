"""Opus in Ogg, page by page."""

import io

import av
from av.audio.stream import AudioStream

from menura.audio.encoder import BlockEncoder
from menura.audio.formats import OutputFormat
from menura.engine.interface import Samples

_LOOK_AHEAD = 312
"""Samples at 48 kHz by which libopus is late: 6.5 ms."""


class _Sink(io.RawIOBase):
    """Collects what a muxer writes until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class OpusEncoder(BlockEncoder):
    """Opus in Ogg, a page for each 20 ms packet; the pages' positions make the length exact."""

    def __init__(self, output_format: OutputFormat, total: int | None) -> None:
        super().__init__(output_format, total, output_format.sample_rate // 50)
        self.delay = 2 * self._block + _LOOK_AHEAD
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            "w",
            format="ogg",
            container_options={
                "page_duration": "20000",
                "flush_packets": "1",
                "fflags": "+bitexact",
            },
        )
        stream = self._container.add_stream(
            "libopus",
            rate=output_format.sample_rate,
            options={"frame_duration": "20", "vbr": "constrained", "application": "audio"},
            layout="mono",
            format="flt",
            bit_rate=output_format.bit_rate,
        )
        assert isinstance(stream, AudioStream)
        self._stream = stream

    def _encode(self, block: Samples) -> bytes:
        self._container.mux(self._stream.encode(self._frame(block, "flt")))
        return self._sink.take()

    def finish(self) -> bytes:
        self._end()
        self._container.start_encoding()
        rest = self._encode(self._pending) if self._pending.size else b""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return rest + self._sink.take()
