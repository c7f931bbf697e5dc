"""What is no audio is called by its name."""

import gzip
import io
import tarfile
import zipfile

import pytest

from menura import errors
from menura.audio import sniff
from menura.audio.decode import open_decoder


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("voice.wav", b"RIFF")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("voice.wav"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"speech.wav", r"text \('speech.wav'\)"),
        ("Grüße aus Köln, ça va?".encode(), "text"),
        ("text of another kind".encode("utf-16"), "text"),
        (b"x" * 100_000, "text"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html></html>", "web page"),
        (b'<?xml version="1.0"?><svg></svg>', "SVG"),
        (b'{"audio": "aGVsbG8="}', "JSON"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nhttp://127.0.0.1/secret.ts\n", "playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=audio 5004 RTP/AVP 0\r\n", "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(50), "JPEG"),
        (b"GIF89a" + bytes(50), "GIF"),
        (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(50), "WebP"),
        (b"\0\0\0\x20ftypavif" + bytes(50), "AVIF"),
        (b"BM" + bytes(60), "BMP"),
        (b"%PDF-1.7\n" + bytes(50), "PDF"),
        (zipped(), "ZIP"),
        (tarred(), "TAR"),
        (gzip.compress(b"voice", mtime=0), "gzip"),
        (b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0MTrk", "MIDI"),
        (b"RIFF\x24\0\0\0RMIDdata" + bytes(50), "MIDI"),
        (b"\x7fELF" + bytes(50), "program"),
        (b"SQLite format 3\0" + bytes(50), "SQLite"),
        (b"Salted__" + bytes(range(64)), "encrypted"),
    ],
)
def test_what_is_no_audio_is_named(data: bytes, words: str) -> None:
    with pytest.raises(errors.InvalidAudioFormat, match=words) as caught:
        open_decoder(io.BytesIO(data))
    assert caught.value.param == "audio"


@pytest.mark.parametrize(
    "data", [bytes(1000), b"\x01\x02\x03", bytes(range(200, 256)) * 40, b"\xff"]
)
def test_unknown_bytes_are_shown(data: bytes) -> None:
    with pytest.raises(errors.InvalidAudio, match=data[:3].hex(" ")):
        open_decoder(io.BytesIO(data))


def test_nothing_is_called_empty() -> None:
    with pytest.raises(errors.InvalidAudio, match="empty"):
        open_decoder(io.BytesIO(b""))


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"OggS",
        b"fLaC",
        b"\x1a\x45\xdf\xa3",
        b"\0\0\0\x20ftypM4A ",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        b"FLV\x01",
        b"caff",
        b"FORM\0\0\0\x04AIFF",
        b"ID3\x04\0\0\0\0\0\x05hello",
        b"\xff\xfb\x90\x00",
    ],
)
def test_a_header_alone_is_no_audio(data: bytes) -> None:
    for tail in (b"", bytes(10), bytes(5000)):
        with pytest.raises(errors.InvalidAudio):
            open_decoder(io.BytesIO(data + tail))


def test_words_that_look_like_boxes_are_text() -> None:
    with pytest.raises(errors.InvalidAudioFormat, match="text"):
        open_decoder(io.BytesIO(b"The free world is here to stay."))


def test_no_demuxer_that_opens_other_files_is_ever_named() -> None:
    kinds = [kind for _, _, kind in sniff._MAGICS]
    named = {kind.demuxer for kind in kinds if kind.demuxer}
    assert not named & {"hls", "dash", "concat", "image2", "sdp", "rtsp", "lavfi", "tty", "imf"}


def test_the_place_of_an_mp4_index() -> None:
    def box(name: bytes, size: int) -> bytes:
        return size.to_bytes(4) + name + bytes(size - 8)

    assert sniff.mp4_index_first(box(b"ftyp", 24) + box(b"free", 8) + box(b"moov", 99))
    assert sniff.mp4_index_first(box(b"ftyp", 24) + box(b"sidx", 40))
    assert sniff.mp4_index_first(box(b"ftyp", 24) + box(b"mdat", 99)) is False
    assert sniff.mp4_index_first(box(b"ftyp", 24) + bytes(8)) is False
    assert sniff.mp4_index_first(box(b"ftyp", 24) + box(b"free", 99)[:20]) is None
