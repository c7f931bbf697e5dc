"""Recordings for the SDKs, and their checks run as programs of their own."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menura.audio.level import to_int16

from ..conftest import RunningServer
from ..sounds import speech, wav

RATE = 24_000
PROGRAM_LIMIT = 900


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings to convert."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "speech.wav").write_bytes(wav(speech("female_ljspeech", RATE, 3.0), RATE))
    (folder / "short.wav").write_bytes(wav(speech("female_ljspeech", RATE, 1.7)[12_000:], RATE))
    at_16000 = speech("female_ljspeech", 16_000, 1.7)[8_000:]
    (folder / "short_16000.wav").write_bytes(wav(at_16000, 16_000))
    (folder / "short_16000.pcm").write_bytes(to_int16(at_16000).tobytes())
    (folder / "six_minutes.wav").write_bytes(wav(np.zeros(8000 * 360, np.float32), 8000))
    return folder


def checks_in(script: Path, pattern: str) -> list[str]:
    """Return the names of the checks that a program makes."""
    return re.findall(pattern, script.read_text(encoding="utf-8"), re.MULTILINE)


def run_checks(
    server: RunningServer, command: list[str], folder: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """Run a program that makes checks against a server and return what it found."""
    finished = subprocess.run(
        [*command, server.url, str(folder)],
        env={**os.environ, "ELEVENLABS_API_KEY": server.api_key, **environment},
        capture_output=True,
        text=True,
        timeout=PROGRAM_LIMIT,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found
