"""Containers, codecs, rates, channels and sample formats a user may hold."""

import struct
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from tests.audio.files import id3, lag, make_file, signal_to_noise, sweep
from tests.audio.reading import Trickle, read

from menura import errors
from menura.audio import sniff
from menura.audio.decode import open_decoder

BARE_MP3 = {"write_xing": "0", "id3v2_version": "0"}
FASTSTART = {"movflags": "+faststart"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}

# container, codec, rate, channels, options; then what the container does not say: the most
# samples of encoder delay at the start and of padding at the end.
EXACT = (0, 0)
FILES = [
    ("wav", "pcm_s16le", 44100, 2, {}, EXACT),
    ("wav", "pcm_s24le", 192000, 6, {}, EXACT),
    ("wav", "pcm_f64le", 8000, 8, {}, EXACT),
    ("wav", "pcm_alaw", 8000, 1, {}, EXACT),
    ("wav", "pcm_mulaw", 8000, 2, {}, EXACT),
    ("wav", "adpcm_ms", 22050, 1, {}, (0, 2048)),
    ("w64", "pcm_s24le", 96000, 2, {}, EXACT),
    ("aiff", "pcm_s16be", 44100, 8, {}, EXACT),
    ("aiff", "pcm_s24be", 48000, 2, {}, EXACT),
    ("aiff", "pcm_f32be", 48000, 1, {}, EXACT),
    ("au", "pcm_mulaw", 8000, 1, {}, EXACT),
    ("caf", "pcm_s16le", 16000, 1, {}, EXACT),
    ("mp3", "libmp3lame", 44100, 2, {}, EXACT),
    ("mp3", "libmp3lame", 16000, 1, {}, EXACT),
    ("mp3", "libmp3lame", 8000, 1, {}, EXACT),
    ("mp3", "libmp3lame", 44100, 1, {"write_xing": "0"}, (1105, 2304)),
    ("mp2", "mp2", 32000, 1, {}, (481, 1152)),
    ("ipod", "aac", 44100, 2, {}, EXACT),
    ("mp4", "aac", 48000, 6, {}, EXACT),
    ("mp4", "aac", 16000, 1, FASTSTART, EXACT),
    ("mp4", "aac", 44100, 1, FRAGMENTED, (1024, 1024)),
    ("mp4", "libopus", 48000, 1, {}, EXACT),
    ("mp4", "flac", 44100, 1, FASTSTART, EXACT),
    ("mov", "alac", 44100, 2, {}, EXACT),
    ("mov", "pcm_s16le", 48000, 2, FASTSTART, EXACT),
    ("adts", "aac", 44100, 1, {}, (1024, 1024)),
    ("latm", "aac", 44100, 1, {}, (1024, 1024)),
    ("ogg", "libopus", 48000, 1, {}, EXACT),
    ("ogg", "vorbis", 44100, 2, {}, (0, 128)),
    ("ogg", "flac", 44100, 1, {}, EXACT),
    ("flac", "flac", 44100, 6, {}, EXACT),
    ("flac", "flac", 8000, 8, {}, EXACT),
    ("webm", "libopus", 48000, 2, {}, EXACT),
    ("matroska", "aac", 48000, 2, {}, (0, 1024)),
    ("matroska", "pcm_s16le", 16000, 1, {}, EXACT),
    ("asf", "wmav2", 44100, 2, {}, (2048, 2048)),
    ("amr", "libopencore_amrnb", 8000, 1, {}, (45, 320)),
    ("3gp", "libopencore_amrnb", 8000, 1, {}, (45, 320)),
    ("3gp", "aac", 16000, 1, {}, EXACT),
    ("flv", "aac", 44100, 2, {}, (1024, 2048)),
    ("flv", "libmp3lame", 44100, 1, {}, (1105, 2304)),
    ("mpegts", "aac", 48000, 2, {}, (1024, 2048)),
    ("mpegts", "aac", 48000, 2, {"mpegts_m2ts_mode": "1"}, (1024, 2048)),
    ("ac3", "ac3", 48000, 6, {}, (256, 1536)),
    ("eac3", "eac3", 48000, 2, {}, (256, 1536)),
    ("rm", "real_144", 8000, 1, {}, (160, 160)),
    ("wv", "wavpack", 44100, 2, {}, EXACT),
    ("tta", "tta", 44100, 2, {}, EXACT),
]
VIDEOS = [
    ("mp4", "aac", 44100, 2, {}, EXACT),
    ("mov", "pcm_s16le", 48000, 2, {}, EXACT),
    ("3gp", "aac", 16000, 1, {}, EXACT),
    ("matroska", "libmp3lame", 22050, 2, {}, (0, 1152)),
    ("avi", "pcm_s16le", 44100, 2, {}, EXACT),
    ("avi", "libmp3lame", 44100, 1, {}, (1105, 2304)),
    ("asf", "wmav2", 44100, 1, {}, (2048, 2048)),
    ("mpeg", "mp2", 44100, 2, {}, (481, 1152)),
    ("mpegts", "mp2", 48000, 2, {}, (481, 1152)),
]
LOSSLESS = {"pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be", "pcm_f32be", "pcm_f64le", "flac",
            "alac"}  # fmt: skip


