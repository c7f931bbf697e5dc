"""The command line as a user types it, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "tests" / "speech" / "male_librispeech_1235.flac"


def menura(*arguments, data, program=("-m", "menura.cli"), **options):
    environment = {**os.environ, "MENURA_DATA": str(data), "COLUMNS": "200", **options}
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
