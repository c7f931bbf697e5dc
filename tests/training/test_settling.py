"""The weights that tell a speaker's median F0: what is trained is what the engine runs."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")
pytest.importorskip("pyworld", reason="the truth comes from the extra 'evaluation' (pyworld)")

import torch

from menura.engine.source_filter import settling
from training import settling as training

pytestmark = pytest.mark.filterwarnings("ignore")
"""pyworld's import warns."""


def _people(rng: np.random.Generator, number: int) -> dict[str, list[np.ndarray]]:
    """Return F0 of made-up people: words that fall, around a median of their own."""
    people = {}
    for person in range(number):
        median, clips = rng.uniform(90.0, 230.0), []
        for _ in range(3):
            f0 = np.zeros(1_200, np.float32)
            for start in range(20, 1_100, 120):
                f0[start : start + 80] = median * 2.0 ** (
                    0.2 - 0.4 * (start / 1_200) + rng.normal(0.0, 0.05) + np.linspace(0.1, -0.1, 80)
                )
            clips.append(f0)
        people[str(person)] = clips
    return people


def test_a_short_training_keeps_more_of_the_melody():
    rng = np.random.default_rng(1)
    heard = training.streams(_people(rng, 12), rng)
    judged = training.batch(training.streams(_people(rng, 6), rng))
    before, after = (
        training.loss(model, judged, 3, 3).item()
        for model in (training.Expecting(), training.train(heard, epochs=6))
    )
    assert after < 0.9 * before


def test_the_engine_tells_what_the_trained_network_tells():
    shipped = np.load(training.OUT)
    model = training.Expecting()
    trained = model.arrays()
    assert {n: v.shape for n, v in trained.items()} == {n: shipped[n].shape for n in shipped.files}
    with torch.no_grad():
        model.inside.weight.copy_(torch.from_numpy(shipped["in"].T))
        model.inside.bias.copy_(torch.from_numpy(shipped["bias"]))
        model.out.weight.copy_(torch.from_numpy(shipped["out"].T))
        model.out.bias.copy_(torch.from_numpy(shipped["out_bias"]))
    rng = np.random.default_rng(2)
    f0 = _people(rng, 1)["0"][0]
    heard = training.stream([f0], [1.0])
    with torch.no_grad():
        expected = model(torch.from_numpy(heard.inputs)[None], torch.from_numpy(heard.means)[None])
    engine = settling.Settling(0)
    engine.push(f0)
    assert engine.median == pytest.approx(float(expected[0, -1]), abs=1e-3)
