from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from evaluation.ctc_phones import ctc_phones_of
from evaluation.phones import phones_of
from evaluation.recogniser import edit_distance, error_rate
from evaluation.words import words_of
from tests.evaluation.signals import voice

SPEECH = Path(__file__).parents[2] / "examples" / "speech_male.wav"


def test_edit_distance_counts_each_kind_of_error() -> None:
    assert edit_distance("abc", "abc") == 0
    assert edit_distance("abc", "axc") == 1
    assert edit_distance("abc", "ac") == 1
    assert edit_distance("abc", "abbc") == 1
    assert edit_distance("", "abc") == 3


def test_no_truth_is_no_figure() -> None:
    assert np.isnan(error_rate([], ["AA"]))
    assert error_rate(["AA", "B"], ["AA", "B"]) == 0.0
    assert error_rate(["AA", "B"], []) == 1.0


def test_the_same_clip_gives_the_same_phones_whatever_was_heard_before() -> None:
    one, other = voice(140.0), voice(210.0, seed=4)
    first = phones_of(one)
    phones_of(other)
    assert phones_of(one) == first


@pytest.mark.parametrize("gain", [0.02, 3.0])
def test_level_does_not_change_what_is_heard(gain: float) -> None:
    clip = voice(140.0) * 0.3
    assert phones_of(clip) == phones_of((clip * gain).astype(np.float32))


def test_the_network_hears_the_phones_of_real_speech_whatever_their_level() -> None:
    clip = sf.read(SPEECH, frames=3 * 24000, dtype="float32")[0]
    heard = ctc_phones_of(clip)
    assert " ".join(heard).startswith("t\u0361\u0283 \u00e6 p t \u025d s \u025b v \u0259 n")
    assert ctc_phones_of((clip * 0.02).astype(np.float32)) == heard


def test_words_of_real_speech_are_heard_whatever_its_level() -> None:
    clip = sf.read(SPEECH, frames=3 * 24000, dtype="float32")[0]
    heard = words_of(clip)
    assert heard[:3] == ["chapter", "seven", "the"]
    assert words_of((clip * 0.02).astype(np.float32)) == heard
