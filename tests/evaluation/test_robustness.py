import numpy as np
import pytest
from evaluation.prosody import speech_level
from evaluation.robustness import noises, pink, with_noise
from tests.evaluation.signals import RATE, voice


def test_noise_lies_ten_decibels_under_the_speech() -> None:
    clip = voice(140.0)
    noise = with_noise(clip, 0) - clip
    level = 10 * np.log10(np.mean(noise.astype(np.float64) ** 2))
    assert level == pytest.approx(speech_level(clip) - 10.0, abs=0.1)


def test_pink_noise_falls_by_three_decibels_an_octave() -> None:
    power = np.abs(np.fft.rfft(pink(4 * RATE, np.random.default_rng(0)))) ** 2
    octaves = [10 * np.log10(power[4 * f : 8 * f].mean()) for f in (200, 400, 800, 1600)]
    assert np.diff(octaves) == pytest.approx(-3.0, abs=0.7)


def test_the_inputs_are_what_their_names_say() -> None:
    made = noises()
    assert not made["silence"].any()
    assert all(np.isfinite(clip).all() and np.abs(clip).max() < 1.0 for clip in made.values())
