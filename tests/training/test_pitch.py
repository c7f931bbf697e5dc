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


def _examples(rng: np.random.Generator, number: int) -> list[training.Example]:
    examples = []
    for _ in range(number):
        examples.append(training.example(*training.vowel(rng), rng))
        noise = (0.05 * rng.standard_normal(training.SAMPLE_RATE // 4)).astype(np.float32)
        quiet = np.zeros(len(noise) // training.STEP, np.float32)
        examples.append(training.example(noise, quiet, quiet + 1, rng))
    return examples


def test_a_short_training_tells_vowels_from_noise_and_their_octaves():
    rng = np.random.default_rng(1)
    model = training.train(_examples(rng, 12), steps=300)
    inputs, instants, valid, right, sure = (
        np.concatenate(part) for part in zip(*_examples(rng, 6), strict=True)
    )
    with torch.no_grad():
        logits = model(*(torch.from_numpy(part) for part in (inputs, instants, valid)))
    assert np.mean((logits.argmax(dim=1).numpy() == right)[sure > 0]) > 0.9


def test_the_shipped_weights_have_the_trained_networks_shapes():
    trained = training.Weigher().arrays()
    shipped = np.load(training.OUT)
    assert {n: v.shape for n, v in trained.items()} == {n: shipped[n].shape for n in shipped.files}
    assert trained["candidate_in"].shape == (pitch.CANDIDATE_INPUTS, training.HIDDEN)
