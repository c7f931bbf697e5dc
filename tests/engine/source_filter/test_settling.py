"""A speaker's median F0 is told early, and then left alone."""

import numpy as np
import pytest

from menura.engine.source_filter.settling import PAUSE, PRIOR_PITCH, Settling

WORD, GAP = 80, 40


def _spoken(median: float, seconds: float, seed: int = 1) -> np.ndarray:
    """Return F0 of words of 0.4 s, each falling, of sentences that fall over 2 s, around a median
    in Hz."""
    rng = np.random.default_rng(seed)
    f0 = np.zeros(int(seconds * 200), np.float32)
    for start in range(20, len(f0) - WORD, WORD + GAP):
        sentence = 0.15 - 0.3 * (start % 400) / 400
        melody = sentence + rng.normal(0.0, 0.06) + np.linspace(0.1, -0.1, WORD)
        f0[start : start + WORD] = median * 2.0**melody
    return f0[: len(f0) // 4 * 4]


def _told(f0: np.ndarray, wait: int = 0) -> np.ndarray:
    """Return the expected median in semitones after each 20 ms."""
    settling, told = Settling(wait), []
    for tick in f0.reshape(-1, 4):
        settling.push(tick)
        told.append(settling.median)
    return 12.0 * np.array(told)


@pytest.mark.parametrize("median", [85.0, 120.0, 180.0, 240.0])
def test_it_is_near_after_two_seconds_and_stays(median):
    told = _told(_spoken(median, 20.0)) - 12.0 * np.log2(median)
    assert np.abs(told[100:]).max() < 2.0
    assert np.abs(told[500:]).max() < 1.0
    assert np.abs(np.diff(told[100:])).max() < 0.3


def test_before_anything_is_heard_it_lies_between_men_and_women():
    settling = Settling(0)
    settling.push(np.zeros(400, np.float32))
    assert settling.median == PRIOR_PITCH


def test_blocks_of_any_length_tell_the_same():
    f0 = _spoken(140.0, 5.0)
    whole, pieces = Settling(32), Settling(32)
    whole.push(f0)
    for start in range(0, len(f0), 8):
        pieces.push(f0[start : start + 8])
    assert whole.median == pieces.median


def test_a_long_pause_changes_nothing():
    f0 = _spoken(140.0, 5.0)
    settling = Settling(0)
    settling.push(np.concatenate([f0, np.zeros(PAUSE, np.float32)]))
    known = settling.median
    settling.push(np.zeros(12_000, np.float32))
    assert settling.median == known


def test_another_speaker_is_followed():
    told = _told(np.concatenate([_spoken(110.0, 15.0), _spoken(210.0, 40.0, seed=2)]))
    assert abs(told[740] - 12 * np.log2(110.0)) < 1.0
    assert abs(told[-1] - 12 * np.log2(210.0)) < 1.5
