"""Codecs: how soon a decoder gives its first sample, what encoders hold back, what it all costs.

Files are made of `examples/` with PyAV. Costs are processor time, so that a busy machine does
not change them much.
"""

import io
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream

from benchmarks.recordings import EXAMPLES, recorded
from benchmarks.report import Report
from menura.audio.decode import open_decoder
from menura.audio.encode import open_encoder
from menura.audio.formats import find_format
from menura.audio.resample import FULL_QUALITY, LOW_DELAY_QUALITY, Quality, Resampler
from menura.engine.interface import Samples

FILES: tuple[tuple[str, str, str, int, int, dict[str, str]], ...] = (
    ("wav", "wav", "pcm_s16le", 44100, 2, {}),
    ("mp3", "mp3", "libmp3lame", 44100, 2, {}),
    ("m4a, index at the end", "ipod", "aac", 44100, 2, {}),
    ("m4a, index in front", "mp4", "aac", 44100, 2, {"movflags": "+faststart"}),
    ("mp4, fragments", "mp4", "aac", 44100, 2, {"movflags": "frag_every_frame+empty_moov"}),
    ("aac (ADTS)", "adts", "aac", 44100, 2, {}),
    ("ogg opus", "ogg", "libopus", 48000, 1, {"page_duration": "20000"}),
    ("ogg vorbis", "ogg", "vorbis", 44100, 2, {}),
    ("webm opus", "webm", "libopus", 48000, 1, {"live": "1"}),
    ("flac", "flac", "flac", 44100, 1, {}),
    ("wma", "asf", "wmav2", 44100, 2, {}),
    ("amr", "amr", "libopencore_amrnb", 8000, 1, {}),
    ("aiff", "aiff", "pcm_s16be", 44100, 2, {}),
)
ENCODERS = ("mp3_44100_128", "mp3_22050_32", "opus_48000_64", "pcm_44100", "ulaw_8000")
RESAMPLERS: tuple[tuple[int, int, Quality], ...] = tuple(
    (*rates, quality)
    for quality in (FULL_QUALITY, LOW_DELAY_QUALITY)
    for rates in ((44100, 24000), (48000, 24000), (16000, 24000), (24000, 44100), (24000, 48000))
)


class Trickle(io.BytesIO):
    """A source that gives 20 ms of file at a time and notes how far it was read."""

    def __init__(self, data: bytes, piece: int) -> None:
        super().__init__(data)
        self._piece = piece
        self.furthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._piece if size is None or size < 0 else min(size, self._piece)
        data = super().read(wanted)
        self.furthest = max(self.furthest, self.tell())
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == io.SEEK_END:
            self.furthest = len(self.getbuffer())
        return super().seek(offset, whence)


def speech(sample_rate: int, seconds: float) -> Samples:
    """Return the example recording at a rate, repeated to a length."""
    samples = recorded(EXAMPLES / "speech_male.wav", sample_rate)
    return np.resize(samples, int(seconds * sample_rate))


def make(
    container: str, codec: str, rate: int, channels: int, options: dict[str, str], samples: Samples
) -> bytes:
    """Return a file of the samples."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with av.open(str(path), "w", format=container, options=options) as output:
            layout = "mono" if channels == 1 else "stereo"
            stream = output.add_stream(
                codec, rate=rate, layout=layout, options={"strict": "-2"}, bit_rate=_bits(codec)
            )
            assert isinstance(stream, AudioStream)
            resampler = av.AudioResampler(stream.format, layout, rate)
            for at in range(0, samples.size, 1024):
                frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], "flt", "mono")
                frame.sample_rate, frame.pts = rate, at
                for converted in resampler.resample(frame):
                    output.mux(stream.encode(converted))
            output.mux(stream.encode(None))
        return path.read_bytes()


def _bits(codec: str) -> int:
    return 12_200 if "amrnb" in codec else 128_000


def decoders(report: Report, quick: bool) -> None:
    """Upload needed before the first sample, and processor time for each second of audio."""
    seconds = 10 if quick else 60
    for label, container, codec, rate, channels, options in FILES:
        data = make(container, codec, rate, channels, options, speech(rate, seconds))
        piece = max(1, round(len(data) * 0.02 / seconds))
        source = Trickle(data, piece)
        open_decoder(source).close()
        needed = 1000 * seconds * source.furthest / len(data)
        begun = time.process_time()
        decoder = open_decoder(io.BytesIO(data))
        while decoder.read().size:
            pass
        cost = 1000 * (time.process_time() - begun) / seconds
        report.add(f"decode {label}: upload before the first sample", needed, "ms")
        report.add(f"decode {label}: cost of a second", cost, "ms")


def encoders(report: Report, quick: bool) -> None:
    """Audio taken before the first bytes, the stated delay, and the cost."""
    seconds = 10 if quick else 60
    for name in ENCODERS:
        output_format = find_format(name)
        assert output_format is not None
        rate = output_format.sample_rate
        samples = speech(rate, seconds)
        encoder = open_encoder(output_format)
        begun = time.process_time()
        first = None
        size = 0
        for at in range(0, samples.size, rate // 100):
            size += len(encoder.push(samples[at : at + rate // 100]))
            if first is None and size > len(encoder.header):
                first = 1000 * (at + rate // 100) / rate
        encoder.finish()
        cost = 1000 * (time.process_time() - begun) / seconds
        report.add(f"encode {name}: audio before the first audio bytes", first or 0, "ms")
        report.add(f"encode {name}: stated delay", 1000 * encoder.delay / rate, "ms")
        report.add(f"encode {name}: cost of a second", cost, "ms")


def resamplers(report: Report, quick: bool) -> None:
    """Delay and cost of changing the rate, by quality."""
    seconds = 10 if quick else 60
    for from_rate, to_rate, quality in RESAMPLERS:
        samples = speech(from_rate, seconds)
        stage = Resampler(from_rate, to_rate, quality)
        begun = time.process_time()
        for at in range(0, samples.size, from_rate // 50):
            stage.push(samples[at : at + from_rate // 50])
        stage.flush()
        cost = 1000 * (time.process_time() - begun) / seconds
        label = f"resample {from_rate} to {to_rate}, {quality}"
        report.add(f"{label}: delay", 1000 * stage.delay / to_rate, "ms")
        report.add(f"{label}: cost of a second", cost, "ms")


SUITE = [decoders, encoders, resamplers]
