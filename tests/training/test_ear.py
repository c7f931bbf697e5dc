"""Whisper's encoder in torch, and what it is shown of envelopes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")
pytest.importorskip("faster_whisper", reason="training needs the extra 'training' (Whisper)")
pytest.importorskip("parselmouth", reason="training needs the extra 'training' (praat-parselmouth)")

import ctranslate2
import soundfile
import soxr
import torch
from training.envelopes import described
from training.prepare import track_f0

from menura.engine.interface import HOP, SAMPLE_RATE
from menura.engine.source_filter import periodicity
from training import ear, teacher

SPEECH = Path(__file__).parents[1] / "speech"
LONGEST = 300
"""Frames of a recording that are heard."""

Recording = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def hearing(whisper: Path) -> ear.Ear:
    torch.set_num_threads(1)
    return ear.Ear(whisper)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Samples at 16 kHz, envelopes in bands, periodic shares and F0 of somebody's speech."""
    samples, rate = soundfile.read(SPEECH / "male_librispeech_1235.flac", dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLE_RATE)[: LONGEST * HOP]
    f0 = track_f0(samples, LONGEST, None)
    rows = described(samples, f0).astype(np.float32)
    envelope, shares = np.split(rows, [rows.shape[1] - periodicity.BANDS], axis=1)
    return ear.at_its_rate(samples, LONGEST), envelope, shares, f0


def test_the_encoder_answers_as_the_teacher_does(
    whisper: Path, hearing: ear.Ear, recording: Recording
) -> None:
    shown = ear.of_waves(recording[0][None], LONGEST)
    model = ctranslate2.models.Whisper(str(whisper), device="cpu", compute_type="float32")
    shaped = np.ascontiguousarray(shown.numpy())
    told = model.encode(ctranslate2.StorageView.from_array(shaped), to_cpu=True)
    with torch.no_grad():
        answer, middle = hearing(shown, (1, 6))
        short, given = ear.Ear(whisper, 1)(shown, (1,))
    assert np.abs(np.array(told) - answer.numpy()).max() < 5e-3
    assert torch.equal(middle[0], short)
    assert torch.equal(given[0], short)


def test_an_envelope_at_its_own_pitch_is_heard_as_the_recording_and_another_is_not(
    hearing: ear.Ear, recording: Recording
) -> None:
    wave, envelope, shares, f0 = (part[None] for part in recording)
    rng = np.random.default_rng(1)
    pulses = ear.excitation(f0, shares, rng)
    excited = np.where(f0[..., None] > 0, pulses, ear.whitened(wave, envelope))
    loud = torch.from_numpy(envelope.max(axis=2)[:, ::2] > envelope.max() - 6.0)
    with torch.no_grad():
        wanted, _ = hearing(ear.of_waves(wave, LONGEST))

        def gone(envelopes: np.ndarray) -> float:
            shown = ear.of_envelopes(torch.from_numpy(envelopes), torch.from_numpy(excited))
            return float(ear.lost(wanted, hearing(shown)[0], loud))

        assert gone(envelope) < 0.3
        still = envelope.mean(axis=1, keepdims=True) + 0.0 * envelope
        assert gone(still) > 2 * gone(envelope)
        assert gone(envelope[:, ::-1].copy()) > 3 * gone(envelope)


def test_noise_in_place_of_pulses_has_the_power_that_the_envelope_says() -> None:
    f0, shares = np.zeros((2, 80), np.float32), np.zeros((2, 80, periodicity.BANDS), np.float32)
    rng = np.random.default_rng(2)
    noise = ear.excitation(f0, shares, rng)
    pulses = ear.excitation(f0 + 120.0, shares + 1.0, rng)
    for excited in (noise, pulses):
        assert excited[:, 2:-2, 4:-4].mean() == pytest.approx(1.0, abs=0.1)
    waves = rng.standard_normal((1, 80 * ear.STEP)).astype(np.float32)
    level = np.full((1, 80, 64), np.log(SAMPLE_RATE / teacher.RATE), np.float32)
    assert ear.whitened(waves, level)[:, 2:-2].mean() == pytest.approx(1.0, abs=0.1)


def test_what_is_heard_has_a_gradient(hearing: ear.Ear, recording: Recording) -> None:
    _, envelope, shares, f0 = (part[None, :100] for part in recording)
    asked = torch.from_numpy(envelope.copy()).requires_grad_()
    excited = torch.from_numpy(ear.excitation(f0, shares, np.random.default_rng(3)))
    answer, _ = hearing(ear.of_envelopes(asked, excited))
    answer.square().sum().backward()
    assert asked.grad is not None
    assert float(asked.grad.abs().sum()) > 0
