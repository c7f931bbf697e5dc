"""Official Python SDKs, unmodified, against a running server: the newest, and the last that takes
the old path."""

import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import start_server
from .conftest import checks_in, run_checks

CALLS = Path(__file__).parent / "calls.py"
OLD_PACKAGES = Path(__file__).parents[2] / ".venv-sdk-old"
OLD_PATH, NEW_PATH = "/v1/speech-to-speech/{voice_id}", "/v1/voice-changer/{voice_id}"


@pytest.fixture(scope="module", params=["2.78.0", "2.74.1"])
def found(
    request: pytest.FixtureRequest, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the checks found with one SDK."""
    old = request.param == "2.74.1"
    if old and not (OLD_PACKAGES / "elevenlabs").is_dir():
        pytest.skip("elevenlabs 2.74.1 is not in .venv-sdk-old; run tests/setup.sh")
    server = start_server(tmp_path_factory.mktemp("sdk") / "data")
    environment = {"PYTHONPATH": str(OLD_PACKAGES)} if old else {}
    told = run_checks(server, [sys.executable, str(CALLS)], recordings, environment)
    routes = {
        sample.labels["route"]
        for family in server.app.state.metrics.registry.collect()
        for sample in family.samples
        if "route" in sample.labels
    }
    server.stop()
    assert told["version"] == request.param
    assert routes & {OLD_PATH, NEW_PATH} == {OLD_PATH if old else NEW_PATH}
    return told


@pytest.mark.parametrize("check", checks_in(CALLS, r"^def (check_(?!format)\w+)"))
def test_call(found: dict[str, Any], check: str) -> None:
    assert found[check] is None, found[check]