def name(case: tuple) -> str:
    container, codec, rate, channels, options, _ = case
    return "-".join([container, codec, str(rate), f"{channels}ch", *options.values()])


@pytest.mark.parametrize(
    ("case", "video"),
    [*((case, False) for case in FILES), *((case, True) for case in VIDEOS)],
    ids=lambda value: name(value) if isinstance(value, tuple) else "video" if value else "sound",
)
def test_every_file_gives_its_samples(case, video: bool) -> None:
    container, codec, rate, channels, options, (delay, padding) = case
    meant = sweep(rate + 777, rate)
    data = make_file(meant, container, codec, rate, channels, options=options, video=video)
    heard, heard_rate = read(Trickle(data))
    assert heard_rate == rate
    late = lag(heard, meant)
    assert abs(late) <= delay
    assert -delay <= heard.size - meant.size <= delay + padding
    if not delay + padding:
        assert heard.size == meant.size
    aligned = (heard[late:], meant) if late >= 0 else (heard, meant[-late:])
    inner = slice(200, -2500 if delay + padding else None)
    ratio = signal_to_noise(aligned[0][: meant.size][inner], aligned[1][inner])
    assert ratio > (80 if codec in LOSSLESS else 4 if "amr" in codec else 12)
    trickled, _ = read(Trickle(data, most=997))
    assert np.array_equal(trickled, heard)


STREAMABLE = [
    case
    for case in FILES
    if case[0] != "caf" and (case[0] not in ("mp4", "mov", "ipod", "3gp") or case[4])
]


@pytest.mark.parametrize("case", STREAMABLE, ids=name)
def test_decoding_starts_long_before_the_upload_ends(case) -> None:
    container, codec, rate, channels, options, _ = case
    meant = sweep(6 * rate, rate)
    data = make_file(meant, container, codec, rate, channels, options=options)
    source = Trickle(data, most=500)
    decoder = open_decoder(source)
    assert decoder.read().size
    assert not source.asked_for_end
    seconds = 6 * source.furthest / len(data)
    assert seconds < 2.5
    decoder.close()


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize(
    ("container", "codec", "sample_format"),
    [
        ("wav", "pcm_u8", "u8"),
        ("w64", "pcm_s16le", "s16"),
        ("w64", "pcm_s32le", "s32"),
        ("w64", "pcm_f32le", "flt"),
        ("w64", "pcm_f64le", "dbl"),
        ("mov", "pcm_f64le", "dbl"),
        ("wv", "wavpack", "u8p"),
        ("wv", "wavpack", "s16p"),
        ("wv", "wavpack", "s32p"),
        ("wv", "wavpack", "fltp"),
    ],
)
def test_every_sample_format_and_layout(
    container: str, codec: str, sample_format: str, channels: int
) -> None:
    if container == "wv" and channels == 8:
        pytest.skip("FFmpeg writes no such file")
    meant = sweep(11024, 22050)
    heard, _ = read(make_file(meant, container, codec, 22050, channels, sample_format))
    assert heard.size == meant.size
    assert signal_to_noise(heard, meant) > 30


def test_channels_are_mixed_by_their_mean(tmp_path) -> None:
    left, right = sweep(4800, 48000), -0.5 * sweep(4800, 48000)
    path = tmp_path / "stereo.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="stereo", format="s16")
        both = np.stack((left, right), axis=1)
        frame = av.AudioFrame.from_ndarray(
            np.rint(both * 32767).astype(np.int16).reshape(1, -1), "s16", "stereo"
        )
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    heard, _ = read(path.read_bytes())
    assert np.abs(heard - (left + right) / 2).max() < 1e-4


def test_names_and_tags_are_not_trusted() -> None:
    meant = sweep(24000, 24000)
    data = make_file(meant, "mp3", "libmp3lame", 24000)

    class Misnamed(Trickle):
        name = "recording.wav"

    heard, _ = read(Misnamed(data))
    assert heard.size == meant.size


