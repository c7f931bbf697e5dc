import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.files import lag, signal_to_noise, sweep

from menura import errors
from menura.audio import g711
from menura.audio.live import LIVE_ENCODINGS, open_live_decoder

WORDS = np.random.default_rng(5).integers(-20_000, 20_000, 500).astype("<i2")
ENCODED = {
    "s16le": WORDS.tobytes(),
    "f32le": (WORDS / 32768).astype("<f4").tobytes(),
    "ulaw": g711.ulaw_encode(WORDS),
}


@given(st.sampled_from(sorted(ENCODED)), st.lists(st.integers(0, 99), max_size=30))
def test_odd_pieces_give_the_same_samples(encoding, cuts) -> None:
    data = ENCODED[encoding]
    decoder = open_live_decoder(encoding, 8000)
    blocks = []
    for size in cuts:
        blocks.append(decoder.push(data[:size]))
        data = data[size:]
    blocks.append(decoder.push(data))
    heard = np.concatenate(blocks)
    assert heard.dtype == np.float32
    if encoding == "ulaw":
        assert np.array_equal(heard, g711.ulaw_decode(ENCODED["ulaw"]))
    else:
        assert np.array_equal(heard, WORDS / np.float32(32768))


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_opus_packets(layout: str) -> None:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, layout, "flt"
    encoder.bit_rate = 96_000
    encoder.open()
    meant = sweep(48_000, 48_000)
    channels = 1 if layout == "mono" else 2
    decoder = open_live_decoder("opus", 48_000)
    blocks = []
    for at in range(0, meant.size, 960):
        frame = av.AudioFrame.from_ndarray(
            np.repeat(meant[at : at + 960], channels)[None].copy(), "flt", layout
        )
        frame.sample_rate, frame.pts = 48_000, at
        for packet in encoder.encode(frame):
            blocks.append(decoder.push(bytes(packet)))
            assert blocks[-1].size == 960
    heard = np.concatenate(blocks)
    assert lag(heard, meant) == 312
    assert signal_to_noise(heard[312:], meant) > 25


def test_a_bad_packet_is_refused_and_the_stream_goes_on() -> None:
    decoder = open_live_decoder("opus", 48_000)
    for bad in (b"\xff" * 30, b"\x03\xff\x00", bytes(100_000)):
        with pytest.raises(errors.InvalidAudio, match=f"{len(bad)} bytes"):
            decoder.push(bad)
    assert decoder.push(b"").size == 0
    assert decoder.push(b"\xf8\xff\xfe").size == 960


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_packets_are_refused_or_decoded(packets: list[bytes]) -> None:
    decoder = open_live_decoder("opus", 48_000)
    for packet in packets:
        try:
            assert decoder.push(packet).size <= 5760
        except errors.InvalidAudio:
            continue


@pytest.mark.parametrize(
    ("encoding", "rate", "words"),
    [
        ("mp3", 44100, "'mp3' is not one of"),
        ("ulaw", 16000, "8000, not 16000"),
        ("opus", 24000, "48000, not 24000"),
        ("s16le", 7999, "7999"),
        ("f32le", 96000, "96000"),
    ],
)
def test_unknown_encodings_and_rates_are_named(encoding, rate: int, words: str) -> None:
    with pytest.raises(errors.InvalidParameters, match=words):
        open_live_decoder(encoding, rate)


def test_every_encoding_opens() -> None:
    for encoding in LIVE_ENCODINGS:
        rate = {"ulaw": 8000}.get(encoding, 48_000)
        assert open_live_decoder(encoding, rate).sample_rate == rate
