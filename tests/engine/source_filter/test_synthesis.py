"""Pulses and noise through filters: what is rendered begins and ends softly."""

import numpy as np

from menura.engine.source_filter.mapping import Sound
from menura.engine.source_filter.periodicity import BANDS
from menura.engine.source_filter.spectrum import BINS, FREQUENCIES, STEP
from menura.engine.source_filter.synthesis import Synthesiser

VOICED, SILENT = 60, 40
"""Instants, 5 ms each."""


def test_a_low_resonance_fades_into_the_pause_behind_it_without_a_step():
    f0 = np.concatenate([np.full(VOICED, 104.0), np.zeros(SILENT)]).astype(np.float32)
    ringing = 10.0 - np.minimum(24.0, np.abs(FREQUENCIES - 150.0) / 12.0)
    envelope = np.where((f0 > 0)[:, None], ringing - 12.0, -40.0).astype(np.float32)
    sound = Sound(
        f0=f0,
        periodicity=np.repeat((f0 > 0)[:, None], BANDS, axis=1).astype(np.float32),
        envelope=envelope.reshape(len(f0), BINS),
        change=np.zeros((len(f0), BINS), np.float32),
    )
    grains = np.zeros((len(f0), 2 * STEP), np.float32)
    heard = Synthesiser(len(f0), seed=1).push(sound, grains)
    rough = np.abs(np.diff(heard.astype(np.float64), n=3))
    speech, pause = rough[: VOICED * STEP], rough[(VOICED + 1) * STEP :]
    assert np.abs(heard[(VOICED + 1) * STEP :]).max() > 0.01 * np.abs(heard).max()
    assert pause.max() < 0.05 * speech.max()
