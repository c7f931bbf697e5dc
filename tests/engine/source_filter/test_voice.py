"""Measuring, keeping and refusing voices."""

from dataclasses import replace

import numpy as np
import pytest

from menura.engine.interface import UnusableReferenceError
from menura.engine.source_filter.voice import SourceFilterVoice


def test_a_voice_survives_its_serialisation(engine, woman_voice):
    data = woman_voice.to_bytes()
    again = engine.load_voice(data)
    assert again.pitch == pytest.approx(woman_voice.pitch)
    np.testing.assert_array_equal(again.timbre, woman_voice.timbre)
    assert len(data) < 10_000


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04nothing", b"\x80\x04\x95pickle", b"x" * 5_000])
def test_other_bytes_are_no_voice(engine, data):
    with pytest.raises(ValueError, match="no source-filter voice"):
        engine.load_voice(data)


def test_a_damaged_voice_is_refused(woman_voice):
    broken = replace(woman_voice, pitch=float("nan"))
    with pytest.raises(ValueError, match="'pitch' is damaged"):
        SourceFilterVoice.from_bytes(broken.to_bytes())


def test_women_are_higher_and_shorter_than_men(man_voice, woman_voice):
    assert woman_voice.pitch > man_voice.pitch + 0.7
    assert woman_voice.tract > 1.04 * man_voice.tract
    assert 6_000 < man_voice.bandwidth < 8_500 < woman_voice.bandwidth


def test_the_length_of_the_tract_is_that_of_the_speaker_not_of_the_words(engine, man):
    halves = [engine.measure([part]).voice.tract for part in np.array_split(man, 2)]
    assert halves[0] == pytest.approx(halves[1], rel=0.08)


@pytest.mark.parametrize(
    "reference",
    [np.zeros(0), np.zeros(48_000), 0.1 * np.random.default_rng(0).standard_normal(48_000)],
)
def test_no_speech_is_refused_with_the_figures(engine, reference):
    with pytest.raises(UnusableReferenceError, match=r"\d s of voiced speech"):
        engine.measure([reference.astype(np.float32)])


def test_no_reference_is_refused(engine):
    with pytest.raises(UnusableReferenceError, match="No reference"):
        engine.measure([])


def test_flaws_are_told(engine, man, woman):
    def warnings(samples: np.ndarray) -> str:
        return " ".join(engine.measure([samples.astype(np.float32)]).warnings)

    assert "short" in warnings(man[:60_000])
    assert "clipped" in warnings(np.clip(woman * 12, -1, 1))
    noise = 0.03 * np.random.default_rng(2).standard_normal(len(woman))
    assert "noisy" in warnings(woman + noise)
    spectrum = np.fft.rfft(woman)
    spectrum[int(len(spectrum) * 3_400 / 12_000) :] = 0
    assert "kHz" in warnings(np.fft.irfft(spectrum, len(woman)))
    assert warnings(np.concatenate([woman, woman])) == ""
