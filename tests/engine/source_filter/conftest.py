"""Speech and synthetic voices for the tests of the source-filter engine."""

import numpy as np
import pytest
from tests.sounds import speech

from menura.engine.interface import SAMPLE_RATE, Samples
from menura.engine.source_filter import SourceFilterEngine
from menura.engine.source_filter.voice import SourceFilterVoice


def vowel(f0: np.ndarray, formants: tuple[float, ...] = (650.0, 1_150.0, 2_600.0)) -> Samples:
    """Sing a vowel: harmonics of an F0 contour in Hz (per sample) under formant resonances."""
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    sound = np.zeros(len(f0))
    for harmonic in range(1, int(8_000 / f0.max())):
        frequency = harmonic * f0
        gain = sum(1.0 / (1.0 + ((frequency - f) / 90.0) ** 2) for f in formants)
        sound += gain * np.cos(harmonic * phase) / harmonic**0.5
    return (0.2 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="session")
def engine() -> SourceFilterEngine:
    return SourceFilterEngine()


@pytest.fixture(scope="session")
def man() -> Samples:
    return speech("male_librispeech_5322")


@pytest.fixture(scope="session")
def woman() -> Samples:
    return speech("female_ljspeech")


@pytest.fixture(scope="session")
def man_voice(engine: SourceFilterEngine, man: Samples) -> SourceFilterVoice:
    voice = engine.measure([man]).voice
    assert isinstance(voice, SourceFilterVoice)
    return voice


@pytest.fixture(scope="session")
def woman_voice(engine: SourceFilterEngine, woman: Samples) -> SourceFilterVoice:
    voice = engine.measure([woman]).voice
    assert isinstance(voice, SourceFilterVoice)
    return voice
