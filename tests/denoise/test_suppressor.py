"""What a user hears of noise removal, on natural speech with noise added."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.audio.files import lag
from tests.sounds import speech

from menura.denoise import Denoiser
from menura.engine.interface import Samples

RATE = 48_000
CLIPS = ("female_ljspeech", "male_librispeech_5322", "female_kerstin_de")


@cache
def clip(name: str) -> Samples:
    return speech(name, RATE)


def white(n: int, rng: np.random.Generator) -> Samples:
    return rng.standard_normal(n).astype(np.float32)


def fan(n: int, rng: np.random.Generator) -> Samples:
    t = np.arange(n) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * t + k) / k for k in range(1, 13))
    spectrum = np.fft.rfft(rng.standard_normal(n))
    rush = np.fft.irfft(spectrum / np.sqrt(1 + (np.fft.rfftfreq(n, 1 / RATE) / 200) ** 2), n)
    return np.asarray(0.3 * hum / np.std(hum) + rush / np.std(rush), np.float32)


def spoken(clean: Samples) -> NDArray[np.bool_]:
    power = np.mean(clean[: clean.size // 960 * 960].reshape(-1, 960) ** 2, axis=1)
    return np.repeat(power > np.max(power) * 10**-3.5, 960)


def noisy(clean: Samples, noise: Samples, snr: float) -> Samples:
    mask = spoken(clean)
    level = np.std(clean[: mask.size][mask])
    return np.asarray(clean + noise * (level / np.std(noise) * 10 ** (-snr / 20)), np.float32)


def denoised(samples: Samples, cuts: list[int] | None = None, live: bool = False) -> Samples:
    stage = Denoiser(live=live)
    pieces = np.split(samples, cuts or [])
    return np.concatenate([*map(stage.push, pieces), stage.flush()])


def si_sdr(estimate: Samples, reference: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB."""
    e, r = estimate.astype(np.float64), reference.astype(np.float64)
    target = np.dot(e, r) / np.dot(r, r) * r
    return float(10 * np.log10(np.sum(target**2) / np.sum((e - target) ** 2)))


@pytest.mark.parametrize(
    ("snr", "gain", "quieter"), [(0, 4.0, 7.0), (5, 3.5, 7.0), (10, 2.5, 7.0), (15, 1.0, 6.0)]
)
@pytest.mark.parametrize("noise", [white, fan])
def test_speech_comes_out_of_noise(noise, snr: int, gain: float, quieter: float) -> None:
    gains, drops = [], []
    for index, name in enumerate(CLIPS):
        clean = clip(name)
        before = noisy(clean, noise(clean.size, np.random.default_rng(index)), snr)
        after = denoised(before)
        gains.append(si_sdr(after, clean) - si_sdr(before, clean))
        pauses = ~spoken(clean)
        left, there = (np.std(x[: pauses.size][pauses]) for x in (after, before))
        drops.append(20 * np.log10(there / left))
    if noise is white:
        assert np.mean(gains) > gain
    assert np.mean(gains) > 0
    assert np.mean(drops) > quieter


@pytest.mark.parametrize("name", CLIPS)
def test_clean_speech_is_left_alone(name: str) -> None:
    clean = clip(name)
    after = denoised(clean)
    assert si_sdr(after, clean) > 25
    mask = spoken(clean)
    level = 20 * np.log10(np.std(after[: mask.size][mask]) / np.std(clean[: mask.size][mask]))
    assert abs(level) < 0.2


@pytest.mark.parametrize("name", CLIPS)
def test_the_output_is_as_long_as_the_input_and_not_late(name: str) -> None:
    clean = clip(name)
    after = denoised(clean)
    assert after.size == clean.size
    assert lag(after, clean) == 0


@pytest.mark.parametrize("samples", [0, 1, 2, 479, 480, 481, 14_400, 47_999, 48_000, 53_000])
@pytest.mark.parametrize("live", [False, True])
def test_any_length_is_kept(samples: int, live: bool) -> None:
    assert denoised(clip(CLIPS[0])[:samples], live=live).size == samples


@given(st.lists(st.integers(0, 3 * RATE // 2), max_size=30), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_chunking_gives_the_same_output(cuts: list[int], live: bool) -> None:
    samples = noisy_stretch()
    assert np.array_equal(denoised(samples, sorted(cuts), live), denoised(samples, live=live))


@cache
def noisy_stretch() -> Samples:
    clean = clip(CLIPS[1])[: 3 * RATE // 2]
    return noisy(clean, white(clean.size, np.random.default_rng(5)), 10)


@pytest.mark.parametrize("live", [False, True])
def test_no_more_is_held_back_than_the_stated_delay(live: bool) -> None:
    stage = Denoiser(live=live)
    assert stage.delay < (0.15 if live else 1.1) * RATE
    samples = clip(CLIPS[0])
    given_out = 0
    for start in range(0, samples.size - 480, 480):
        given_out += stage.push(samples[start : start + 480]).size
        assert start + 480 - given_out <= stage.delay


def test_live_noise_falls_too() -> None:
    clean = clip(CLIPS[0])
    before = noisy(clean, white(clean.size, np.random.default_rng(3)), 5)
    after = denoised(before, live=True)
    assert si_sdr(after, clean) - si_sdr(before, clean) > 3
    assert si_sdr(denoised(clean, live=True), clean) > 10


def test_interleaved_streams_do_not_hear_each_other() -> None:
    signals = [clip(name)[:RATE] for name in CLIPS]
    stages = [Denoiser() for _ in signals]
    outputs: list[list[Samples]] = [[] for _ in signals]
    for start in range(0, RATE, 1_200):
        for stage, signal, output in zip(stages, signals, outputs, strict=True):
            output.append(stage.push(signal[start : start + 1_200]))
    for stage, signal, output in zip(stages, signals, outputs, strict=True):
        assert np.array_equal(np.concatenate([*output, stage.flush()]), denoised(signal))


def test_silence_stays_silent() -> None:
    assert not np.any(denoised(np.zeros(RATE, np.float32)))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
def test_one_absurd_sample_does_no_harm_to_the_rest(poison: float) -> None:
    clean = clip(CLIPS[0]).copy()
    poisoned = clean.copy()
    poisoned[RATE] = poison
    after = denoised(poisoned)
    assert np.all(np.isfinite(after))
    assert si_sdr(after[2 * RATE :], clean[2 * RATE :]) > 20


def test_clipped_and_constant_input_stays_bounded() -> None:
    loud = np.sign(clip(CLIPS[2])[:RATE])
    assert np.max(np.abs(denoised(np.asarray(loud, np.float32)))) < 2
    assert np.all(np.isfinite(denoised(np.ones(RATE, np.float32))))


@pytest.mark.parametrize("live", [False, True])
def test_speech_beyond_full_scale_stays_as_loud(live: bool) -> None:
    loud = 3 * clip(CLIPS[0]) / np.abs(clip(CLIPS[0])).max()
    mask = spoken(loud)
    before, after = (
        np.std(samples[: mask.size][mask]) for samples in (loud, denoised(loud, live=live))
    )
    assert 20 * np.log10(after / before) > -1


def test_the_input_is_not_changed() -> None:
    samples = clip(CLIPS[0])[:RATE].copy()
    before = samples.copy()
    denoised(samples)
    assert np.array_equal(samples, before)
