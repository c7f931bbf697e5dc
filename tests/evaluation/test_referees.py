from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.signals import voice

from evaluation import referees


def test_an_unchanged_clip_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []

    def count(samples: np.ndarray) -> int:
        heard.append(len(samples))
        return len(samples)

    monkeypatch.setitem(referees.REFEREES, "count", (count, "1"))
    bench = referees.Bench(tmp_path)
    clip = voice(150.0, 0.3)
    assert bench.ask("count", clip) == referees.Bench(tmp_path).ask("count", clip.copy())
    bench.ask("count", clip[:-1])
    assert heard == [len(clip), len(clip) - 1]
