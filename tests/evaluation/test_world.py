import numpy as np
import pytest
from tests.evaluation.signals import RATE, voice

from evaluation import prosody, world


def test_pitch_moves_to_the_target_and_nothing_else_in_time() -> None:
    glide = 120.0 * 2.0 ** (0.2 * np.sin(2 * np.pi * np.arange(int(1.5 * RATE)) / RATE))
    source, target = voice(glide), voice(glide * 1.7, seed=9)
    result = world.convert(source, target)
    assert len(result) == len(source)
    median = prosody.median_pitch(prosody.pitch_track(result))
    assert prosody.semitones(median, 120.0 * 1.7) == pytest.approx(0.0, abs=1.2)
    assert abs(prosody.lag_ms(source, result)) < 4.0


def test_warp_moves_a_peak_by_its_factor() -> None:
    bins = np.arange(513.0)
    peak = np.exp(-(((bins - 100.0) / 10.0) ** 2))
    assert np.argmax(world.warp(peak, 1.2)[0]) == 120
