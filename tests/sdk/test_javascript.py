"""The official JavaScript SDK, unmodified, against a running server."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ..conftest import RunningServer
from .conftest import checks_in, run_checks

FOLDER = Path(__file__).parent / "js"
CALLS = FOLDER / "calls.mjs"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None
    or not (FOLDER / "node_modules" / "@elevenlabs" / "elevenlabs-js").is_dir(),
    reason="Node.js or the npm package is missing; run tests/setup.sh",
)


@pytest.fixture(scope="module")
def found(shared_server: RunningServer, recordings: Path) -> dict[str, Any]:
    return run_checks(shared_server, ["node", str(CALLS)], recordings, {})


@pytest.mark.parametrize("check", checks_in(CALLS, r"^checks\.(\w+) = "))
def test_call(found: dict[str, Any], check: str) -> None:
    assert found[check] is None, found[check]
