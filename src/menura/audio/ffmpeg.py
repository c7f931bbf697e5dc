"""Decoding by FFmpeg, without any access to other files or the network."""

from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition

from menura import errors
from menura.audio import limits, sniff
from menura.audio.frames import Block, cut_to_track, mono_frame
from menura.audio.layouts import guarded
from menura.audio.ogg import MAX_LINKS, OggLink
from menura.audio.packets import apart
from menura.audio.padding import PaddingCutter
from menura.audio.shape import check_shape, plausible_shape
from menura.audio.steady_rate import SteadyRate
from menura.audio.timeline import Timeline
from menura.audio.upload import Upload
from menura.engine.interface import EMPTY, Samples

limits.limit_allocations()

_READ_SIZE = 4096
"""Bytes that FFmpeg asks for at a time: what it has asked for must have arrived."""

_DECODER_FAMILIES = (
    "aac", "ac3", "adpcm_", "alac", "amr", "ape", "cook", "dca", "eac3", "flac", "gsm",
    "libopencore", "mp1", "mp2", "mp3", "mpc", "nellymoser", "opus", "pcm_", "qcelp", "qdm2",
    "ralf", "real_", "sipr", "speex", "tta", "vorbis", "wavpack", "wma",
)  # fmt: skip
_DECODERS = frozenset(name for name in av.codecs_available if name.startswith(_DECODER_FAMILIES))

_OPTIONS = {
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(_DECODERS)),
    "skip_estimate_duration_from_pts": "1",
    "max_samples": str(limits.MAX_FRAME_SAMPLES),
}
_QUICK_OPTIONS = {"probesize": "4096", "analyzeduration": "100000"}
_PATIENT_OPTIONS = {"probesize": "500000"}
"""FFmpeg's own 5 MB may be a million packets held in memory."""
_MOST_PATIENT_OPTIONS = {"probesize": "2000000"}
_TRACKS_FOUND_LATE = ("flv", "mpeg", "mpegts")
"""Demuxers of files that list no tracks at their beginning."""

_TIMESTAMPS_TRUSTED = ("matroska", "mov")
"""Demuxers of files whose timestamps say where sound is missing; others only count samples."""
_SILENCE_SIZE = 65_536
"""Samples of silence given at a time; a gap may be an hour."""
_PIECES_A_SECOND = 4

_ENCRYPTED_TAGS = ("enca", "encv", "drms")
"""Codec tags of protected MP4 tracks."""


