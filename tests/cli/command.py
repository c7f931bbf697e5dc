"""The command line as a user types it, in a process of its own."""

import json
import locale
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "tests" / "speech" / "male_librispeech_1235.flac"

COLD = ("-m", "menura.cli")
"""What Python runs where a command is to load everything itself, and to inherit what this process
has of limits and the like."""


class Warm:
    """A process that has loaded what the command loads, and is forked for each that is run."""

    def __init__(self):
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.warm", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
            )

    def run(self, arguments, environment):
        pipes = [os.pipe() for _ in range(2)]
        request = json.dumps({"arguments": arguments, "environment": environment})
        socket.send_fds(self._link, [request.encode() + b"\n"], [writes for _, writes in pipes])
        for _, writes in pipes:
            os.close(writes)
        with ThreadPoolExecutor() as readers:
            told, complained = readers.map(_all_of, [reads for reads, _ in pipes])
        code = int(self._link.recv(16))
        return subprocess.CompletedProcess(arguments, code, told, complained)

    def end(self):
        self._link.close()
        self._process.wait(60)


def _all_of(pipe):
    with open(pipe, encoding=locale.getencoding()) as reader:
        return reader.read()


_warm = None


def menura(*arguments, data, program=None, **options):
    """Run a command to its end; `options` are variables of its environment.

    program: what Python runs instead of a warm command line.
    """
    global _warm  # noqa: PLW0603  one for all tests of this process
    environment = {**os.environ, "MENURA_DATA": str(data), "COLUMNS": "200", **options}
    environment = {name: value for name, value in environment.items() if value is not None}
    words = [str(argument) for argument in arguments]
    # What Python reads when it starts means nothing to a process that it has started already.
    changes_python = any(name.startswith("PYTHON") for name in options)
    if program is None and hasattr(os, "fork") and not changes_python:
        _warm = _warm or Warm()
        return _warm.run(words, environment)
    return subprocess.run(
        [sys.executable, *(program or COLD), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )


def end_warm():
    """End the process that `menura` has kept for the next command."""
    global _warm  # noqa: PLW0603  likewise
    if _warm is not None:
        _warm.end()
        _warm = None
