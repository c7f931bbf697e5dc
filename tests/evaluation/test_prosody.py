import numpy as np
import pytest
from tests.evaluation.signals import RATE, voice

from evaluation import prosody

GLIDE = 150.0 * 2.0 ** (0.3 * np.sin(2 * np.pi * np.arange(int(1.5 * RATE)) / RATE))


def test_a_raised_voice_gives_the_known_offset_and_keeps_its_contour() -> None:
    low = prosody.pitch_track(voice(GLIDE))
    high = prosody.pitch_track(voice(GLIDE * 2.0 ** (4 / 12)))
    offset = prosody.semitones(prosody.median_pitch(high), prosody.median_pitch(low))
    assert offset == pytest.approx(4.0, abs=0.1)
    assert prosody.pitch_correlation(low, high) > 0.99
    assert prosody.voicing_error(low, high) < 0.05


def test_identical_clips_correlate_fully_and_do_not_lag() -> None:
    clip = voice(GLIDE)
    track = prosody.pitch_track(clip)
    assert prosody.pitch_correlation(track, track) == pytest.approx(1.0)
    assert prosody.voicing_error(track, track) == 0.0
    energy = prosody.energy_track(clip)
    assert prosody.energy_correlation(energy, energy) == pytest.approx(1.0)
    assert prosody.lag_ms(clip, clip) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("milliseconds", [-12, 3, 40])
def test_a_moved_copy_gives_its_lag(milliseconds: int) -> None:
    clip = voice(GLIDE)
    moved = np.roll(clip, milliseconds * RATE // 1000)
    assert prosody.lag_ms(clip, moved) == pytest.approx(milliseconds, abs=0.5)


def test_noise_is_not_voiced() -> None:
    noise = 0.05 * np.random.default_rng(3).standard_normal(RATE).astype(np.float32)
    assert np.mean(prosody.pitch_track(noise) > 0) < 0.1


def test_nothing_voiced_is_no_figure_rather_than_a_good_one() -> None:
    silent = np.zeros(50)
    assert np.isnan(prosody.pitch_correlation(silent, silent))
    assert np.isnan(prosody.median_pitch(silent))


def test_level_follows_a_gain() -> None:
    clip = voice(GLIDE)
    change = prosody.speech_level(0.5 * clip) - prosody.speech_level(clip)
    assert change == pytest.approx(-6.02, abs=0.05)
