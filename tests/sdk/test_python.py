"""The newest official Python SDK, unmodified, against a running server."""

import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import RunningServer
from .conftest import checks_in, run_checks

CALLS = Path(__file__).parent / "calls.py"


@pytest.fixture(scope="module")
def found(shared_server: RunningServer, recordings: Path) -> dict[str, Any]:
    return run_checks(shared_server, [sys.executable, str(CALLS)], recordings, {})


@pytest.mark.parametrize("check", checks_in(CALLS, r"^def (check_(?!format)\w+)"))
def test_call(found: dict[str, Any], check: str) -> None:
    assert found[check] is None, found[check]


def test_it_is_the_newest_and_uses_the_new_path(
    shared_server: RunningServer, found: dict[str, Any]
) -> None:
    assert found["version"] == "2.78.0"
    metrics = shared_server.app.state.metrics.registry
    routes = {
        sample.labels["route"]
        for family in metrics.collect()
        for sample in family.samples
        if "route" in sample.labels
    }
    assert "/v1/voice-changer/{voice_id}" in routes
    assert "/v1/speech-to-speech/{voice_id}" not in routes
