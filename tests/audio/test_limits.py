"""Files that would make FFmpeg reach for memory, other files or a crash."""

import io
import resource
import struct
import subprocess
import sys

import av
import pytest
from tests.audio.files import make_file, sweep
from tests.audio.reading import LONGEST_BLOCK, read

from menura import errors
from menura.audio import layouts, limits
from menura.audio.decode import open_decoder


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return numbers(len(body) + 8) + name + body


def inner(data: bytes, *path: bytes) -> bytes:
    """Return a box of a real file, found by its path."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == path[0]:
            whole = data[at : at + size]
            return whole if len(path) == 1 else inner(whole[8:], *path[1:])
        at += size
    raise AssertionError(path)


def mp4(tracks: int, table: bytes, behind: bytes = b"", extends: bytes = b"") -> bytes:
    """Return an MP4 file with real headers and sample tables of our own making."""
    options = {"movflags": "+faststart"}
    real = make_file(sweep(9000, 44100), "mp4", "aac", options=options)
    media = (b"moov", b"trak", b"mdia")
    track = box(
        b"trak",
        inner(real, b"moov", b"trak", b"tkhd"),
        box(
            b"mdia",
            inner(real, *media, b"mdhd"),
            inner(real, *media, b"hdlr"),
            box(
                b"minf",
                box(b"smhd", bytes(8)),
                box(b"stbl", inner(real, *media, b"minf", b"stbl", b"stsd"), table),
            ),
        ),
    )
    moov = box(b"moov", inner(real, b"moov", b"mvhd"), track * tracks, extends)
    return inner(real, b"ftyp") + moov + behind + box(b"mdat", bytes(5000))


def table(count: int) -> bytes:
    """Return sample tables of a hundred bytes that claim `count` samples of one byte."""
    return (
        box(b"stts", numbers(0, 1, count, 1024))
        + box(b"stsc", numbers(0, 1, 1, count, 1))
        + box(b"stsz", numbers(0, 1, count))
        + box(b"stco", numbers(0, 1, 1000))
    )


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("count", [600_000, 100_000_000, 0x7FFFFFFF])
@pytest.mark.parametrize("tracks", [1, 60])
def test_an_index_of_gigabytes_in_a_few_bytes(count: int, tracks: int) -> None:
    data = mp4(tracks, table(count))
    assert len(data) < 40_000
    before = peak_megabytes()
    with pytest.raises(errors.InvalidAudio):
        read(data)
    assert peak_megabytes() - before < 400


@pytest.mark.parametrize("count", [600_000, 100_000_000])
def test_fragments_that_claim_endless_samples(count: int) -> None:
    empty = b"".join(
        (
            box(b"stts", numbers(0, 0)),
            box(b"stsc", numbers(0, 0)),
            box(b"stsz", numbers(0, 0, 0)),
            box(b"stco", numbers(0, 0)),
        )
    )
    fragment = box(
        b"moof",
        box(b"mfhd", numbers(0, 1)),
        box(b"traf", box(b"tfhd", numbers(0, 1)), box(b"trun", numbers(0, count))),
    )
    extends = box(b"mvex", box(b"trex", numbers(0, 1, 1, 1024, 10, 0)))
    before = peak_megabytes()
    with pytest.raises(errors.InvalidAudio):
        read(mp4(1, empty, fragment * 20, extends))
    assert peak_megabytes() - before < 400


def test_a_tiny_file_of_hours_is_pulled_in_flat_memory() -> None:
    silence = sweep(4 * 44100, 44100) * 0
    data = make_file(silence, "flac", "flac")
    frames = data[data.index(b"\xff\xf8", 42) :]
    bomb = data + frames * 200
    decoder = open_decoder(io.BytesIO(bomb))
    before = peak_megabytes()
    size = 0
    while size < 300 * decoder.sample_rate and (block := decoder.read()).size:
        assert block.size <= LONGEST_BLOCK
        size += block.size
    decoder.close()
    assert size >= 300 * 44100
    assert peak_megabytes() - before < 30


def test_the_limit_reaches_ffmpeg() -> None:
    script = (
        "import av\n"
        "from menura.audio import limits\n"
        "assert limits.limit_allocations(1 << 20)\n"
        "try:\n"
        "    av.AudioFrame('s16', 'mono', 1 << 20)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
    assert limits.MAX_ALLOCATION <= 1 << 24


def test_layouts_of_a_files_own_do_not_end_the_process(tmp_path) -> None:
    path = tmp_path / "eight.aiff"
    meant = sweep(44_100, 44_100)
    path.write_bytes(make_file(meant, "aiff", "pcm_s16be", 44_100, 8))
    script = (
        "import sys\n"
        "from menura.audio.decode import open_decoder\n"
        "for _ in range(20):\n"
        "    decoder = open_decoder(open(sys.argv[1], 'rb'))\n"
        "    size = 0\n"
        "    while (block := decoder.read()).size: size += block.size\n"
        "    decoder.close()\n"
        "print(size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "44100\n")


def test_the_guard_sees_what_a_layout_is() -> None:
    assert layouts._OFFSET is not None
    for name, channels in (("mono", 1), ("7.1", 8), ("12 channels", 12)):
        assert layouts.guarded(av.AudioLayout(name)) == (channels, False)


def test_files_cannot_reach_other_files(tmp_path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(make_file(sweep(4000, 44100), "wav", "pcm_s16le"))
    real = make_file(sweep(44100, 44100), "mov", "pcm_s16le", options={"movflags": "+faststart"})
    name = str(secret).encode()
    outside = box(b"url ", numbers(0), name + b"\0")
    own = box(b"url ", numbers(1))
    assert own in real
    linked = real.replace(box(b"dref", numbers(0, 1), own), box(b"dref", numbers(0, 1), outside))
    assert linked != real
    try:
        heard = read(linked)[0].size
    except errors.MenuraError:
        heard = 0
    assert heard in (0, 44100)


def many_tracks(folder, container: str, tracks: int) -> bytes:
    """Return a film of half a second with `tracks` tracks, all but the first of them sound."""
    path = folder / "tracks"
    codec = "pcm_s16le" if container == "mov" else "libmp3lame"
    with av.open(str(path), "w", format=container) as file:
        picture = file.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sounds = [file.add_stream(codec, rate=48000, layout="mono") for _ in range(tracks - 1)]
        for at in range(12):
            image = av.VideoFrame(64, 48, "yuv420p")
            image.pts = at
            file.mux(picture.encode(image))
        file.mux(picture.encode(None))
        for sound in sounds:
            size = sound.codec_context.frame_size or 1152
            for at in range(0, 24_000 // size * size, size):
                frame = av.AudioFrame(sound.format.name, "mono", size)
                frame.planes[0].update(bytes(frame.planes[0].buffer_size))
                frame.sample_rate, frame.pts = 48000, at
                file.mux(sound.encode(frame))
            file.mux(sound.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("container", "tracks"),
    [("matroska", 15), ("matroska", 256), ("mpegts", 15), ("mpegts", 200), ("avi", 20),
     ("mov", 18)],
)  # fmt: skip
def test_a_film_of_many_tracks_is_heard_whole(tmp_path, container: str, tracks: int) -> None:
    assert read(many_tracks(tmp_path, container, tracks))[0].size > 22_000


@pytest.mark.parametrize(
    ("container", "tracks", "words"),
    [
        ("matroska", 257, "Matroska file with more than 256 tracks"),
        ("mpegts", 270, "transport stream with more than 256 tracks"),
        ("mov", 19, "QuickTime file but has more than 18 tracks"),
    ],
)
def test_more_tracks_than_are_accepted_are_named(tmp_path, container, tracks, words) -> None:
    with pytest.raises(errors.InvalidAudio, match=words):
        read(many_tracks(tmp_path, container, tracks))


def test_what_holds_no_sound_keeps_no_core_for_long():
    header = bytes([0xFF, 0xF1, 0x50, 0x40, 1, (1 << 5) | 0x1F, 0xFC])
    for data, told in (
        (b"ID3\x04\0\0\0\0\0\0" * 1_000, "ID3 tags"),
        ((header + b"\xff\xff") * 50_000, "packets in a row"),
    ):
        with pytest.raises(errors.InvalidAudio, match=told):
            open_decoder(io.BytesIO(data))
