"""The live resampler: exact, aligned, the same in any chunking, and quick."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.threads import native_threads

from menura.audio.low_delay import TAPS, LowDelayResampler
from menura.audio.resample import resampled_length

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000]
PAIRS = [(rate, 24000) for rate in RATES] + [(24000, rate) for rate in RATES]


def whole(samples, from_rate, to_rate):
    stage = LowDelayResampler(from_rate, to_rate)
    return np.concatenate((stage.push(samples), stage.flush()))


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_a_tone_stays_that_tone_at_its_place(from_rate, to_rate):
    time = np.arange(from_rate) / from_rate
    out = whole(np.sin(2 * np.pi * 440 * time).astype(np.float32), from_rate, to_rate)
    assert out.size == to_rate
    expected = np.sin(2 * np.pi * 440 * np.arange(to_rate) / to_rate)
    inner = slice(200, -200)
    assert np.abs(out[inner] - expected[inner]).max() < 1e-3


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_no_more_is_held_back_than_stated(from_rate, to_rate):
    stage = LowDelayResampler(from_rate, to_rate)
    noise = np.random.default_rng(1).standard_normal(from_rate // 2).astype(np.float32)
    given_out = 0
    for start in range(0, noise.size, 37):
        piece = noise[start : start + 37]
        given_out += stage.push(piece).size
        held = (start + piece.size) / from_rate - given_out / to_rate
        if start > 4 * TAPS:
            assert held <= stage.delay_seconds + 1 / to_rate


@settings(max_examples=25, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    sizes=st.lists(st.integers(0, 700), max_size=30),
    seed=st.integers(0, 2**16),
)
def test_any_chunking_gives_the_same_samples(pair, sizes, seed):
    noise = np.random.default_rng(seed).standard_normal(sum(sizes)).astype(np.float32)
    stage = LowDelayResampler(*pair)
    pieces = [stage.push(piece) for piece in np.split(noise, np.cumsum(sizes)[:-1])]
    out = np.concatenate([*pieces, stage.flush()])
    assert out.size == resampled_length(noise.size, *pair)
    np.testing.assert_array_equal(out, whole(noise, *pair))


@pytest.mark.parametrize("pair", [(30_007, 24_000), (25_533, 24_000), (47_497, 48_000)])
def test_at_odd_rates_chunks_differ_by_a_millionth_at_most(pair):
    rng = np.random.default_rng(1)
    noise = (0.3 * rng.standard_normal(60_000)).astype(np.float32)
    plain = whole(noise, *pair)
    for longest in (4, 700, 30_000):
        stage = LowDelayResampler(*pair)
        cuts = np.cumsum(rng.integers(0, longest, 400))
        pieces = [stage.push(piece) for piece in np.split(noise, cuts[cuts < noise.size])]
        out = np.concatenate([*pieces, stage.flush()])
        assert out.size == plain.size
        np.testing.assert_allclose(out, plain, rtol=0, atol=1e-6)


def test_it_brings_no_threads():
    before = native_threads()
    stages = [LowDelayResampler(48_000, 24_000) for _ in range(5)]
    for stage in stages:
        stage.push(np.zeros(4800, np.float32))
    assert native_threads() == before
