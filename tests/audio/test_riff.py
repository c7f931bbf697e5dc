"""WAV files of every kind, and of kinds that should not be."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.files import make_file, signal_to_noise, sweep
from tests.audio.reading import Trickle, read

from menura import errors
from menura.audio.decode import open_decoder
from menura.audio.riff import PCM, PcmReader, WavFormat

RAMP = (np.arange(-1000, 1000) * 16).astype("<i2")
RAMP_FLOATS = RAMP.astype(np.float32) / 32768


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


def fmt(
    tag: int = PCM,
    channels: int = 1,
    rate: int = 24000,
    bits: int = 16,
    extra: bytes = b"",
    held: int | None = None,
) -> bytes:
    """held: bits that a sample takes up, where these are not its own."""
    size = channels * (held or bits) // 8
    body = struct.pack("<HHIIHH", tag, channels, rate, 0, size % 65536, bits) + extra
    return chunk(b"fmt ", body)


def extensible(tag: int, bits: int, channels: int = 1) -> bytes:
    tail = bytes.fromhex("000000001000800000aa00389b71")
    return fmt(0xFFFE, channels, 24000, bits, struct.pack("<HHIH", 22, bits, 0, tag) + tail)


def riff(*chunks: bytes, size: int | None = None, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def data_chunk(samples: np.ndarray = RAMP, size: int | None = None) -> bytes:
    return chunk(b"data", samples.tobytes(), size)


@pytest.mark.parametrize(
    ("head", "samples", "tolerance"),
    [
        (fmt(), RAMP, 0),
        (fmt(bits=8), (RAMP_FLOATS * 128 + 128).astype(np.uint8), 1 / 128),
        (fmt(bits=32), RAMP.astype("<i4") << 16, 0),
        (fmt(bits=64), RAMP.astype("<i8") << 48, 0),
        (fmt(bits=24), None, 0),
        (fmt(bits=24, held=32), RAMP.astype("<i4") << 16, 0),
        (fmt(tag=3, bits=32), RAMP_FLOATS.astype("<f4"), 0),
        (fmt(tag=3, bits=64), RAMP_FLOATS.astype("<f8"), 0),
        (extensible(1, 16), RAMP, 0),
        (extensible(3, 32), RAMP_FLOATS.astype("<f4"), 0),
    ],
)
def test_every_plain_sample_format(head: bytes, samples, tolerance: float) -> None:
    if samples is None:
        wide = (RAMP.astype("<i4") << 8).view(np.uint8).reshape(-1, 4)
        samples = np.ascontiguousarray(wide[:, :3])
    heard, rate = read(riff(head, data_chunk(samples)))
    assert rate == 24000
    assert np.abs(heard - RAMP_FLOATS).max() <= tolerance


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8, 16])
@pytest.mark.parametrize("rate", [8000, 44100, 192000])
def test_channels_are_mixed_at_any_rate(channels: int, rate: int) -> None:
    frames = np.zeros((RAMP.size, channels), "<i2")
    frames[:, -1] = RAMP
    heard, heard_rate = read(riff(fmt(channels=channels, rate=rate), data_chunk(frames)))
    assert heard_rate == rate
    assert np.abs(heard - RAMP_FLOATS / channels).max() < 1e-6


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 4001, 3996, 100, 2])
def test_a_lying_data_size_loses_nothing(size: int) -> None:
    for riff_size in (0, 0xFFFFFFFF, 36 + size, None):
        heard, _ = read(riff(fmt(), data_chunk(size=size), size=(riff_size or 0) & 0xFFFFFFFF))
        assert np.array_equal(heard, RAMP_FLOATS)


@pytest.mark.parametrize("size", [0, None])
def test_chunks_after_the_data_are_not_heard(size: int | None) -> None:
    tail = chunk(b"LIST", b"INFOISFT\x04\0\0\0abc\0")
    if size is None:
        heard, _ = read(riff(fmt(), data_chunk(), tail))
        assert np.array_equal(heard, RAMP_FLOATS)
    with pytest.raises(errors.InvalidAudio, match="no samples"):
        read(riff(fmt(), chunk(b"data", b""), tail))


def test_an_odd_data_chunk_has_its_pad_byte() -> None:
    codes = bytes([128, 200, 128])
    heard, _ = read(riff(fmt(bits=8), chunk(b"data", codes) + b"\0", chunk(b"LIST", b"INFO")))
    assert heard.tolist() == [0, 72 / 128, 0]


def test_chunks_before_and_between_are_skipped() -> None:
    odd = chunk(b"JUNK", bytes(4097)) + b"\0"
    bext = chunk(b"bext", b"x" * 602)
    heard, _ = read(Trickle(riff(odd, bext, fmt(), odd, data_chunk()), 100))
    assert np.array_equal(heard, RAMP_FLOATS)


def test_data_may_come_before_its_format() -> None:
    heard, _ = read(riff(data_chunk(), fmt()))
    assert np.array_equal(heard, RAMP_FLOATS)


def test_rf64_has_its_size_in_a_chunk_of_its_own() -> None:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 4000 + 72, 4000, 2000, 0))
    tail = chunk(b"LIST", b"INFO")
    for magic in (b"RF64", b"BW64"):
        whole = riff(ds64, fmt(), data_chunk(size=0xFFFFFFFF), tail, size=0xFFFFFFFF, magic=magic)
        heard, _ = read(whole)
        assert np.array_equal(heard, RAMP_FLOATS)


def test_nan_and_infinity_are_silence() -> None:
    wild = np.array([np.nan, 0.5, np.inf, -np.inf, 1e38, -0.5], "<f4")
    heard, _ = read(riff(fmt(tag=3, bits=32), data_chunk(wild)))
    assert heard.tolist() == [0, 0.5, 0, 0, 16, -0.5]


def test_half_a_frame_at_the_end_is_dropped() -> None:
    frames = np.repeat(RAMP, 2).tobytes() + b"\x01\x02\x03"
    heard, _ = read(riff(fmt(channels=2), chunk(b"data", frames)))
    assert np.array_equal(heard, RAMP_FLOATS)


@pytest.mark.parametrize("head", [fmt(), extensible(1, 16)])
def test_the_first_samples_need_no_more_than_the_header(head: bytes) -> None:
    data = riff(head, data_chunk(np.tile(RAMP, 50)))
    source = Trickle(data, 1 << 20)
    decoder = open_decoder(source)
    assert decoder.read().size
    assert source.tell() < 20_000
    source = Trickle(data, 60)
    decoder = open_decoder(source)
    assert decoder.read().size
    assert source.tell() < 200


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (riff(), "no format"),
        (riff(fmt()), "no data"),
        (riff(data_chunk()), "no format"),
        (riff(chunk(b"fmt ", b"\x01\0\x01\0")), "too short"),
        (riff(fmt(rate=0), data_chunk()), "sample rate of 0"),
        (riff(fmt(rate=0xFFFFFFFF), data_chunk()), "sample rate of 4294967295"),
        (riff(fmt(channels=0), data_chunk()), "0 channels"),
        (riff(fmt(channels=65535), data_chunk()), "65535 channels"),
        (riff(fmt(bits=0), data_chunk()), "0 bits"),
        (riff(fmt(bits=40), data_chunk()), "40 bits"),
        (riff(fmt(tag=3, bits=16), data_chunk()), "16 bits"),
        (riff(fmt(), chunk(b"data", b"\x01")), "no samples"),
    ],
)
def test_a_broken_header_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(errors.InvalidAudio, match=words):
        read(data)


def test_what_is_not_plain_samples_goes_to_ffmpeg() -> None:
    meant = sweep(22050, 22050)
    for codec in ("adpcm_ms", "adpcm_ima_wav"):
        heard, rate = read(Trickle(make_file(meant, "wav", codec, 22050), 700))
        assert rate == 22050
        assert signal_to_noise(heard, meant) > 25


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.sampled_from([1, 2, 6]))
def test_any_chunking_of_the_source_gives_the_same_samples(sizes: list[int], channels: int) -> None:
    frames = np.random.default_rng(3).integers(-9999, 9999, (3000, channels)).astype("<i2")
    data = frames.tobytes()
    fmt_ = WavFormat(PCM, channels, 24000, 16, 2 * channels)

    class Pieces(io.BytesIO):
        def read(self, size: int = -1, /) -> bytes:
            sizes.append(sizes.pop(0))
            return super().read(min(size, sizes[-1]))

    reader = PcmReader(Pieces(data), fmt_)
    blocks = []
    while (block := reader.read()).size:
        blocks.append(block)
    meant = (frames / 32768).astype(np.float32).mean(axis=1)
    assert np.allclose(np.concatenate(blocks), meant, atol=1e-6)


def test_headerless_pcm_is_16_khz_mono_and_loses_an_odd_byte() -> None:
    heard, rate = read(Trickle(RAMP.tobytes() + b"\x01", 333), "pcm_s16le_16")
    assert rate == 16000
    assert np.array_equal(heard, RAMP_FLOATS)
    for nothing in (b"", b"\x01"):
        with pytest.raises(errors.InvalidAudio):
            open_decoder(io.BytesIO(nothing), "pcm_s16le_16")


def test_an_unknown_file_format_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="file_format"):
        open_decoder(io.BytesIO(b""), "mp3")
