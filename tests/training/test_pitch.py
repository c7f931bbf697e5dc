"""The weights of the pitch tracker: what is trained is what the engine runs."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")
pytest.importorskip("pyworld", reason="the truth comes from the extra 'evaluation' (pyworld)")

import torch

from menura.engine.source_filter import salience
from training import pitch as training

pytestmark = pytest.mark.filterwarnings("ignore")
"""pyworld's import warns."""


def test_a_short_training_tells_vowels_from_noise_and_their_pitch(tmp_path):
    rng = np.random.default_rng(1)
    judged = training.examples_of([], 6, rng)
    trainer = training.Trainer(training.examples_of([], 40, rng), judged, tmp_path, 1)
    for _ in range(120):
        trainer.advance(120)
    trainer.average = trainer.model.state_dict()
    told = trainer.validate()
    # A guess among the pitches is right in one of twenty.
    assert told["quick_right"] > 0.25
    assert told["patient_right"] > 0.25
    assert told["quick_false"] < 0.1


def test_a_run_goes_on_where_it_stopped(tmp_path):
    rng = np.random.default_rng(1)
    examples = training.examples_of([], 4, rng)
    trainer = training.Trainer(examples, [], tmp_path, 1)
    trainer.advance(4)
    trainer.save()
    again = training.Trainer(examples, [], tmp_path, 2)
    again.resume()
    assert again.step == 1
    for name, value in trainer.model.state_dict().items():
        assert (again.model.state_dict()[name] == value).all()


@pytest.mark.parametrize("patient", [False, True])
def test_the_engine_hears_what_the_trained_network_says(tmp_path, monkeypatch, patient):
    rng = np.random.default_rng(1)
    trainer = training.Trainer(training.examples_of([], 1, rng), [], tmp_path, 1)
    trainer.write(tmp_path / "pitch.npz")
    name = "patient" if patient else "quick"
    model = training.Weigher(training.WIDTHS[name], salience.AHEAD[name])
    with np.load(tmp_path / "pitch.npz") as held, np.load(training.OUT) as shipped:
        arrays = {name: held[name].astype(np.float32) for name in held.files}
        assert {n: held[n].shape for n in held.files} == {
            n: shipped[n].shape for n in shipped.files
        }
    own = {key.removeprefix(f"{name}_"): v for key, v in arrays.items() if key.startswith(name)}
    model.load_state_dict(
        {key.removeprefix(f"{name}."): v for key, v in trainer.average.items() if name in key}
    )
    monkeypatch.setattr(salience, "_weights", {name: own}.__getitem__)
    picture = rng.standard_normal((64, training.PICTURE)).astype(np.float32)
    stream = salience.Salience(8, patient)
    late = np.zeros((-(-stream.look_ahead // 8) * 8, training.PICTURE), np.float32)
    heard = np.concatenate([picture, late])
    told = [stream.push(part, 7.2, 0.5) for part in heard.reshape(-1, 8, training.PICTURE)]
    streamed = np.concatenate(told)[stream.look_ahead :]
    usual = training.range_told(
        np.full(len(heard), 7.2, np.float32), np.full(len(heard), 0.5, np.float32)
    )
    with torch.no_grad():
        said = model(torch.from_numpy(heard)[None], torch.from_numpy(usual)[None])
    whole = torch.log_softmax(said, dim=-1)[0].numpy()[: len(picture)]
    assert np.abs(streamed[: len(picture)] - whole).max() < 0.02