@pytest.mark.parametrize(
    ("container", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("adts", "aac")]
)
def test_tags_in_front_are_skipped(container: str, codec: str) -> None:
    meant = sweep(24000, 24000)
    data = make_file(meant, container, codec, 24000)
    plain, _ = read(data[sniff.id3_size(data) :])
    for tags in (id3(bytes(3)), id3(bytes(2_300_000)), id3(bytes(0)) + id3(bytes(70))):
        tagged, _ = read(Trickle(tags + data, most=1000))
        assert np.array_equal(tagged, plain)


def test_a_tag_that_is_all_there_is_has_no_sound() -> None:
    with pytest.raises(errors.InvalidAudio, match="empty"):
        read(id3(bytes(500)))


def ape_tag(size: int) -> bytes:
    """Return an APEv2 tag with its header, as some taggers put in front of an MP3 file."""
    fields = struct.pack("<IIII", 2000, size + 32, 1, 0xA0000000)
    return b"APETAGEX" + fields + bytes(8) + bytes(size)


@pytest.mark.parametrize("rate", [24000, 44100])
@pytest.mark.parametrize("junk", [bytes(64), bytes(20_000), ape_tag(4000)], ids=len)
def test_mp3_with_junk_in_front_is_heard_as_without(rate: int, junk: bytes) -> None:
    meant = sweep(rate, rate)
    data = make_file(meant, "mp3", "libmp3lame", rate, options={"id3v2_version": "0"})
    heard, _ = read(Trickle(junk + data, most=1000))
    assert heard.size == meant.size
    assert lag(heard, meant) == 0
    tagged, _ = read(id3(bytes(70)) + junk + data)
    assert np.array_equal(heard, tagged)


def ended_by_its_edit_list(data: bytes, samples: int) -> bytes:
    """Return a file of FFmpeg's as Apple's encoders write it: every packet has a full duration."""
    out = bytearray(data)
    movie = data.index(b"mvhd") + 4
    struct.pack_into(">I", out, movie + 12, 44_100)
    struct.pack_into(">I", out, data.index(b"elst") + 12, samples)
    times = data.index(b"stts") + 8
    for entry in range(int.from_bytes(data[times : times + 4])):
        struct.pack_into(">I", out, times + 8 + 8 * entry, 1024)
    return bytes(out)


@pytest.mark.parametrize("size", [44_100, 44_100 + 777, 43 * 1024, 43 * 1024 + 1])
def test_an_edit_list_alone_ends_the_sound(size: int) -> None:
    meant = sweep(size, 44_100)
    data = make_file(meant, "ipod", "aac")
    exact, _ = read(data)
    assert exact.size in (size, size - 1)
    heard, _ = read(Trickle(ended_by_its_edit_list(data, size), most=997))
    assert heard.size == size
    assert np.array_equal(heard[: exact.size], exact)


def test_an_edit_list_that_ends_far_before_the_sound_cuts_no_sample() -> None:
    meant = sweep(44_100, 44_100)
    data = make_file(meant, "ipod", "aac")
    whole, _ = read(ended_by_its_edit_list(data, 1 << 30))
    assert whole.size >= meant.size


def test_joined_mp3_files_are_heard_whole() -> None:
    meant = sweep(24000, 24000)
    data = make_file(meant, "mp3", "libmp3lame", 24000)
    heard, _ = read(data + data[sniff.id3_size(data) :])
    assert heard.size >= 2 * meant.size


