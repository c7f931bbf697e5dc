"""A process that runs engines' stages for another one.

    python -m menura.conversion.engine_process      started by `EngineProcess`, not by hand

Calls come in on the standard input and are answered in turn on the standard output, as pickles:
both ends are this program. The process ends with its input, so that none outlives its parent,
whatever that died of; signals meant for the parent's group do not stop it before.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from menura.engine.interface import Engine
from menura.engine.registry import DEFAULT_MODEL, engine_for
from menura.engine.stream import ConversionStream
from menura.errors import Unavailable

log = logging.getLogger(__name__)

CLOSING_SECONDS = 5.0
"""For a process to end by itself before it is killed."""


IGNORED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Signals that are meant for the parent when its group gets them."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a stage begins: `open_stage(engine_for(model), kind, arguments)`."""

    model: str
    kind: str
    arguments: Sequence[Any]


def open_stage(engine: Engine, kind: str, arguments: Sequence[Any]) -> Any:
    """Return an engine's `analysis` or `rendering`, or both as a `stream`."""
    return (
        ConversionStream(engine, *arguments)
        if kind == "stream"
        else getattr(engine, kind)(*arguments)
    )


class EngineProcess:
    """The parent's end. Any thread may call it; one is served at a time.

    Starting takes a third of a second, and raises OSError when it fails.
    """

    def __init__(self) -> None:
        self.dead = False
        self._guard = threading.Lock()
        # Unlike -m alone, -P keeps modules in the working directory out of the path.
        command = [sys.executable, "-P", "-m", __name__]
        with _signals_held():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._calls: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment]
        try:
            pickle.load(self._answers)
        except (EOFError, pickle.UnpicklingError) as error:
            self.close()
            raise OSError(f"the process ended with {self._process.returncode}") from error

    def open(self, stage: int, opening: Opening) -> None:
        """Begin a stage under a number of its own. Raises Unavailable when the process is gone."""
        self._ask("open", stage, opening)

    def call(self, stage: int, method: str, arguments: Sequence[object]) -> Any:
        """Return what a stage's method answers.

        Raises RuntimeError with the traceback of what went wrong there, and Unavailable when the
        process is gone.
        """
        return self._ask("call", stage, method, arguments)

    def drop(self, stages: Sequence[int]) -> None:
        """Free stages; harmless when the process is gone."""
        if stages and not self.dead:
            with suppress(Unavailable):
                self._ask("drop", stages)

    def has_ended(self) -> bool:
        """Tell whether the process is gone, be it while nobody asked it for anything."""
        if not self.dead and self._process.poll() is not None:
            with self._guard:
                self._lose()
        return self.dead

    def close(self) -> None:
        """End the process."""
        with self._guard:
            self._end()

    def _lose(self) -> None:
        if not self.dead:
            self._end()
            log.error("A process that converts has ended with %s.", self._process.returncode)

    def _end(self) -> None:
        self.dead = True
        # What it never read is no loss any more.
        with suppress(OSError):
            self._calls.close()
        self._answers.close()
        try:
            self._process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, *call: object) -> Any:
        with self._guard:
            if self.dead:
                raise _gone()
            try:
                self._calls.write(pickle.dumps(call, pickle.HIGHEST_PROTOCOL))
                self._calls.flush()
                fine, answer = pickle.load(self._answers)
            except (OSError, EOFError, pickle.UnpicklingError):
                self._lose()
                raise _gone() from None
        if not fine:
            raise RuntimeError(answer)
        return answer


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back from this thread and from a process that it starts, which would die of them
    before it comes to ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gone() -> Unavailable:
    return Unavailable("The process that converted this has ended; try again.", retry_after=1)


class _Stages:
    """The child's end: the stages of all streams that its parent has placed here."""

    def __init__(self) -> None:
        self._stages: dict[int, Any] = {}

    def open(self, stage: int, opening: Opening) -> None:
        """Begin a stage."""
        self._stages[stage] = open_stage(engine_for(opening.model), opening.kind, opening.arguments)

    def call(self, stage: int, method: str, arguments: Sequence[object]) -> Any:
        """Return what a stage's method answers."""
        return getattr(self._stages[stage], method)(*arguments)

    def drop(self, stages: Sequence[int]) -> None:
        """Free stages."""
        for stage in stages:
            self._stages.pop(stage, None)


def main() -> None:
    """Answer calls until there are no more."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    calls = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not come between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    engine_for(DEFAULT_MODEL)
    stages = _Stages()
    answer: object = None
    while True:
        try:
            answers.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
            answers.flush()
            method, *arguments = pickle.load(calls)
        except (EOFError, BrokenPipeError):
            return
        try:
            answer = (True, getattr(stages, method)(*arguments))
        except Exception:
            answer = (False, traceback.format_exc())


if __name__ == "__main__":
    main()
