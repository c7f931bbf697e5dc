import numpy as np
import pytest
from evaluation.phones import edit_distance, phone_error, phones_of
from tests.evaluation.signals import voice


def test_edit_distance_counts_each_kind_of_error() -> None:
    assert edit_distance("abc", "abc") == 0
    assert edit_distance("abc", "axc") == 1
    assert edit_distance("abc", "ac") == 1
    assert edit_distance("abc", "abbc") == 1
    assert edit_distance("", "abc") == 3


def test_no_phones_is_no_figure() -> None:
    assert np.isnan(phone_error([], ["AA"]))
    assert phone_error(["AA", "B"], ["AA", "B"]) == 0.0
    assert phone_error(["AA", "B"], []) == 1.0


def test_the_same_clip_gives_the_same_phones_whatever_was_heard_before() -> None:
    one, other = voice(140.0), voice(210.0, seed=4)
    first = phones_of(one)
    phones_of(other)
    assert phones_of(one) == first


@pytest.mark.parametrize("gain", [0.02, 3.0])
def test_level_does_not_change_what_is_heard(gain: float) -> None:
    clip = voice(140.0) * 0.3
    assert phones_of(clip) == phones_of((clip * gain).astype(np.float32))
