"""From any file a user may hold to mono samples, pulled block by block while the file arrives."""

import itertools

from menura import errors
from menura.audio import mpeg, sniff
from menura.audio.ffmpeg import FfmpegReader, encrypted
from menura.audio.flac import BareFlac
from menura.audio.ogg import OggLink
from menura.audio.riff import PCM, PcmReader, WavFormat, open_wav
from menura.audio.screens import AacWithoutTags, screen_for
from menura.audio.source import Source, read_exactly, skip
from menura.audio.upload import Upload
from menura.engine.interface import EMPTY, Samples

FILE_FORMATS = ("other", "pcm_s16le_16")
"""The values of the contract's `file_format`."""

_MOST_TAGS = 16
"""ID3 tags in a row; a few follow each other where programs append their own."""


class Decoder:
    """Blocks of mono samples from one file.

    sample_rate: Hz; stays the same even if the file changes its rate midway.

    The first block is read at once, so that a file without sound is refused when it is opened.
    """

    def __init__(self, reader: PcmReader | FfmpegReader) -> None:
        self._reader: PcmReader | FfmpegReader | None = reader
        try:
            self._first: Samples | None = reader.read()
            if not self._first.size:
                raise errors.InvalidAudio(
                    "The file holds no samples: its audio is empty or damaged.", param="audio"
                )
        except BaseException:
            self.close()
            raise
        self.sample_rate = reader.sample_rate

    def read(self) -> Samples:
        """Return the next block, empty at the end (and again after it)."""
        first, self._first = self._first, None
        if first is not None:
            return first
        return self._reader.read() if self._reader else EMPTY

    def close(self) -> None:
        """Free the decoder; the source stays open."""
        reader, self._reader = self._reader, None
        self._first = None
        if isinstance(reader, FfmpegReader):
            reader.close()


def open_decoder(source: Source, file_format: str = "other") -> Decoder:
    """Open a file for decoding; returns once its first samples are known.

    source: a binary file object; `read` may block and may return fewer bytes than asked, `seek`
    and `tell` work. It is read in order, except for an MP4 or Core Audio file whose index may be
    at its end.
    file_format: "other" (any file; its bytes tell which) or "pcm_s16le_16" (headerless signed
    16-bit little-endian mono samples at 16 kHz).

    Channels are mixed down by their mean. What a container declares as encoder delay or padding
    is left out. A truncated file ends where its decodable part ends.

    Raises InvalidAudio for a file that is empty, broken or without sound, InvalidAudioFormat for
    one that is no audio, and lets whatever `source` raises pass.
    """
    if file_format == "pcm_s16le_16":
        return Decoder(PcmReader(source, WavFormat(PCM, 1, 16_000, 16, 2)))
    if file_format != "other":
        raise ValueError(f"file_format must be one of {FILE_FORMATS}, not {file_format!r}")
    start, head = _head(source)
    kind = sniff.sniff(head)
    if kind is None:
        raise errors.InvalidAudio(
            f"The audio cannot be decoded: it begins with the bytes {head[:8].hex(' ')}, "
            "which no known kind of audio file does. Raw samples need a WAV header or, in requests "
            "that have it, file_format=pcm_s16le_16 (signed 16-bit, 16 kHz, mono).",
            param="audio",
        )
    if kind.demuxer is None:
        raise errors.InvalidAudioFormat(
            f"The file is {kind.label}, not an audio or video file that can be read.",
            param="audio",
        )
    # FFmpeg looks for the frame that tells the encoder's delay at the very beginning only.
    junk = sniff.junk_before_frames(head) if kind is sniff.MPEG_AUDIO else 0
    source.seek(start + junk)
    if kind is sniff.WAV:
        reader = open_wav(source)
        if reader is not None:
            return Decoder(reader)
        source.seek(start)
    if kind is sniff.WINDOWS_MEDIA and sniff.asf_is_encrypted(head):
        raise encrypted(kind)
    in_order = kind.demuxer != "caf" and (
        kind is not sniff.MP4 or sniff.mp4_index_first(head) is True
    )
    length = mpeg.mp3_length(head[junk:]) if kind is sniff.MPEG_AUDIO else None
    link = OggLink(source) if kind.demuxer == "ogg" else None
    if kind.demuxer == "flac":
        source = BareFlac(source)
    elif kind is sniff.ADTS:
        source = AacWithoutTags(source)
    upload = Upload(link or source, not in_order, screen_for(kind.demuxer))
    return Decoder(FfmpegReader(upload, kind, length, link))


def kind_of(source: Source) -> sniff.Kind | None:
    """Return what `open_decoder` takes a file for; `source` is left anywhere.

    Raises InvalidAudio for a file that is empty.
    """
    return sniff.sniff(_head(source)[1])


def _head(source: Source) -> tuple[int, bytes]:
    """Return where the file begins behind its ID3 tags, and its first bytes.

    No more bytes are waited for than it takes to recognise the kind.
    """
    start = source.tell()
    for tags in itertools.count():
        head = read_exactly(source, 16)
        tag = sniff.id3_size(head)
        if not tag:
            break
        if tags == _MOST_TAGS:
            raise errors.InvalidAudio(
                f"The file begins with more than {_MOST_TAGS} ID3 tags.", param="audio"
            )
        start += tag
        skip(source, tag - len(head))
        source.seek(min(start, source.tell()))
    if not head:
        raise errors.InvalidAudio("The audio is empty.", param="audio")
    for size in sniff.HEAD_SIZES:
        if sniff.is_enough(head):
            break
        more = read_exactly(source, size - len(head))
        head += more
        if not more:
            break
    return start, head
