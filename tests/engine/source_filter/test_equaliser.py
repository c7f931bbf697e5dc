"""What is rendered comes to sound, over seconds, like the voice's own recordings."""

import numpy as np
import pytest
from tests.engine.converting import converted

from menura.engine.interface import ConversionSettings, Samples
from menura.engine.source_filter.equaliser import Equaliser, long_term
from menura.engine.source_filter.spectrum import BINS
from menura.engine.source_filter.voice import SPECTRUM_BANDS, SourceFilterVoice

BLOCK = 480


def _apart(samples: Samples, voice: SourceFilterVoice) -> float:
    """Return how far samples lie from the voice's recordings: nepers of power, rms over bands."""
    return float(np.sqrt(np.mean((long_term(samples) - voice.spectrum) ** 2)))


def _fed(equaliser: Equaliser, samples: Samples, voiced: bool = True) -> tuple[Samples, np.ndarray]:
    """Let samples pass through its gains alone; return what comes out, and the last gains."""
    window = np.hanning(2 * BLOCK + 1)[:-1]
    out = np.zeros(len(samples), np.float32)
    gains = np.zeros(BINS)
    for start in range(0, len(samples) - 2 * BLOCK, BLOCK):
        gains = equaliser.gains(4)[-1]
        spectrum = np.fft.rfft(window * samples[start : start + 2 * BLOCK], 2 * (BINS - 1))
        shaped = np.fft.irfft(spectrum * np.exp(0.5 * gains))
        out[start : start + 2 * BLOCK] += shaped[: 2 * BLOCK].astype(np.float32)
        equaliser.hear(out[start : start + BLOCK], voiced)
    return out, gains


def test_the_long_term_spectrum_comes_to_the_voice(engine, man, woman_voice):
    with_it, without = (
        _apart(converted(engine, woman_voice, man, use_speaker_boost=boost), woman_voice)
        for boost in (True, False)
    )
    assert with_it < 0.8 * without


def test_long_term_spectra_know_no_level(man):
    np.testing.assert_allclose(long_term(man), long_term(0.1 * man), atol=0.02)
    assert long_term(man).shape == (2, SPECTRUM_BANDS)


def test_its_own_speaker_is_left_nearly_alone(man, man_voice):
    _, gains = _fed(Equaliser(man_voice, ConversionSettings()), man)
    assert np.sqrt(np.mean(gains**2)) < 0.35


def test_it_acts_as_far_as_similarity_boost_says(man, woman_voice):
    reach = [
        float(np.abs(_fed(Equaliser(woman_voice, ConversionSettings(**chosen)), man)[1]).mean())
        for chosen in (
            {"similarity_boost": 0.0},
            {"similarity_boost": 0.3},
            {"similarity_boost": 0.75},
            {"similarity_boost": 0.75, "use_speaker_boost": False},
        )
    ]
    assert reach[0] == reach[3] == 0.0
    assert 0.0 < reach[1] < 0.9 * reach[2]


def test_it_changes_no_loudness(man, woman_voice):
    out, _ = _fed(Equaliser(woman_voice, ConversionSettings()), man)
    late = slice(len(man) // 3, len(man) - 2 * BLOCK)
    assert abs(10 * np.log10(np.mean(out[late] ** 2) / np.mean(man[late] ** 2))) < 1.0


@pytest.mark.parametrize("kind", ["silence", "unvoiced"])
def test_nothing_is_learnt_while_nobody_speaks(kind, man, woman_voice):
    equaliser = Equaliser(woman_voice, ConversionSettings())
    _, known = _fed(equaliser, man)
    heard = np.zeros(48_000, np.float32)
    if kind == "unvoiced":
        heard = 0.2 * np.random.default_rng(1).standard_normal(48_000).astype(np.float32)
    _, later = _fed(equaliser, heard, voiced=kind == "silence")
    np.testing.assert_allclose(later, known, atol=0.05)


def test_another_voice_is_approached_anew(man, man_voice, woman_voice):
    equaliser = Equaliser(woman_voice, ConversionSettings())
    _fed(equaliser, man)
    equaliser.change(man_voice, None)
    equaliser.gains(4)
    equaliser.hear(man[:BLOCK], True)
    assert np.abs(equaliser.gains(4)[-1]).max() < 0.2


def test_gains_pass_smoothly_from_block_to_block(man, woman_voice):
    equaliser = Equaliser(woman_voice, ConversionSettings())
    rows = []
    for start in range(0, 48_000, BLOCK):
        rows.append(equaliser.gains(4))
        equaliser.hear(man[start : start + BLOCK], True)
    assert np.abs(np.diff(np.concatenate(rows), axis=0)).max() < 0.5
