"""F0 accuracy on synthetic contours and on speech."""

import numpy as np
import pytest

from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE
from menura.engine.source_filter.pitch import REACH, PitchTracker
from menura.engine.source_filter.spectrum import STEP

from .conftest import vowel


def _track(samples, look_ahead=3):
    tracker = PitchTracker(4, look_ahead)
    lag = REACH // STEP + look_ahead
    padded = np.concatenate([samples, np.zeros(480 * 4 - len(samples) % 480, np.float32)])
    f0 = np.concatenate([tracker.push(block) for block in padded.reshape(-1, 480)])
    return f0[lag:][: len(samples) // STEP]


@pytest.mark.parametrize("hertz", [62.0, 90.0, 128.3, 207.0, 330.0, 520.0, 760.0])
def test_steady_vowels(hertz):
    f0 = _track(vowel(np.full(SAMPLE_RATE, hertz)))[20:-20]
    assert np.mean(f0 > 0) > 0.97
    cents = 1_200 * np.log2(f0[f0 > 0] / hertz)
    assert np.median(np.abs(cents)) < 12
    assert np.mean(np.abs(cents) > 100) < 0.02


def test_a_glide_over_an_octave():
    truth = 110.0 * 2.0 ** np.linspace(0, 1, SAMPLE_RATE)
    f0 = _track(vowel(truth))[20:-20]
    expected = truth[::STEP][20:-20]
    voiced = f0 > 0
    assert voiced.mean() > 0.97
    assert np.mean(np.abs(1_200 * np.log2(f0[voiced] / expected[voiced])) > 50) < 0.03


def test_a_leap_of_an_octave_is_followed():
    truth = np.where(np.arange(2 * SAMPLE_RATE) < SAMPLE_RATE, 120.0, 240.0)
    f0 = _track(vowel(truth))
    for half, hertz in ((f0[20:180], 120.0), (f0[230:-20], 240.0)):
        assert np.mean(np.abs(np.log2(np.maximum(half, 1.0) / hertz)) < 0.05) > 0.95


def test_a_breathy_voice_is_heard_by_its_lowest_harmonics():
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(0.05 * np.cos(2 * np.pi * 140.0 * k * time) for k in (1, 2, 3))
    hiss = np.diff(np.random.default_rng(1).standard_normal(SAMPLE_RATE + 1))
    f0 = _track((voice + 0.05 * hiss).astype(np.float32))[20:-20]
    assert np.mean(np.abs(np.log2(np.maximum(f0, 1.0) / 140.0)) < 0.05) > 0.9


@pytest.mark.parametrize("speaker", ["man", "woman"])
def test_a_telephone_leaves_most_of_the_pitch(speaker, request):
    samples = request.getfixturevalue(speaker)
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    # 12 dB an octave, as small microphones and loudspeakers fall.
    spectrum *= (hertz < 3_400.0) / np.sqrt(1.0 + (300.0 / np.maximum(hertz, 1.0)) ** 4)
    whole, narrow = _track(samples), _track(np.fft.irfft(spectrum, len(samples)).astype(np.float32))
    voiced = whole > 0
    away = np.abs(np.log2(np.maximum(narrow[voiced], 1.0) / whole[voiced]))
    assert np.mean(away < 1 / 12) > 0.9


def test_creak_without_a_steady_period_has_the_pitch_of_its_fundamental():
    rng = np.random.default_rng(3)
    turns = np.cumsum(110.0 * 2.0 ** np.repeat(rng.normal(0.0, 0.08, 100), 240) / SAMPLE_RATE)
    wobble = np.interp(np.arange(24_000), np.arange(0, 24_000, 240), rng.uniform(0.4, 1.0, 100))
    hiss = np.diff(rng.standard_normal(SAMPLE_RATE + 1))
    creak = 0.05 * wobble * np.cos(2 * np.pi * turns) + 0.005 * hiss
    f0 = _track(creak.astype(np.float32))[20:-20]
    assert np.mean(np.abs(np.log2(np.maximum(f0, 1.0) / 110.0)) < 0.3) > 0.9


@pytest.mark.parametrize("level", [1e-5, 0.01, 0.3])
def test_noise_has_hardly_any_pitch(level):
    noise = level * np.random.default_rng(1).standard_normal(SAMPLE_RATE).astype(np.float32)
    assert np.mean(_track(noise) > 0) < 0.15


def test_silence_has_no_pitch():
    assert not _track(np.zeros(SAMPLE_RATE // 2, np.float32)).any()


def test_speech_lies_where_its_speaker_speaks(engine, man, woman):
    for samples, low, high in ((man, 95, 130), (woman, 205, 265)):
        analysis = engine.analysis(LATENCY_PROFILES[3])
        f0 = analysis.push(samples).f0
        voiced = f0[f0 > 0]
        assert low < np.median(voiced) < high
        assert np.mean(np.abs(np.log2(voiced / np.median(voiced))) > 0.85) < 0.06
        jumps = np.abs(np.diff(np.log2(np.where(f0 > 0, f0, 1.0))))[(f0[1:] > 0) & (f0[:-1] > 0)]
        assert np.mean(jumps > 0.3) < 0.03
