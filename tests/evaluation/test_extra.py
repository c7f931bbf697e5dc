import pytest
from tests.evaluation.conftest import MISSING


def test_the_judging_suite_can_run_here() -> None:
    if MISSING:
        pytest.skip(f"the evaluation extra is not installed: no {', '.join(MISSING)}")
