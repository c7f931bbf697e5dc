import numpy as np
import pytest
from evaluation.speaker_trials import equal_error_rate


def test_equal_error_rate_of_known_scores() -> None:
    low, high = np.arange(100.0), np.arange(200.0, 300.0)
    assert equal_error_rate(high, low) == pytest.approx(0.0, abs=0.02)
    assert equal_error_rate(low, high) == pytest.approx(1.0, abs=0.02)
    assert equal_error_rate(low, low) == pytest.approx(0.5, abs=0.02)
