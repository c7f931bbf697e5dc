"""Every output format, heard through a second decoder."""

import gc
import io
import struct

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.files import lag, signal_to_noise, sweep
from tests.audio.reading import read
from tests.sounds import decoded, speech

from menura.audio import g711
from menura.audio.encode import open_encoder
from menura.audio.encoder import Encoder
from menura.audio.formats import FORMATS, OutputFormat, find_format
from menura.audio.wav_header import wav_header

LOSSY_FLOOR = {"mp3": 20, "opus": 20, "ulaw": 30, "alaw": 30, "pcm": 80, "wav": 80}

by_name = pytest.mark.parametrize("output_format", FORMATS, ids=lambda f: f.name)


def encode(encoder: Encoder, samples: np.ndarray, piece: int) -> bytes:
    parts = [encoder.push(samples[at : at + piece]) for at in range(0, samples.size, piece)]
    return b"".join([*parts, encoder.finish()])


def hear(output_format: OutputFormat, data: bytes) -> np.ndarray:
    """Decode as a player does, with PyAV's own defaults."""
    if output_format.codec == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768
    if output_format.codec in ("ulaw", "alaw"):
        decode = g711.ulaw_decode if output_format.codec == "ulaw" else g711.alaw_decode
        return decode(data)
    return decoded(data, output_format.sample_rate)


@by_name
@pytest.mark.parametrize("known", [True, False], ids=["length known", "length unknown"])
def test_what_comes_out_is_what_went_in(output_format: OutputFormat, known: bool) -> None:
    rate = output_format.sample_rate
    shortest = rate // 20 if output_format.codec == "mp3" else 1
    for count in (rate * 2 + 777, shortest, rate // 10):
        samples = sweep(count, rate)
        encoder = open_encoder(output_format, count if known else None)
        assert encoder.sample_rate == rate
        heard = hear(output_format, encode(encoder, samples, 441))
        if output_format.codec == "mp3" and not known:
            frame = 1152 if rate == 44100 else 576
            assert count <= heard.size < count + frame
            # Players that are told no length play the padding.
            assert np.abs(heard[count:]).max(initial=0) < 0.12
        else:
            assert heard.size == count
        if count > rate:
            assert lag(heard, samples) == 0
            floor = LOSSY_FLOOR[output_format.codec]
            assert signal_to_noise(heard, samples) > floor
            tail = slice(count - rate // 20, count)
            assert signal_to_noise(heard[tail], samples[tail]) > floor - 12


@by_name
def test_the_bit_rate_is_the_one_named(output_format: OutputFormat) -> None:
    rate = output_format.sample_rate
    noise = 0.2 * np.random.default_rng(1).standard_normal(4 * rate).astype(np.float32)
    data = encode(open_encoder(output_format), noise, 4800)
    # An Ogg page for each packet costs 11 kbit/s; constrained Opus may stay below its rate.
    overhead = 12_000 if output_format.codec == "opus" else 0
    bits = 8 * len(data) / 4
    assert 0.9 * output_format.bit_rate < bits < 1.04 * output_format.bit_rate + overhead


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=10), st.sampled_from([0, 1, 2, 3, 4, 5]))
def test_any_chunking_gives_the_same_bytes(sizes: list[int], index: int) -> None:
    names = (
        "mp3_22050_32",
        "mp3_44100_128",
        "opus_48000_64",
        "pcm_16000",
        "wav_24000",
        "ulaw_8000",
    )
    output_format = find_format(names[index])
    assert output_format is not None
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, sum(sizes)).astype(np.float32)
    whole_encoder = open_encoder(output_format)
    whole = whole_encoder.push(noise) + whole_encoder.finish()
    encoder = open_encoder(output_format)
    pieces = np.split(noise, np.cumsum(sizes)[:-1]) if sizes else []
    assert b"".join([*map(encoder.push, pieces), encoder.finish()]) == whole


