"""Any file a user may hold to mono samples, pulled block by block while it still arrives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from menura import errors
from menura.audio import sniff
from menura.audio.level import mono, to_float
from menura.audio.resample import Resampler
from menura.audio.riff import (
    PCM,
    PcmReader,
    Source,
    WavFormat,
    check_shape,
    open_wav,
    read_exactly,
)
from menura.engine.interface import Samples

FILE_FORMATS = ("other", "pcm_s16le_16")
"""The values of the contract's `file_format`."""

_READ_SIZE = 8192
_MAX_FRAME_SAMPLES = 1 << 20

_SAMPLE_TYPES = {
    "u8": "u1",
    "s16": "i2",
    "s32": "i4",
    "s64": "i8",
    "flt": "f4",
    "dbl": "f8",
}

_AUDIO_DECODERS = ",".join(
    sorted(
        name
        for name in av.codecs_available
        if name.startswith(("pcm_", "adpcm_", "wma", "aac", "mp3", "mp2", "mp1", "amr", "opus"))
        or name
        in {
            "ac3", "alac", "ape", "cook", "dca", "eac3", "flac", "g723_1", "g729", "gsm", "gsm_ms",
            "ilbc", "mpc7", "mpc8", "nellymoser", "qcelp", "qdm2", "ra_144", "ra_288", "ralf",
            "sipr", "speex", "tta", "vorbis", "wavpack", "libopencore_amrnb",
            "libopencore_amrwb", "mace3", "mace6", "truehd", "mlp",
        }
    )
)  # fmt: skip

_ASF_ENCRYPTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
_ENCRYPTED_TAGS = ("enca", "encv", "drms")


class Decoder(Protocol):
    """Blocks of mono samples from one file."""

    @property
    def sample_rate(self) -> int:
        """Hz; stays the same even if the file changes its rate midway."""
        ...

    def read(self) -> Samples:
        """Return the next block, empty at the end (and again after it)."""
        ...

    def close(self) -> None:
        """Free the decoder; the source stays open."""
        ...


def open_decoder(source: Source, file_format: str = "other") -> Decoder:
    """Open a file for decoding; returns once its first samples are known.

    source: a binary file object; `read` may block and may return fewer bytes than asked, `seek`
    and `tell` work. It is read in order, except for an MP4 or CAF file whose index is at its end.
    file_format: "other" (any file; its bytes tell which) or "pcm_s16le_16" (headerless signed
    16-bit little-endian mono samples at 16 kHz).

    Channels are mixed down by their mean. What a container declares as encoder delay or padding
    is left out. A truncated file ends where its decodable part ends.

    Raises InvalidAudio for a file that is empty, broken or without sound, InvalidAudioFormat for
    one that is no audio, and lets whatever `source` raises pass.
    """
    if file_format == "pcm_s16le_16":
        return _Checked(PcmReader(source, WavFormat(PCM, 1, 16_000, 16, 2)))
    if file_format != "other":
        raise ValueError(f"file_format must be one of {FILE_FORMATS}, not {file_format!r}")
    start = source.tell()
    head = read_exactly(source, 16)
    while tag := sniff.id3_size(head):
        start += tag
        _pass(source, tag - len(head))
        source.seek(min(start, source.tell()))
        head = read_exactly(source, 16)
    if not head:
        raise _empty()
    kind = sniff.sniff(head)
    if kind is None or kind in (sniff.MP4, sniff.MPEG_AUDIO, sniff.ADTS) or kind.demuxer is None:
        head += read_exactly(source, sniff.HEAD_SIZE - len(head))
        kind = sniff.sniff(head)
    source.seek(start)
    if kind is None:
        raise errors.InvalidAudio(
            f"The audio cannot be decoded: it begins with the bytes {head[:8].hex(' ')}, "
            "which no known kind of audio file does.",
            param="audio",
        )
    if kind.demuxer is None:
        raise errors.InvalidAudioFormat(
            f"The file is {kind.label}, not an audio or video file that can be read.",
            param="audio",
        )
    if kind is sniff.WAV:
        reader = open_wav(source)
        if reader is not None:
            return _Checked(reader)
        source.seek(start)
    seekable = kind.demuxer == "caf" or (kind is sniff.MP4 and not sniff.mp4_index_first(head))
    return _Checked(_FfmpegDecoder(_Upload(source, start, seekable), kind))


def _empty() -> errors.InvalidAudio:
    return errors.InvalidAudio("The audio is empty.", param="audio")


def _pass(source: Source, size: int) -> None:
    while size > 0:
        passed = len(source.read(min(size, 65536)))
        if not passed:
            return
        size -= passed


class _Blocks(Protocol):
    sample_rate: int

    def read(self) -> Samples: ...


