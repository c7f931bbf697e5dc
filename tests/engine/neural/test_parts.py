"""The parts of the neural engine that need no weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sounds import speech

from menura.engine.neural import bands, mel
from menura.engine.neural.controls import controls_of, hold
from menura.engine.source_filter.spectrum import BINS
from menura.engine.source_filter.spectrum import mel as mel_scale

RATE = 24_000


def tone(hertz: float, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


class TestMel:
    def test_mel_peaks_at_the_frequency_of_a_tone(self) -> None:
        heard = mel.log_mel(mel.power(tone(1_000), 100))[50]
        corners = np.linspace(
            mel_scale(np.array(60.0)), mel_scale(np.array(mel.MEL_TOP)), mel.MELS + 2
        )
        expected = int(np.argmin(np.abs(corners[1:-1] - mel_scale(np.array(1_000.0)))))
        assert abs(int(heard.argmax()) - expected) <= 1

    def test_warp_reads_higher_frequencies(self) -> None:
        plain = mel.log_mel(mel.power(tone(2_000), 100))[50].argmax()
        warped = mel.log_mel(mel.power(tone(2_000), 100, 1.25), 1.25)[50].argmax()
        assert warped < plain

    def test_running_mean_takes_gain_and_equaliser_away(self) -> None:
        rng = np.random.default_rng(1)
        heard = rng.normal(-6, 1, (900, 80)).astype(np.float32)
        tilted = heard + 2.0 + np.linspace(-1, 1, 80).astype(np.float32)
        prior = np.full(80, -5.0, np.float32)
        one, _ = mel.RunningMean(prior).push(heard)
        other, _ = mel.RunningMean(prior).push(tilted)
        assert np.abs(one[800:] - other[800:]).mean() < 0.15

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 59))
    def test_running_mean_does_not_see_chunks(self, cut: int) -> None:
        heard = np.random.default_rng(2).normal(-6, 2, (60, 80)).astype(np.float32)
        prior = np.zeros(80, np.float32)
        whole, levels = mel.RunningMean(prior).push(heard)
        state = mel.RunningMean(prior)
        first, second = state.push(heard[:cut]), state.push(heard[cut:])
        assert np.array_equal(whole, np.concatenate((first[0], second[0])))
        assert np.array_equal(levels, np.concatenate((first[1], second[1])))

    @pytest.mark.parametrize("noise", [0.0, 3e-4, 3e-3], ids=["silence", "-70 dBFS", "-50 dBFS"])
    @pytest.mark.parametrize("spoken_before", [True, False])
    def test_speech_after_a_long_pause_is_measured_by_speech(
        self, noise: float, spoken_before: bool
    ) -> None:
        said = speech("male_librispeech_1235", seconds=5.0)
        pause = noise * np.random.default_rng(3).standard_normal(40 * RATE).astype(np.float32)
        before = np.concatenate((said, pause)) if spoken_before else pause
        spoken = mel.log_mel(mel.power(said, 500))
        prior = np.asarray((spoken - mel.level_of(spoken)[:, None]).mean(axis=0))
        stream = mel.RunningMean(prior)
        stream.push(mel.log_mel(mel.power(before, len(before) // mel.HOP)))
        shape, relative = stream.push(spoken)
        wanted, level = mel.RunningMean(prior).push(spoken)
        assert np.abs(shape[100:] - wanted[100:]).mean() < 0.3
        assert np.abs(relative[100:] - level[100:]).mean() < 0.3

    def test_a_click_is_no_speech_that_outdoes_what_was_heard(self) -> None:
        said = speech("male_librispeech_1235", seconds=5.0)
        clicked = 0.02 * said
        clicked[len(said) // 2] = 1.0
        prior = np.full(mel.MELS, -4.0, np.float32)
        plain, with_click = (
            mel.RunningMean(prior).push(mel.log_mel(mel.power(each, 500)))[1]
            for each in (0.02 * said, clicked)
        )
        later = slice(300, 500)
        assert np.abs(plain[later] - with_click[later]).mean() < 1.0


class TestBands:
    def test_a_flat_envelope_is_flat_in_bands(self) -> None:
        flat = np.full((2, BINS), -3.0, np.float32)
        assert flat @ bands.BANK == pytest.approx(np.full((2, bands.COUNT), -3.0), abs=1e-4)
        assert bands.level(flat @ bands.BANK) == pytest.approx([-3.0, -3.0], abs=1e-3)

    def test_spreading_and_averaging_agree(self) -> None:
        smooth = np.sin(np.linspace(0, 6, bands.COUNT, dtype=np.float32))[None]
        assert np.abs(smooth @ bands.BAND_TO_BIN @ bands.BANK - smooth)[:, 3:].max() < 0.05

    @pytest.mark.parametrize("ratio", [0.85, 1.0, 1.2])
    def test_a_peak_moves_by_the_ratio(self, ratio: float) -> None:
        peak = np.exp(-0.5 * ((np.log(bands.CENTRES) - np.log(1_500.0)) / 0.1) ** 2)
        moved = bands.warped(peak[None].astype(np.float32), np.array([ratio], np.float32))[0]
        assert bands.CENTRES[moved.argmax()] == pytest.approx(1_500.0 * ratio, rel=0.04)


class TestControls:
    def test_hold_keeps_the_last_voiced_value(self) -> None:
        held = hold(np.array([0, 100, 0, 0, 120, 0], np.float32), 150.0)
        assert held.tolist() == [150, 100, 100, 100, 120, 120]

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 29))
    def test_controls_do_not_see_where_a_stream_is_cut(self, cut: int) -> None:
        rng = np.random.default_rng(0)
        f0 = np.exp(rng.normal(5, 0.2, 30)).astype(np.float32)
        level = rng.normal(0, 1, 30).astype(np.float32)
        shares = rng.random((30, 8)).astype(np.float32)
        voiced = rng.random(30) > 0.5

        def part(rows: slice, before: float | None) -> np.ndarray:
            return controls_of(f0[rows], 5.0, level[rows], before, shares[rows], voiced[rows])

        whole = part(slice(None), None)
        pieces = [part(slice(0, cut), None), part(slice(cut, 30), float(level[cut - 1]))]
        assert np.array_equal(np.concatenate(pieces), whole)
