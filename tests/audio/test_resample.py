import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from menura.audio.resample import (
    FULL_QUALITY,
    LOW_DELAY_QUALITY,
    Resampler,
    resampled_length,
)

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000]
PAIRS = [(rate, 24000) for rate in RATES] + [(24000, rate) for rate in RATES]


def run(stage: Resampler, pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([*map(stage.push, pieces), stage.flush()])


@given(st.integers(0, 10**9), st.sampled_from(PAIRS))
def test_the_length_rule_rounds_to_the_nearest_sample(samples: int, rates) -> None:
    a, b = rates
    length = resampled_length(samples, a, b)
    assert abs(2 * (length * a - samples * b)) <= a
    assert isinstance(length, int)


@pytest.mark.parametrize("rates", PAIRS)
@pytest.mark.parametrize("quality", [FULL_QUALITY, LOW_DELAY_QUALITY])
def test_the_length_is_exact_and_the_sound_stays_in_place(rates, quality) -> None:
    a, b = rates
    for samples in (0, 1, 2, a // 7, a // 2 + 13):
        time = np.arange(samples) / a
        tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
        out = run(Resampler(a, b, quality), [tone])
        assert out.size == resampled_length(samples, a, b)
        assert out.dtype == np.float32
        if samples > a // 3:
            meant = np.sin(2 * np.pi * 440 * np.arange(out.size) / b)
            inner = slice(b // 50, -b // 50)
            assert np.abs(out[inner] - meant[inner]).max() < 5e-3


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [(44100, 24000), (16000, 24000), (24000, 44100), (24000, 8000), (24000, 24000)]
    ),
    st.lists(st.integers(0, 3000), max_size=12),
    st.sampled_from([FULL_QUALITY, LOW_DELAY_QUALITY]),
)
def test_any_chunking_gives_the_same_samples(rates, sizes, quality) -> None:
    noise = np.random.default_rng(1).standard_normal(sum(sizes)).astype(np.float32)
    pieces = np.split(noise, np.cumsum(sizes)[:-1]) if sizes else []
    whole = run(Resampler(*rates, quality), [noise])
    assert np.array_equal(run(Resampler(*rates, quality), list(pieces)), whole)


@pytest.mark.parametrize("rates", PAIRS)
def test_no_more_is_held_back_than_stated(rates) -> None:
    a, b = rates
    stage = Resampler(a, b)
    taken = given_out = 0
    for _ in range(60):
        given_out += stage.push(np.zeros(a // 100, np.float32)).size
        taken += a // 100
        assert resampled_length(taken, a, b) - given_out <= stage.delay
    assert stage.delay <= b // 8


def test_equal_rates_pass_through() -> None:
    stage = Resampler(24000, 24000)
    samples = np.arange(10, dtype=np.float32)
    assert stage.push(samples) is samples
    assert stage.delay == 0
    assert stage.flush().size == 0


def test_rates_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 24000)