class _Checked:
    """A decoder that holds its first block, so that a file without sound is refused at once."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks: _Blocks | None = blocks
        try:
            self._first: Samples | None = blocks.read()
        except BaseException:
            self.close()
            raise
        if not self._first.size:
            self.close()
            raise errors.InvalidAudio(
                "The file holds no samples: its audio is empty or damaged.", param="audio"
            )
        self.sample_rate = blocks.sample_rate

    def read(self) -> Samples:
        first, self._first = self._first, None
        if first is not None:
            return first
        return self._blocks.read() if self._blocks else np.zeros(0, np.float32)

    def close(self) -> None:
        blocks, self._blocks = self._blocks, None
        if isinstance(blocks, _FfmpegDecoder):
            blocks.close()


class _Upload:
    """The source as FFmpeg sees it, from `start` on.

    An exception of the source is kept and told to FFmpeg as the end of the file: FFmpeg may go
    on reading after an error, and only one can be in flight through it.
    """

    name = ""

    def __init__(self, source: Source, start: int, seekable: bool) -> None:
        self.failure: BaseException | None = None
        self._source = source
        self._start = start
        self._seekable = seekable

    def read(self, size: int) -> bytes:
        if self.failure is not None:
            return b""
        try:
            return self._source.read(size)[:size]
        except BaseException as failure:
            self.failure = failure
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.failure is not None:
            return -1
        try:
            return self._source.seek(offset + (self._start if whence == 0 else 0), whence) - (
                self._start
            )
        except ValueError:
            return -1
        except BaseException as failure:
            self.failure = failure
            return -1

    def tell(self) -> int:
        return self._source.tell() - self._start

    def rewind(self) -> None:
        self._source.seek(self._start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable


class _FfmpegDecoder:
    """FFmpeg's demuxers and decoders, as far as `_AUDIO_DECODERS`, without any outside access."""

    def __init__(self, upload: _Upload, kind: sniff.Kind) -> None:
        self.sample_rate = 0
        self._upload = upload
        self._kind = kind
        self._container: InputContainer | None = None
        self._resampler: Resampler | None = None
        self._resampled_rate = 0
        try:
            stream = self._open(quick=True)
            if stream is None:
                self.close()
                upload.rewind()
                stream = self._open(quick=False)
            if stream is None:
                raise errors.InvalidAudio(
                    f"The file is {kind.label} without a sound track that can be read.",
                    param="audio",
                )
            self._check_stream(stream)
        except BaseException:
            self.close()
            raise
        self._frames = self._decode(stream)

    def read(self) -> Samples:
        for frame in self._frames:
            block = self._at_first_rate(_mono(frame), frame.sample_rate)
            if block.size:
                return block
        resampler, self._resampler = self._resampler, None
        return resampler.flush() if resampler else np.zeros(0, np.float32)

    def close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _open(self, quick: bool) -> AudioStream | None:
        options = {
            "protocol_whitelist": "none",
            "format_whitelist": f"{self._kind.demuxer}",
            "codec_whitelist": _AUDIO_DECODERS,
            "skip_estimate_duration_from_pts": "1",
            "max_samples": str(_MAX_FRAME_SAMPLES),
        }
        if quick:
            options |= {"probesize": "4096", "analyzeduration": "100000"}
        with self._translated():
            self._container = av.open(
                self._upload,
                "r",
                format=self._kind.demuxer,
                options=options,
                metadata_errors="replace",
                buffer_size=_READ_SIZE,
            )
            candidates = [
                stream
                for stream in self._container.streams.audio
                if stream.codec_context is not None
            ]
            for stream in candidates:
                if stream.codec_context.sample_rate and stream.codec_context.channels:
                    return stream
            return None if quick or not candidates else candidates[0]

    def _check_stream(self, stream: AudioStream) -> None:
        context = stream.codec_context
        if context.codec_tag in _ENCRYPTED_TAGS:
            raise _encrypted(self._kind)
        if context.sample_rate:
            check_shape(context.sample_rate, context.channels or 1)
        context.thread_count = 1

    def _decode(self, stream: AudioStream) -> Iterator[AudioFrame]:
        container = self._container
        assert container is not None
        packets = container.demux(stream)
        while True:
            try:
                with self._translated():
                    packet = next(packets, None)
            except errors.InvalidAudio:
                packet = None
                yield from self._flush(stream)
            if packet is None:
                return
            if packet.has_sidedata("encryption_info"):
                raise _encrypted(self._kind)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from frames

    def _flush(self, stream: AudioStream) -> Iterator[AudioFrame]:
        try:
            yield from stream.codec_context.decode(None)
        except av.error.FFmpegError:
            return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Let the source's own exceptions pass and turn FFmpeg's into InvalidAudio."""
        try:
            yield
        except (av.error.FFmpegError, ValueError) as error:
            if self._upload.failure is not None:
                raise self._upload.failure from None
            raise errors.InvalidAudio(
                f"The audio cannot be decoded: it looks like {self._kind.label} but is damaged "
                "or incomplete.",
                param="audio",
            ) from error
        if self._upload.failure is not None:
            raise self._upload.failure

    def _at_first_rate(self, samples: Samples, rate: int) -> Samples:
        check_shape(rate, 1)
        if not self.sample_rate:
            self.sample_rate = rate
        if rate == (self._resampled_rate or self.sample_rate):
            return self._resampler.push(samples) if self._resampler else samples
        before, self._resampler = self._resampler, None
        self._resampled_rate = rate
        rest = before.flush() if before else np.zeros(0, np.float32)
        if rate != self.sample_rate:
            self._resampler = Resampler(rate, self.sample_rate)
            samples = self._resampler.push(samples)
        return np.concatenate((rest, samples))


def _encrypted(kind: sniff.Kind) -> errors.InvalidAudio:
    return errors.InvalidAudio(
        f"The file is {kind.label} that is encrypted or copy-protected.", param="audio"
    )


def _mono(frame: AudioFrame) -> Samples:
    """Return a frame's samples, mixed down.

    By hand: PyAV's `to_ndarray` knows no 64-bit integers and reads past the planes of a frame
    with exactly eight of them.
    """
    channels = frame.layout.nb_channels
    check_shape(frame.sample_rate, channels)
    kind = np.dtype(_SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    if not frame.format.is_planar:
        values = np.frombuffer(memoryview(frame.planes[0]), kind, frame.samples * channels)
        return mono(to_float(values.reshape(-1, channels)))
    total = np.zeros(frame.samples, np.float32)
    for plane in frame.planes[:channels]:
        total += to_float(np.frombuffer(memoryview(plane), kind, frame.samples))
    return total / np.float32(channels) if channels > 1 else total
