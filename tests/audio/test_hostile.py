"""Real files, damaged in every way: refused in words or decoded to an end, and nothing else."""

import io
import random
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.files import make_file, sweep

from menura import errors
from menura.audio.decode import open_decoder

FILES = [
    ("wav", "pcm_s16le", 2, {}),
    ("wav", "adpcm_ms", 1, {}),
    ("mp3", "libmp3lame", 1, {}),
    ("ipod", "aac", 2, {}),
    ("mp4", "aac", 1, {"movflags": "+faststart"}),
    ("mp4", "aac", 1, {"movflags": "frag_every_frame+empty_moov"}),
    ("mov", "alac", 2, {}),
    ("adts", "aac", 1, {}),
    ("ogg", "vorbis", 2, {}),
    ("ogg", "flac", 1, {}),
    ("flac", "flac", 2, {}),
    ("matroska", "aac", 2, {}),
    ("asf", "wmav2", 2, {}),
    ("aiff", "pcm_s16be", 8, {}),
    ("avi", "libmp3lame", 1, {}),
    ("mpegts", "aac", 1, {}),
    ("mpeg", "mp2", 1, {}),
    ("flv", "aac", 1, {}),
    ("caf", "alac", 1, {}),
    ("au", "pcm_mulaw", 1, {}),
    ("ac3", "ac3", 2, {}),
    ("wv", "wavpack", 1, {}),
]
WORDS = [
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x01",
    b"\x00\x01\x00\x00\x00\x01",
]


@lru_cache
def made(index: int) -> bytes:
    container, codec, channels, options = FILES[index]
    return make_file(sweep(11025, 44100), container, codec, 44100, channels, options=options)


def check(data: bytes) -> int:
    """Decode and return the number of samples, 0 for a refusal."""
    refusal = None
    try:
        decoder = open_decoder(io.BytesIO(data))
    except errors.MenuraError as error:
        refusal = error
    if refusal is not None:
        assert refusal.http == 400
        assert refusal.message.endswith(".")
        return 0
    size = 0
    while (block := decoder.read()).size:
        assert block.dtype == np.float32
        assert np.isfinite(block).all()
        assert np.abs(block).max() <= 16
        size += block.size
        if size > 10_000_000:
            break
    decoder.close()
    assert size
    return size


damage = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "word", "cut", "insert", "copy", "end"]),
        st.floats(0, 1),
        st.integers(0, 255),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def damaged(data: bytes, blows: list) -> bytes:
    out = bytearray(data)
    for kind, where, value, early in blows:
        if not out:
            break
        at = int(where * (min(len(out), 500) if early else len(out) - 1))
        at = min(at, len(out) - 1)
        if kind == "flip":
            out[at] ^= 1 << value % 8
        elif kind == "set":
            out[at] = value
        elif kind == "word":
            word = WORDS[value % len(WORDS)]
            out[at : at + len(word)] = word
        elif kind == "cut":
            del out[at : at + 1 + value]
        elif kind == "insert":
            out[at:at] = random.Random(value).randbytes(1 + value)
        elif kind == "copy":
            out[at : at + value] = out[value : 2 * value]
        elif kind == "end":
            del out[max(at, 1) :]
    return bytes(out)


@settings(max_examples=400, deadline=None)
@given(index=st.integers(0, len(FILES) - 1), blows=damage)
def test_damaged_files(index: int, blows: list) -> None:
    check(damaged(made(index), blows))


@pytest.mark.parametrize("index", range(len(FILES)))
def test_files_cut_off_anywhere(index: int) -> None:
    data = made(index)
    assert check(data)
    places = {*range(40), *(len(data) * k // 23 for k in range(1, 23)), len(data) - 1}
    for place in sorted(places):
        check(data[:place])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes(data: bytes) -> None:
    check(data)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [b"OggS", b"fLaC", b"\x1a\x45\xdf\xa3", b"\0\0\0\x20ftyp", b"RIFF\0\1\0\0WAVE", b"FLV\x01",
         b"caff\0\1\0\0", b"FORM\0\0\1\0AIFF", b"#!AMR\n", b"\x0b\x77", b"wvpk", b"\x47", b".snd",
         b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"RIFF\0\1\0\0AVI ", b"\0\0\1\xba", b".RMF", b"MAC "]
    ),
    st.binary(max_size=2000),
)  # fmt: skip
def test_random_bytes_behind_a_known_beginning(magic: bytes, data: bytes) -> None:
    check(magic + data)


def test_nothing_is_written_to_the_terminal(capfd) -> None:
    for index in range(len(FILES)):
        data = made(index)
        check(data[: len(data) // 2])
        check(damaged(data, [("set", 0.5, 7, False), ("word", 0.3, 2, True)]))
    assert capfd.readouterr() == ("", "")


def test_files_decoded_in_turns_do_not_touch_each_other() -> None:
    alone = [check(made(index)) for index in (2, 8)]
    decoders = [open_decoder(io.BytesIO(made(index))) for index in (2, 8)]
    sizes = [0, 0]
    open_ones = {0, 1}
    while open_ones:
        for which in sorted(open_ones):
            block = decoders[which].read()
            sizes[which] += block.size
            if not block.size:
                open_ones.discard(which)
    assert sizes == alone
