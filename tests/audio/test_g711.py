"""The tables against FFmpeg's, an independent implementation of ITU-T G.711."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from menura.audio import g711

BOTH = [
    ("pcm_mulaw", g711.ulaw_encode, g711.ulaw_decode),
    ("pcm_alaw", g711.alaw_encode, g711.alaw_decode),
]
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


@pytest.mark.parametrize(("codec", "encode", "decode"), BOTH)
def test_every_code_decodes_as_ffmpeg_decodes_it(codec, encode, decode) -> None:
    context = av.CodecContext.create(codec, "r")
    context.sample_rate = 8000
    context.layout = "mono"
    (frame,) = context.decode(av.Packet(bytes(range(256))))
    assert np.array_equal(decode(bytes(range(256))) * 32768, frame.to_ndarray()[0])


@pytest.mark.parametrize(("codec", "encode", "decode"), BOTH)
def test_every_sample_gets_the_nearest_code(codec, encode, decode) -> None:
    values = decode(bytes(range(256))) * 32768
    error = np.abs(decode(encode(EVERY_SAMPLE)) * 32768 - EVERY_SAMPLE)
    best = np.abs(np.subtract.outer(EVERY_SAMPLE[::7].astype(np.float32), values)).min(axis=1)
    assert np.array_equal(error[::7], best)


@pytest.mark.parametrize(("codec", "encode", "decode"), BOTH)
def test_decoding_and_encoding_again_changes_no_code_but_negative_zero(
    codec, encode, decode
) -> None:
    codes = bytes(range(256))
    again = encode((decode(codes) * 32768).astype(np.int16))
    changed = [(a, b) for a, b in zip(codes, again, strict=True) if a != b]
    assert changed == ([(0x7F, 0xFF)] if codec == "pcm_mulaw" else [])


def test_silence_has_the_usual_codes() -> None:
    silence = np.zeros(3, np.int16)
    assert g711.ulaw_encode(silence) == b"\xff\xff\xff"
    assert g711.alaw_encode(silence) == b"\xd5\xd5\xd5"


@given(st.binary(max_size=200), st.integers(0, 200))
def test_chunking_changes_nothing(data: bytes, cut: int) -> None:
    for _, encode, decode in BOTH:
        whole = decode(data)
        parts = np.concatenate((decode(data[:cut]), decode(data[cut:])))
        assert np.array_equal(whole, parts)
        codes = (whole * 32768).astype(np.int16)
        assert encode(codes) == encode(codes[:cut]) + encode(codes[cut:])
