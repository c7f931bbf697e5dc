"""A run that is told to stop: it keeps what it has done, and says that it is not at its end."""

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")

from training import loop


class Counting:
    """A run whose third step takes so long that somebody presses Ctrl-C."""

    def __init__(self, told: signal.Signals) -> None:
        self.step, self.kept, self.told = 0, -1, told

    def advance(self, steps: int) -> dict[str, float]:
        self.step += 1
        if self.step == 3:
            os.kill(os.getpid(), self.told)
        return {"loss": 1.0 / steps}

    def validate(self) -> dict[str, float]:
        return {}

    def save(self) -> None:
        self.kept = self.step


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_run_told_to_stop_keeps_its_last_step(told: signal.Signals, tmp_path: Path) -> None:
    usual = signal.getsignal(told)
    counting = Counting(told)
    assert not loop.train(counting, 6, tmp_path, 100)
    assert counting.kept == 3
    assert signal.getsignal(told) is usual
    assert loop.train(counting, 6, tmp_path, 100)
    assert counting.kept == 6