@pytest.mark.parametrize("rates", [(44100, 22050), (22050, 48000)])
def test_a_change_of_rate_midway_keeps_the_pitch(rates) -> None:
    files = []
    for rate in rates:
        tone = (0.3 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate)).astype(np.float32)
        files.append(make_file(tone, "mp3", "libmp3lame", rate, options=BARE_MP3))
    heard, rate = read(b"".join(files))
    assert rate == rates[0]
    seconds = heard.size / rate
    assert 1.9 < seconds < 2.3
    for at in (0.3, 1.5):
        piece = heard[int(at * rate) :][: rate // 4]
        peak = np.argmax(np.abs(np.fft.rfft(piece * np.hanning(piece.size)))) * 4
        assert abs(peak - 500) <= 8


def test_a_change_of_channels_midway() -> None:
    meant = sweep(44100, 44100)
    files = [
        make_file(
            meant,
            "mp3",
            "libmp3lame",
            44100,
            channels,
            options=BARE_MP3,
        )
        for channels in (1, 2)
    ]
    heard, _ = read(b"".join(files))
    assert heard.size > 2 * meant.size
    assert np.abs(heard).max() < 0.6


TRUNCATED = [
    case
    for case in (*FILES, *VIDEOS)
    if case[0]
    in ("wav", "mp3", "flac", "ogg", "webm", "matroska", "adts", "asf", "aiff", "avi", "flv")
    or case[4] in (FASTSTART, FRAGMENTED)
]


@pytest.mark.parametrize("case", TRUNCATED, ids=name)
def test_a_truncated_file_gives_what_is_there(case) -> None:
    container, codec, rate, channels, options, (delay, _) = case
    meant = sweep(2 * rate, rate)
    data = make_file(meant, container, codec, rate, channels, options=options)
    whole, _ = read(data)
    heard, _ = read(data[: len(data) * 2 // 3])
    assert 0.4 * whole.size < heard.size < 0.8 * whole.size
    same = heard.size - 6000 - delay
    assert same > 0 or rate < 22050
    if same > 0:
        assert np.allclose(heard[:same], whole[:same], atol=1e-6)


def test_an_aiff_file_may_describe_its_samples_behind_them() -> None:
    meant = sweep(44100, 44100)
    data = make_file(meant, "aiff", "pcm_s16be")
    chunks = []
    at = 12
    while at < len(data):
        size = 8 + int.from_bytes(data[at + 4 : at + 8])
        chunks.append(data[at : at + size + size % 2])
        at += size + size % 2
    assert chunks[-1].startswith(b"SSND")
    heard, rate = read(data[:12] + b"".join(reversed(chunks)))
    assert (heard.size, rate) == (44100, 44100)


def test_an_mp4_without_its_index_is_refused() -> None:
    data = make_file(sweep(44100, 44100), "mp4", "aac")
    with pytest.raises(errors.InvalidAudio, match="MP4"):
        read(data[: len(data) // 2])


class ClientVanished(Exception):
    pass


@pytest.mark.parametrize("case", [*FILES[::3], *VIDEOS[:4]], ids=name)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_what_the_source_raises_passes_through(case, share: float) -> None:
    container, codec, rate, channels, options, _ = case
    data = make_file(sweep(rate, rate), container, codec, rate, channels, options=options)

    class Vanishing(Trickle):
        def read(self, size: int = -1, /) -> bytes:
            if self.tell() >= share * len(data):
                raise ClientVanished
            return super().read(min(size, 800))

        def seek(self, offset: int, whence: int = 0, /) -> int:
            if whence == 2:
                raise ClientVanished
            return super().seek(offset, whence)

    with pytest.raises(ClientVanished):
        read(Vanishing(data))


def test_an_encrypted_file_is_refused() -> None:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    data = make_file(sweep(44100, 44100), "mp4", "aac", options=options)
    with pytest.raises(errors.InvalidAudio, match="encrypted"):
        read(data)
    protected = make_file(sweep(44100, 44100), "ipod", "aac")
    with pytest.raises(errors.InvalidAudio, match="encrypted"):
        read(protected.replace(b"mp4a", b"drms"))


def test_a_protected_windows_media_file_is_refused() -> None:
    data = make_file(sweep(44100, 44100), "asf", "wmav2")
    guid = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")
    with pytest.raises(errors.InvalidAudio, match="encrypted"):
        read(data[:30] + guid + struct.pack("<Q", 24) + data[30:])


def test_a_video_without_sound_is_refused(tmp_path) -> None:
    for suffix, words in (("mp4", "MP4"), ("mkv", "Matroska"), ("avi", "AVI")):
        path = tmp_path / f"silent.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
            for at in range(30):
                image = av.VideoFrame(64, 48, "yuv420p")
                image.pts = at
                container.mux(stream.encode(image))
            container.mux(stream.encode(None))
        with pytest.raises(errors.InvalidAudio, match=f"{words}.*without a sound track"):
            read(path.read_bytes())


@pytest.mark.parametrize(
    ("container", "codec"),
    [("flac", "flac"), ("wav", "pcm_s16le"), ("mov", "pcm_s16le"), ("avi", "pcm_s16le")],
)
def test_no_block_is_longer_than_memory_is_meant_for(container: str, codec: str) -> None:
    # `read` looks at every block.
    read(make_file(sweep(10 * 44100, 44100), container, codec))


def test_bytes_held_in_different_pieces_decode_alike() -> None:
    meant = sweep(30000, 44100)
    data = make_file(meant, "ogg", "vorbis", 44100, 2)
    heard = [read(Trickle(data, most))[0] for most in (1, 17, 4096, 1 << 20)]
    assert all(np.array_equal(a, b) for a, b in pairwise(heard))


def test_the_examples_decode() -> None:
    folder = Path(__file__).parents[2] / "examples"
    for path in sorted(folder.glob("*.mp3")) + sorted(folder.glob("*.wav")):
        with path.open("rb") as file:
            heard, rate = read(file)
        assert heard.size > rate