@by_name
def test_there_is_one_header_and_the_first_bytes_play(output_format: OutputFormat) -> None:
    rate = output_format.sample_rate
    encoder = open_encoder(output_format)
    samples = sweep(rate, rate)
    data = b""
    taken = 0
    while len(data) <= len(encoder.header) + 200 or taken < rate // 20:
        data += encoder.push(samples[taken : taken + rate // 100])
        taken += rate // 100
        assert taken <= rate // 5
    assert data.startswith(encoder.header)
    data += encoder.push(samples[taken : taken + rate // 4])
    heard = hear(output_format, data)
    assert heard.size > rate // 8
    size = min(heard.size, taken) - rate // 50
    assert signal_to_noise(heard[:size], samples[:size]) > 12
    assert data.count(b"RIFF") <= 1
    assert data.count(b"OpusHead") <= 1
    assert data.count(b"Info") <= 1


@by_name
def test_no_more_is_held_back_than_stated(output_format: OutputFormat) -> None:
    rate = output_format.sample_rate
    encoder = open_encoder(output_format)
    samples = sweep(rate // 2, rate)
    data = encoder.push(samples)
    heard = hear(output_format, data)
    assert samples.size - heard.size <= encoder.delay


@pytest.mark.parametrize("name", ["pcm_8000", "wav_44100"])
def test_samples_are_never_cut_in_half(name: str) -> None:
    output_format = find_format(name)
    assert output_format is not None
    encoder = open_encoder(output_format)
    for size in (1, 2, 3, 0, 5):
        assert len(encoder.push(np.zeros(size, np.float32))) % 2 == 0


@by_name
def test_the_final_header_says_the_true_length(output_format: OutputFormat) -> None:
    rate = output_format.sample_rate
    samples = sweep(rate + 123, rate)
    encoder = open_encoder(output_format)
    first = encoder.header
    data = encode(encoder, samples, 1000)
    assert data.startswith(first)
    final = encoder.header
    assert len(final) == len(first)
    known = open_encoder(output_format, samples.size)
    assert final + data[len(first) :] == encode(known, samples, 1000)


def mpeg_header(data: bytes) -> tuple[int, int]:
    """Return what a player sees first: bits per second and bytes of the frame."""
    mpeg1 = data[1] >> 3 & 3 == 3
    table = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192) if mpeg1 else (8, 16, 24, 32, 40, 48)
    bit_rate = 1000 * table[(data[2] >> 4) - 1]
    rate = (44100 if mpeg1 else 22050, 48000 if mpeg1 else 24000)[data[2] >> 2 & 3]
    return bit_rate, (144 if mpeg1 else 72) * bit_rate // rate


@pytest.mark.parametrize("known", [True, False], ids=["length known", "length unknown"])
@pytest.mark.parametrize(
    "output_format", [f for f in FORMATS if f.codec == "mp3"], ids=lambda f: f.name
)
def test_the_first_mp3_frame_names_the_bit_rate(output_format, known: bool) -> None:
    samples = sweep(2 * output_format.sample_rate, output_format.sample_rate)
    encoder = open_encoder(output_format, samples.size if known else None)
    data = encode(encoder, samples, 5000)
    bit_rate, size = mpeg_header(data)
    assert bit_rate == output_format.bit_rate
    assert size == len(encoder.header)
    assert data[size : size + 2] == data[:2]
    # So long is the file to a player that knows no more than its size and its first frame.
    assert 1.9 < 8 * len(data) / bit_rate < 2.3


def test_wav_headers_are_correct() -> None:
    header = wav_header(44100, 1000)
    assert len(header) == 44
    assert struct.unpack_from("<I", header, 4)[0] == 36 + 2000
    assert struct.unpack_from("<I", header, 40)[0] == 2000
    live = wav_header(44100, None)
    assert live[40:] == live[4:8] == b"\xff\xff\xff\xff"
    assert wav_header(8000, 1 << 40)[40:] == b"\xff\xff\xff\xff"


@by_name
def test_an_empty_stream_is_a_valid_one(output_format: OutputFormat) -> None:
    data = open_encoder(output_format, 0).finish()
    if output_format.codec in ("pcm", "ulaw", "alaw"):
        assert data == b""
    elif output_format.codec == "opus":
        assert data.count(b"OggS") == 2
    else:
        with av.open(io.BytesIO(data)) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) < 576


def test_a_broken_promise_of_length_is_loud() -> None:
    for output_format in FORMATS:
        encoder = open_encoder(output_format, 10)
        encoder.push(np.zeros(9, np.float32))
        with pytest.raises(ValueError, match="10 samples were promised and 9 came"):
            encoder.finish()


@by_name
def test_wild_samples_do_no_harm(output_format: OutputFormat) -> None:
    rate = output_format.sample_rate
    samples = sweep(rate, rate)
    samples[1000:1200] = np.nan
    samples[2000:2100] = np.inf
    samples[3000:3100] = -1e30
    samples[4000:4100] = 7
    heard = hear(output_format, encode(open_encoder(output_format, rate), samples, 999))
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() < 2
    assert signal_to_noise(heard[5500:], samples[5500:]) > 12


@pytest.mark.parametrize("name", ["mp3_44100_128", "mp3_22050_32", "opus_48000_64"])
def test_a_steady_tone_has_no_clicks(name: str) -> None:
    output_format = find_format(name)
    assert output_format is not None
    rate = output_format.sample_rate
    tone = (0.4 * np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate)).astype(np.float32)
    heard = hear(output_format, encode(open_encoder(output_format, tone.size), tone, 321))
    error = np.abs(heard - tone)[rate // 10 : -rate // 10]
    assert error.max() < 0.06


def test_our_own_decoder_reads_every_container_we_write() -> None:
    for output_format in FORMATS:
        if output_format.codec in ("pcm", "ulaw", "alaw"):
            continue
        samples = sweep(30_000, output_format.sample_rate)
        data = encode(open_encoder(output_format, samples.size), samples, 5000)
        heard, rate = read(data)
        assert heard.size == samples.size
        assert rate == output_format.sample_rate


@by_name
def test_real_speech_stays_itself(output_format: OutputFormat) -> None:
    spoken = speech("male_librispeech_1235", output_format.sample_rate, 2.0)
    data = encode(open_encoder(output_format, spoken.size), spoken, 777)
    heard = hear(output_format, data)
    assert heard.size == spoken.size
    assert lag(heard, spoken) == 0
    assert signal_to_noise(heard, spoken) > (8 if output_format.bit_rate < 48_000 else 11)


def test_streams_do_not_touch_each_other() -> None:
    output_format = find_format("opus_48000_32")
    assert output_format is not None
    one, other = sweep(48_000, 48_000), -sweep(48_000, 48_000)[::-1]
    alone = encode(open_encoder(output_format), one, 960)
    first, second = open_encoder(output_format), open_encoder(output_format)
    parts = []
    for at in range(0, 48_000, 960):
        parts.append(first.push(one[at : at + 960]))
        second.push(other[at : at + 960])
    assert b"".join([*parts, first.finish()]) == alone


def test_abandoned_streams_are_freed_in_silence(capfd) -> None:
    for output_format in FORMATS:
        encoder = open_encoder(output_format)
        encoder.push(np.zeros(10_000, np.float32))
        del encoder
    gc.collect()
    assert capfd.readouterr() == ("", "")
