"""What is reckoned of the words that survive a conversion."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faster_whisper", reason="training needs the extra 'training' (Whisper)")

from evaluation.recogniser import error_rate
from training.hearing import held_out_pairs, moved, words_of


def test_a_speaker_who_differs_all_along_loses_nothing_and_noise_loses_its_power() -> None:
    rng = np.random.default_rng(0)
    answer = rng.standard_normal((400, 8)).astype(np.float32)
    loud = np.arange(500) % 4 > 0
    assert moved(answer, answer + 3.0, loud) == pytest.approx(0.0, abs=1e-9)
    noise = 0.5 * rng.standard_normal((380, 8)).astype(np.float32)
    assert moved(answer, answer[:380] + noise, loud) == pytest.approx(0.25, abs=0.03)
    spoilt = answer + np.where(loud[:400, None], 0.0, 50.0).astype(np.float32)
    assert moved(answer, spoilt, loud) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("the lyrebird sings", 0.0),
        ("The lyrebird, sings!", 0.0),
        ("the bird sings", 1 / 3),
        ("lyrebird sings", 1 / 3),
        ("the lyrebird often sings well", 2 / 3),
        ("", 1.0),
    ],
)
def test_words_are_counted_as_the_word_error_rate_does(heard: str, errors: float) -> None:
    assert error_rate(words_of("The lyrebird sings."), words_of(heard)) == pytest.approx(errors)


def test_a_pack_of_too_few_readers_is_refused(tmp_path: Path) -> None:
    row = {"path": "1.opus", "corpus": "librispeech", "person": "1", "sex": "F", "split": "train"}
    row |= {"text": None, "bandwidth_hz": 8_000, "frames": 100}
    (tmp_path / "index.jsonl").write_text(json.dumps(row), encoding="utf-8")
    np.zeros(24_000, np.int16).tofile(tmp_path / "waves.i16")
    np.zeros(100, np.float32).tofile(tmp_path / "f0.f32")
    with pytest.raises(FileNotFoundError, match="too few held-out readers"):
        held_out_pairs(tmp_path)
