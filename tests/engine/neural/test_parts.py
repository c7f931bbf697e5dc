"""The parts of the trained engine that need no weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from menura.engine.neural import features, filters, tract
from menura.engine.neural.excitation import TAPS, PulseTrain
from menura.engine.neural.pitch import PitchRange
from menura.engine.neural.synthesis import Synthesiser

RATE = 24_000


def tone(hertz: float, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def pulses(f0: float, seconds: float = 1.0) -> np.ndarray:
    out = np.zeros(int(seconds * RATE), np.float32)
    out[:: round(RATE / f0)] = 0.5
    return out


class TestFeatures:
    def test_mel_peaks_at_the_frequency_of_a_tone(self) -> None:
        mel = features.log_mel(features.power(tone(1_000), 100))[50]
        corners = np.linspace(
            features.mel_scale(60), features.mel_scale(features.MEL_TOP), features.MELS + 2
        )
        expected = int(np.argmin(np.abs(corners[1:-1] - features.mel_scale(1_000))))
        assert abs(int(mel.argmax()) - expected) <= 1

    def test_warp_reads_higher_frequencies(self) -> None:
        plain = features.log_mel(features.power(tone(2_000), 100))[50].argmax()
        warped = features.log_mel(features.power(tone(2_000), 100, 1.25), 1.25)[50].argmax()
        assert warped < plain

    def test_periodicity_tells_pulses_from_noise(self) -> None:
        noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
        f0 = np.full(80, 120.0, np.float32)
        voiced = features.periodicity(features.centred_power(pulses(120), 80, 5), f0)
        rough = features.periodicity(features.centred_power(noise, 80, 5), f0)
        assert voiced[5:-5].mean() > 0.9
        assert rough[5:-5].mean() < 0.35

    def test_energy_follows_level(self) -> None:
        loud, soft = (features.energy(tone(300, level=x), 50, 5)[20:30].mean() for x in (0.2, 0.02))
        assert loud - soft == pytest.approx(np.log(100), abs=0.05)

    def test_hold_keeps_the_last_voiced_value(self) -> None:
        held = features.hold(np.array([0, 100, 0, 0, 120, 0], np.float32), 150.0)
        assert held.tolist() == [150, 100, 100, 100, 120, 120]

    def test_running_mean_takes_gain_and_equaliser_away(self) -> None:
        rng = np.random.default_rng(1)
        mel = rng.normal(-6, 1, (900, 80)).astype(np.float32)
        tilted = mel + 2.0 + np.linspace(-1, 1, 80).astype(np.float32)
        prior = np.full(80, -5.0, np.float32)
        one, _ = features.RunningMean(prior).push(mel)
        other, _ = features.RunningMean(prior).push(tilted)
        assert np.abs(one[800:] - other[800:]).mean() < 0.15

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 59))
    def test_running_mean_does_not_see_chunks(self, cut: int) -> None:
        mel = np.random.default_rng(2).normal(-6, 2, (60, 80)).astype(np.float32)
        prior = np.zeros(80, np.float32)
        whole, levels = features.RunningMean(prior).push(mel)
        state = features.RunningMean(prior)
        first, second = state.push(mel[:cut]), state.push(mel[cut:])
        assert np.array_equal(whole, np.concatenate((first[0], second[0])))
        assert np.array_equal(levels, np.concatenate((first[1], second[1])))


class TestPulseTrain:
    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
    def test_any_chunking_gives_the_same_train(self, sizes: list[int]) -> None:
        f0 = np.random.default_rng(3).uniform(70, 400, sum(sizes) + 1).astype(np.float32)
        whole = PulseTrain().push(f0)
        train, parts = PulseTrain(), []
        start = 0
        for size in [*sizes, 1]:
            parts.append(train.push(f0[start : start + size]))
            start += size
        assert np.allclose(whole, np.concatenate(parts), atol=1e-6)

    def test_has_unit_power_and_the_right_pitch(self) -> None:
        train = PulseTrain().push(np.full(201, 150.0, np.float32))[TAPS:]
        assert np.mean(train**2) == pytest.approx(1.0, rel=0.15)
        spectrum = np.abs(np.fft.rfft(train[:24_000] * np.hanning(24_000)))
        assert int(spectrum[50:200].argmax()) + 50 == pytest.approx(150, abs=1)


class TestSynthesiser:
    @staticmethod
    def controls(frames: int) -> np.ndarray:
        rng = np.random.default_rng(4)
        return rng.normal(-3, 0.5, (frames, filters.CONTROLS)).astype(np.float32) * np.float32(
            [*[1] * filters.GAINS, *[0.05] * filters.ALLPASS, *[1] * filters.NOISE]
        )

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    def test_any_chunking_gives_the_same_samples(self, sizes: list[int]) -> None:
        total = sum(sizes)
        controls = self.controls(total)
        f0 = np.linspace(100, 200, total + 1).astype(np.float32)
        whole = Synthesiser(1).push(controls, f0[:-1], f0[1:])
        state, parts, start = Synthesiser(1), [], 0
        for size in sizes:
            rows = slice(start, start + size)
            parts.append(state.push(controls[rows], f0[rows], f0[start + 1 : start + size + 1]))
            start += size
        assert np.allclose(whole, np.concatenate(parts), atol=1e-5)

    def test_filters_are_as_loud_as_drawn(self) -> None:
        controls = np.full((100, filters.CONTROLS), -12.0, np.float32)
        controls[:, filters.GAINS : filters.HARMONIC] = 0.0
        controls[:, filters.HARMONIC :] = np.log(0.1)
        f0 = np.full(100, 120.0, np.float32)
        out = Synthesiser(2).push(controls, f0, f0)
        assert np.sqrt(np.mean(out[2_400:] ** 2)) == pytest.approx(0.1, rel=0.1)

    def test_responses_are_finite(self) -> None:
        taper = filters.response_taper()
        outside = taper[filters.AFTER : filters.FFT - filters.BEFORE]
        assert np.all(outside == 0)


def test_pitch_range_finds_the_median_after_a_syllable() -> None:
    medians = PitchRange().push(np.full(60, 210.0, np.float32))
    assert np.exp(medians[-1]) == pytest.approx(210, rel=0.03)


def test_moved_formants_rise_by_the_ratio() -> None:
    mel = features.log_mel(features.power(tone(1_500), 60))[30:31]
    up = tract.moved(mel, np.array([1.2], np.float32))
    expected = features.log_mel(features.power(tone(1_800), 60))[30:31]
    assert abs(int(up.argmax()) - int(expected.argmax())) <= 1


def test_tract_ratio_is_bounded_and_one_for_the_same_voice() -> None:
    assert tract.tract_ratio(120, 120) == 1.0
    assert 1.1 < tract.tract_ratio(110, 220) < 1.25
    assert tract.tract_ratio(60, 900) < 1.3
