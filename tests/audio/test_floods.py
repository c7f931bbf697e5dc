"""Small files that would take FFmpeg gigabytes, or minutes in which nothing can stop it."""

import io
import struct
import zlib

import av
import numpy as np
import pytest
from av.packet import Packet
from tests.audio.files import id3, make_file, sweep, synchsafe
from tests.audio.reading import Trickle, read
from tests.audio.test_limits import box, inner, numbers, peak_megabytes

from menura import errors
from menura.audio.decode import open_decoder
from menura.audio.ogg import OggLink, _checksum
from menura.audio.screens import AacWithoutTags

SECOND = sweep(44_100, 44_100)
MANY = 200_000
"""Comments: FFmpeg takes ten minutes to compare each with all before it."""


def comments(count: int) -> bytes:
    """Return a block of Vorbis comments without two of one name."""
    parts = [struct.pack("<I", 0), struct.pack("<I", count)]
    for at in range(count):
        text = b"%x=1" % at
        parts.append(struct.pack("<I", len(text)) + text)
    return b"".join(parts)


def block(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3) + body


def crc(data: bytes, bits: int, polynomial: int) -> bytes:
    value, top = 0, 1 << bits - 1
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 & 2 * top - 1) ^ (polynomial if value & top else 0)
    return value.to_bytes(bits // 8)


def flac_frame(number: int, samples: int, rate: int) -> bytes:
    """Return a frame of one channel of one value: a dozen bytes, whatever its length."""
    kind, shown = (13, rate) if rate < 65_536 else (14, rate // 10)
    count = chr(number).encode()
    head = b"\xff\xf8" + bytes([7 << 4 | kind, 4 << 1]) + count
    head += struct.pack(">HH", samples - 1, shown)
    head += crc(head, 8, 7)
    whole = head + b"\0\0\5"
    return whole + crc(whole, 16, 0x8005)


def flac(rates: list[int], samples: int = 65_535) -> bytes:
    info = struct.pack(">HH", samples, samples) + bytes(6)
    info += (rates[0] << 44 | 15 << 36).to_bytes(8) + bytes(16)
    frames = [flac_frame(number, samples, rate) for number, rate in enumerate(rates)]
    return b"fLaC" + block(0x80, info) + b"".join(frames)


def heaped(container: str, codec: str, frames: int, folder) -> bytes:
    """Return a file of silence whose third packet holds the last frame so many times."""
    path = folder / "heaped"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=44_100, layout="mono")
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        packets = []
        for at in range(6):
            frame = av.AudioFrame(stream.format.name, "mono", size)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts = 44_100, at * size
            packets += stream.encode(frame)
        last = Packet(bytes(packets[2]) * frames)
        last.stream, last.time_base = stream, packets[2].time_base
        last.pts = last.dts = packets[2].pts
        file.mux([*packets[:2], last])
    return path.read_bytes()


@pytest.mark.parametrize("container", ["matroska", "mp4", "ogg"])
def test_frames_heaped_in_one_packet_are_held_one_by_one(tmp_path, container: str) -> None:
    data = heaped(container, "flac", 20_000, tmp_path)
    assert len(data) < 300_000
    before = peak_megabytes()
    decoder = open_decoder(io.BytesIO(data))
    size = 0
    while (samples := decoder.read()).size:
        size += samples.size
    decoder.close()
    assert size == 20_002 * 4608
    assert peak_megabytes() - before < 100


def test_a_packet_larger_than_any_of_its_codec_is_refused(tmp_path) -> None:
    assert read(heaped("matroska", "aac", 100, tmp_path))[0].size > 100 * 1024
    with pytest.raises(errors.InvalidAudio, match="holds a packet of"):
        read(heaped("matroska", "aac", 10_000, tmp_path))


def test_a_change_of_rate_costs_no_memory() -> None:
    data = flac([655_350, 1_000, 1_000])
    assert len(data) < 100
    before = peak_megabytes()
    decoder = open_decoder(io.BytesIO(data))
    size = 0
    while (samples := decoder.read()).size:
        assert samples.size <= decoder.sample_rate
        size += samples.size
    assert abs(size / 655_350 - 131.17) < 0.01
    assert peak_megabytes() - before < 100


def test_frames_at_a_rate_that_no_recording_has_end_somewhere() -> None:
    with pytest.raises(errors.InvalidAudio, match="packets in a row hold no sound"):
        read(flac([44_100] + [500] * 12_000, 4096))


def test_comments_and_pictures_of_flac_are_passed_over() -> None:
    plain = make_file(SECOND, "flac", "flac")
    picture = bytes((1 << 24) - 1)
    info = b"\0" + plain[5:42]
    more = block(6, picture) * 3 + block(4, comments(MANY))
    source = Trickle(b"fLaC" + info + more + plain[42:])
    before = peak_megabytes()
    heard, rate = read(source)
    assert peak_megabytes() - before < 20
    assert rate == 44_100
    assert np.array_equal(heard, read(plain)[0])
    with pytest.raises(errors.InvalidAudio, match="no STREAMINFO"):
        read(b"fLaC" + more + plain[42:])


def pages(of: bytes, packet: bytes) -> bytes:
    """Return the pages of a packet that follows the page `of`."""
    out, sizes = b"", [255] * (len(packet) // 255) + [len(packet) % 255]
    for at in range(0, len(sizes), 255):
        part = sizes[at : at + 255]
        head = of[:5] + bytes([1 if at else 0]) + of[6:18] + struct.pack("<II", 1 + at // 255, 0)
        page = head + bytes([len(part), *part]) + packet[255 * at :][: sum(part)]
        out += page[:22] + _checksum(page) + page[26:]
    return out


def linked(data: bytes) -> bytes:
    """Return what FFmpeg gets to see of an Ogg file."""
    link = OggLink(io.BytesIO(data))
    return b"".join(iter(lambda: link.read(4096), b""))


@pytest.mark.parametrize(
    ("codec", "before"),
    [("libopus", b"OpusTags"), ("flac", b"\x04\xff\xff\xff")],
)
@pytest.mark.parametrize("vendor", [0, 70_000])
def test_comments_of_ogg_are_passed_over_where_they_are_many(codec, before, vendor) -> None:
    plain = make_file(sweep(48_000, 48_000), "ogg", codec, 48_000, 2)
    second = plain.index(b"OggS", 4)
    packet = before + struct.pack("<I", vendor) + bytes(vendor) + comments(MANY)[4:]
    flood = pages(plain[:second], packet)
    heard, _ = read(plain[:second] + flood + plain[second:])
    assert np.array_equal(heard, read(plain)[0])


@pytest.mark.parametrize(
    ("first", "before"),
    [(b"\x01vorbis", b"\x03vorbis"), (b"\x80theora", b"\x81theora"), (b"Speex   ", b""),
     (b"\x01video\0", b"\x03video\0"), (b"OVP80\x01", b"OVP80\x02 ")],
)  # fmt: skip
@pytest.mark.parametrize("count", [1000, 1001])
def test_only_many_comments_are_taken_out(first: bytes, before: bytes, count: int) -> None:
    head = b"OggS\0\2" + bytes(8) + b"ours" + bytes(8)
    begin = head + bytes([1, len(first)]) + first
    data = begin + pages(begin, before + comments(count)) + pages(begin, b"sound" * 1000)
    shown = linked(data)
    assert (shown == data) is (count == 1000)
    assert (struct.pack("<I", count) in shown) is (count == 1000)


def test_a_page_within_a_damaged_page_is_looked_at_too() -> None:
    begin = make_file(sweep(48_000, 48_000), "ogg", "libopus", 48_000)
    begin = begin[: begin.index(b"OggS", 4)]
    packet = b"OpusTags" + comments(2000)
    inner = pages(begin, packet)
    for data, known in ((inner, False), (pages(begin, inner), True)):
        for damage in (False, True):
            body = data[:22] + b"none" + data[26:] if damage else data
            shown = linked(begin + body)
            assert len(shown) == len(begin) + len(body)
            assert (packet[:16] in shown) is (known and not damage)


def element(name: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return name.to_bytes(4).lstrip(b"\0") + (1 << 56 | len(body)).to_bytes(8) + body


def test_tags_chapters_and_attachments_of_matroska_are_passed_over() -> None:
    plain = make_file(SECOND, "matroska", "flac")
    tags = [
        element(0x67C8, element(0x45A3, b"%x" % at), element(0x4487, b"1"))
        for at in range(MANY // 2)
    ]
    tags = element(0x1254C367, element(0x7373, element(0x63C0), *tags))
    chapters = [
        element(0xB6, element(0x73C4, (MANY - at).to_bytes(4)), element(0x91, at.to_bytes(4)))
        for at in range(MANY)
    ]
    chapters = element(0x1043A770, element(0x45B9, *chapters))
    files = [
        element(0x61A7, element(0x466E, b"a"), element(0x4660, b"b"), element(0x46AE, b"\1"),
                element(0x465C, bytes(15 << 20)))
        for _ in range(4)
    ]  # fmt: skip
    files = element(0x1941A469, *files)
    first = plain.index(b"\x16\x54\xae\x6b")
    sources = [Trickle(plain[:first] + more + plain[first:]) for more in (tags, chapters, files)]
    before = peak_megabytes()
    for source in sources:
        heard, _ = read(source)
        assert np.array_equal(heard, read(plain)[0][: heard.size])
    assert peak_megabytes() - before < 20


def many_frames(kind: bytes, count: int) -> bytes:
    """Return an ID3 tag without two frames of one name."""
    frames = []
    for at in range(count):
        body = b"\0" * (kind == b"TXXX") + b"%x\0%d" % (at, 1)
        frames.append(kind + synchsafe(len(body)) + bytes(2) + body)
    return id3(b"".join(frames))


@pytest.mark.parametrize("most", [997, 1 << 20])
@pytest.mark.parametrize("kind", [b"TXXX", b"PRIV"])
def test_id3_tags_amid_sound_are_passed_over(kind: bytes, most: int) -> None:
    tag = many_frames(kind, MANY // 2)
    aac = make_file(SECOND, "adts", "aac")
    for frames in (5, 20):
        at = 0
        for _ in range(frames):
            at += int.from_bytes(aac[at + 3 : at + 6]) >> 5 & 0x1FFF
        heard, _ = read(Trickle(aac[:at] + tag + aac[at:], most))
        assert np.array_equal(heard, read(aac)[0])
    wav = make_file(SECOND, "wav", "adpcm_ms")
    chunk = b"id3 " + struct.pack("<I", len(tag)) + tag + bytes(len(tag) % 2)
    heard, _ = read(Trickle(wav[:12] + chunk + wav[12:], most))
    assert np.array_equal(heard, read(wav)[0])


def test_an_id3_tag_is_found_wherever_reading_stops() -> None:
    for before in range(80, 101):
        data = bytes(before) + many_frames(b"PRIV", 6000) + bytes(20)
        source = AacWithoutTags(io.BytesIO(data))
        shown = b"".join(iter(lambda: source.read(100), b""))  # noqa: B023 - read at once
        assert shown == data.replace(b"ID3\4", b"ID3\5")
    small = many_frames(b"PRIV", 100)
    assert AacWithoutTags(io.BytesIO(small)).read(1 << 20) == small


def test_the_compressed_index_of_old_films_is_refused() -> None:
    film = make_file(SECOND, "mov", "aac", options={"movflags": "+faststart"})
    index = inner(film, b"moov")
    keys = [box(b"mdta", b"%x" % at) for at in range(MANY)]
    values = [box(numbers(at), box(b"data", numbers(1, 0), b"1")) for at in range(1, MANY + 1)]
    more = box(
        b"meta",
        box(b"hdlr", numbers(0, 0), b"mdta", bytes(13)),
        box(b"keys", numbers(0, MANY), *keys),
        box(b"ilst", *values),
    )
    whole = box(b"moov", index[8:], more)
    squeezed = box(b"cmvd", numbers(len(whole)), zlib.compress(whole))
    compressed = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), squeezed))
    with pytest.raises(errors.InvalidAudio, match="damaged or incomplete"):
        read(film.replace(index, compressed))


def test_a_file_that_takes_too_long_to_open_is_refused() -> None:
    def text(value: bytes) -> bytes:
        return struct.pack(">H", len(value)) + value

    values = b"".join(text(b"%x" % at) + b"\2" + text(b"1") for at in range(MANY))
    data = b"\2" + text(b"onMetaData") + b"\x08" + bytes(4) + values + b"\0\0\x09"
    tag = b"\x12" + len(data).to_bytes(3) + bytes(7) + data
    with pytest.raises(errors.InvalidAudio, match="takes more than 5 seconds"):
        read(b"FLV\x01\x04\0\0\0\x09\0\0\0\0" + tag + struct.pack(">I", len(tag)))