class FfmpegReader:
    """Blocks of mono samples of the first sound track.

    length: samples that the file says it has without the encoder's padding, None if it does not.
    link: what `upload` reads if that is a chained file; the reader moves it on.

    Raises InvalidAudio (or InvalidAudioFormat) and whatever the source raises.
    """

    def __init__(
        self,
        upload: Upload,
        kind: sniff.Kind,
        length: int | None = None,
        link: OggLink | None = None,
    ) -> None:
        self._upload = upload
        self._kind = kind
        self._max_tracks = limits.max_tracks(kind.demuxer or "")
        self._link = link
        self._barren = 0
        self._container: InputContainer | None = None
        self._steady = SteadyRate()
        self._cutter = PaddingCutter(length)
        upload.be_patient()
        try:
            self._blocks = self._at_one_rate(self._find_sound())
        except BaseException:
            self.close()
            raise

    @property
    def sample_rate(self) -> int:
        """Hz, known after the first block."""
        return self._steady.sample_rate

    def read(self) -> Samples:
        """Return the next block, empty at the end."""
        self._upload.be_patient()
        return next((block for block in self._blocks if block.size), EMPTY)

    def close(self) -> None:
        """Free what FFmpeg holds."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _find_sound(self) -> AudioStream:
        """Open the file and return its sound track."""
        stream = self._open_quickly()
        if stream is None:
            self.close()
            self._upload.rewind(seekable=self._kind.demuxer == "aiff")
            late = self._kind.demuxer in _TRACKS_FOUND_LATE
            stream = self._open(_MOST_PATIENT_OPTIONS if late else _PATIENT_OPTIONS)
        if stream is None:
            raise self._without_sound()
        return stream

    def _open_quickly(self) -> AudioStream | None:
        try:
            return self._open(_QUICK_OPTIONS)
        except errors.InvalidAudio:
            # An AIFF file may say behind its samples what they are.
            if self._upload.failure is None and self._kind.demuxer == "aiff":
                return None
            raise

    def _open(self, options: dict[str, str]) -> AudioStream | None:
        """Open the file and return its sound track, None if none was seen."""
        demuxer = self._kind.demuxer or ""
        # Matroska's takes a track too many for the end of the file; the one that it may open here
        # tells. MP4's refuses by itself, and here would hold one more index.
        seen = self._max_tracks + (self._kind is not sniff.MP4)
        bounds = {"format_whitelist": demuxer, "max_streams": str(seen)}
        self._upload.opening = True
        with self._translated():
            self._container = av.open(
                self._upload,
                "r",
                format=demuxer,
                options=_OPTIONS | bounds | options,
                metadata_errors="replace",
                buffer_size=_READ_SIZE,
            )
        self._upload.opening = False
        if len(self._container.streams) > self._max_tracks:
            raise self._too_many_tracks()
        for stream in self._container.streams.audio:
            context: AudioCodecContext | None = stream.codec_context
            if context is None or context.name not in _DECODERS:
                continue
            if _tag(context) in _ENCRYPTED_TAGS:
                raise encrypted(self._kind)
            if not context.sample_rate and options is _QUICK_OPTIONS:
                continue
            channels, custom = guarded(context.layout)
            if custom:
                context.layout = f"{channels} channels"
            if context.sample_rate:
                check_shape(context.sample_rate, channels or 1)
            context.thread_count = 1
            context.options = {"max_samples": str(limits.MAX_FRAME_SAMPLES)}
            return stream
        return None

    def _too_many_tracks(self) -> errors.InvalidAudio:
        return errors.InvalidAudio(
            f"The file is {self._kind.label} with more than {self._max_tracks} tracks, "
            "the most that is accepted.",
            param="audio",
        )

    def _without_sound(self) -> errors.InvalidInput:
        streams = self._container.streams if self._container else ()
        kinds = {stream.type for stream in streams}
        if "audio" in kinds:
            return errors.InvalidAudioFormat(
                f"The file is {self._kind.label} whose sound is in a codec that cannot be read.",
                param="audio",
            )
        what = "with a picture but without a sound track" if "video" in kinds else "without sound"
        return errors.InvalidAudio(f"The file is {self._kind.label} {what}.", param="audio")

    def _at_one_rate(self, stream: AudioStream) -> Iterator[Samples]:
        """Yield the sound at the rate of its beginning, without padding.

        A frame may be minutes long, and become hundreds of times as large at another rate.
        """
        for samples, rate in self._decode_links(stream):
            size = rate // _PIECES_A_SECOND
            for at in range(0, samples.size, size):
                yield self._cutter.push(self._steady.push(samples[at : at + size], rate))
        yield self._cutter.push(self._steady.flush())

    def _decode_links(self, stream: AudioStream) -> Iterator[tuple[Samples, int]]:
        """Yield the blocks of every link. One that has no sound or is damaged is left out."""
        yield from self._decode(stream)
        links = 1
        while self._link is not None and self._link.go_on():
            links += 1
            if links > MAX_LINKS:
                raise errors.InvalidAudio(
                    f"The file is {self._kind.label} of more than {MAX_LINKS} chained streams, "
                    "the most that is accepted.",
                    param="audio",
                )
            self.close()
            self._upload.begin_here()
            try:
                stream = self._find_sound()
            except (errors.InvalidAudio, errors.InvalidAudioFormat):
                if self._upload.failure is not None:
                    raise
                continue
            yield from self._decode(stream)

    def _decode(self, stream: AudioStream) -> Iterator[tuple[Samples, int]]:
        """Yield blocks and their rates. What cannot be decoded is left out."""
        if self._kind.demuxer not in _TIMESTAMPS_TRUSTED:
            for block in self._decode_packets(stream):
                yield block.samples, block.rate
            return
        timeline = Timeline(self._beginning())
        for block in self._decode_packets(stream):
            due = timeline.silence_before(block.start, block.samples.size, block.rate)
            for at in range(0, due, _SILENCE_SIZE):
                yield np.zeros(min(_SILENCE_SIZE, due - at), np.float32), block.rate
            yield block.samples, block.rate

    def _beginning(self) -> float | None:
        """Return the second at which a file with a picture begins; None for any other."""
        container = self._container
        assert container is not None
        pictures = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not pictures or container.start_time is None:
            return None
        return container.start_time / av.time_base

    def _decode_packets(self, stream: AudioStream) -> Iterator[Block]:
        """Yield the track's blocks.

        An MP4 file says at its end how much of the last packet is padding, so there a packet
        waits for the next.
        """
        waiting: Packet[AudioStream] | None = None
        given = 0
        for packet in self._packets(stream):
            for block in self._decoded(stream, waiting) if waiting else ():
                given += block.samples.size
                yield block
            if self._kind is sniff.MP4:
                waiting = packet
            else:
                yield from self._decoded(stream, packet)
        if waiting is not None:
            yield from cut_to_track(self._decoded(stream, waiting), waiting, given)
        yield from self._decoded(stream, None)

    def _packets(self, stream: AudioStream) -> "Iterator[Packet[AudioStream]]":
        container = self._container
        assert container is not None
        packets = container.demux(stream)
        while True:
            try:
                with self._translated():
                    packet = next(packets, None)
            except errors.InvalidAudio as error:
                if error is self._upload.failure:
                    raise
                late = self._kind.demuxer in _TRACKS_FOUND_LATE
                if late and isinstance(error.__cause__, av.error.MemoryError):
                    raise self._too_many_tracks() from error
                packet = None
            if packet is None or not packet.size:
                return
            if packet.has_sidedata("encryption_info"):
                raise encrypted(self._kind)
            yield from apart(packet, stream.codec_context.name)

    def _decoded(self, stream: AudioStream, packet: "Packet[AudioStream] | None") -> list[Block]:
        """Return a packet's blocks; None makes the decoder give all it has."""
        try:
            frames = stream.codec_context.decode(packet)
        except (av.error.FFmpegError, ValueError):
            frames = []
        channels = [guarded(frame.layout)[0] for frame in frames]
        blocks = [
            Block(mono_frame(frame), frame.sample_rate, frame.time if packet else None)
            for frame, count in zip(frames, channels, strict=True)
            if plausible_shape(frame.sample_rate, count)
        ]
        self._barren = 0 if blocks or packet is None else self._barren + 1
        if self._barren > limits.MAX_BARREN:
            raise errors.InvalidAudio(
                f"The file is {self._kind.label} in which {limits.MAX_BARREN} packets in a row "
                "hold no sound.",
                param="audio",
            )
        return blocks

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Let the source's own exceptions pass and turn FFmpeg's into InvalidAudio.

        PyAV raises IndexError at the end of a file that begins another track midway.
        """
        try:
            yield
        except (av.error.FFmpegError, ValueError, IndexError) as error:
            if self._upload.failure is not None:
                raise self._upload.failure from None
            reason = "is damaged or incomplete"
            if isinstance(error, av.error.MemoryError):
                reason = f"has more than {self._max_tracks} tracks, or an index that is too large"
            raise errors.InvalidAudio(
                f"The audio cannot be decoded: it looks like {self._kind.label} but {reason}.",
                param="audio",
            ) from error
        if self._upload.failure is not None:
            raise self._upload.failure


def encrypted(kind: sniff.Kind) -> errors.InvalidAudio:
    """Return the refusal of a file that is protected."""
    return errors.InvalidAudio(
        f"The file is {kind.label} that is encrypted or copy-protected.", param="audio"
    )


def _tag(context: AudioCodecContext) -> str:
    """Return the container's four letters for the codec, empty when they are no letters."""
    try:
        return context.codec_tag
    except UnicodeDecodeError:
        return ""
