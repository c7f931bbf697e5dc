"""The weights of the pitch tracker: what is trained is what the engine runs."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")
pytest.importorskip("pyworld", reason="the truth comes from the extra 'evaluation' (pyworld)")

import torch

from menura.engine.source_filter import pitch
from training import pitch as training

pytestmark = pytest.mark.filterwarnings("ignore")
"""pyworld's import warns."""


def _clips(rng: np.random.Generator, number: int) -> list[tuple[np.ndarray, ...]]:
    """Return samples, F0 and its sureness of vowels and of noise by turns."""
    clips = []
    for _ in range(number):
        clips.append(training.vowel(rng))
        noise = (0.05 * rng.standard_normal(training.SAMPLE_RATE // 4)).astype(np.float32)
        quiet = np.zeros(len(noise) // training.STEP, np.float32)
        clips.append((noise, quiet, quiet + 1))
    return clips


def test_a_short_training_tells_vowels_from_noise_and_their_octaves():
    rng = np.random.default_rng(1)
    model = training.train([training.example(*clip, rng) for clip in _clips(rng, 12)], steps=300)
    right = []
    for samples, f0, sure in _clips(rng, 6):
        inputs, instants, valid, _, known = training.example(samples, f0, sure, rng)
        with torch.no_grad():
            logits = model(*(torch.from_numpy(part) for part in (inputs, instants, valid)))
        chosen = logits.argmax(dim=1).numpy()
        # Several candidates may be near the truth: any of them is right.
        logs = training.heard(samples[: len(known) * training.STEP]).logs
        silent = np.full((len(known), 1), -9.0, np.float32)
        said = np.append(logs, silent, axis=1)[np.arange(len(known)), chosen]
        truth = np.log2(np.maximum(f0[: len(known)], 2.0**-9))
        right.append((np.abs(said - truth) < training.NEAR)[known > 0])
    assert np.concatenate(right).mean() > 0.9


def test_the_shipped_weights_have_the_trained_networks_shapes():
    trained = training.Weigher().arrays()
    shipped = np.load(training.OUT)
    assert {n: v.shape for n, v in trained.items()} == {n: shipped[n].shape for n in shipped.files}
    assert trained["candidate_in"].shape == (pitch.CANDIDATE_INPUTS, training.HIDDEN)
