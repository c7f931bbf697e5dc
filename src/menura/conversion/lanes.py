"""Where streams are converted: in this process, and in others once several run at once.

Python computes on one core at a time in a process, however many threads there are. So a stream that
finds another one at work goes to a process of its own, as long as the settings allow more, and else
joins the other process that has the fewest streams. A stream stays where it began. Starting a
process takes a third of a second, so there is always one ahead of the streams.

Only the engine's stages run elsewhere. Bytes are decoded and encoded here.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

from menura.conversion.cores import Cores
from menura.conversion.engine_process import EngineProcess, Opening, open_stage
from menura.engine.interface import (
    Analysis,
    ConversionSettings,
    Engine,
    LatencyProfile,
    Rendering,
    Voice,
)
from menura.engine.registry import model_of
from menura.engine.stream import ConversionStream

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""After a process could not be started, until another one is tried: what was short may be free."""

_stages = count()


class Lane:
    """A process that converts, this one or another, and who computes there next."""

    def __init__(self, cores: Cores, started: Future[EngineProcess] | None = None) -> None:
        self.cores = cores
        self.streams = 0
        self._started = started

    def wait(self) -> bool:
        """Wait for the start of the process, and return whether it runs."""
        return self._started is None or self._started.exception() is None

    @property
    def process(self) -> EngineProcess | None:
        """The other process, which must run."""
        return None if self._started is None else self._started.result()

    @property
    def lost(self) -> bool:
        """Whether its process could not be started, or has ended."""
        started = self._started
        if started is None or not started.done():
            return False
        return not self.wait() or started.result().has_ended()


class Lanes:
    """All processes that convert for this one, which is the first of them.

    processes: most that there may be. cores: streams that compute at the same time in the only one.
    """

    def __init__(self, cores: int, processes: int) -> None:
        # Threads of one process compute slower together than one after the other.
        self.here = Lane(Cores(cores if processes == 1 else 1))
        self.all = [self.here]
        """Those that run or start now, this process first."""
        self._most = 0 if processes == 1 else processes
        self._starts = ThreadPoolExecutor(processes, "process start")
        self._next_start = 0.0
        self._guard = threading.Lock()

    def prepare(self) -> None:
        """Start the first further process, for the first stream that will find another at work."""
        with self._guard:
            self._keep_one_idle()

    def seat(self, engine: Engine) -> "Seat":
        """Return the seat of a new stream. Its lane is chosen when it begins to compute.

        engine: one that other processes do not know keeps the stream here.
        """
        return Seat(self, anywhere=model_of(engine) is not None)

    def take(self, *, anywhere: bool) -> Lane:
        """Return the lane of one stream more. Blocks while the lane's process starts.

        anywhere: whether it may be another process.
        """
        while True:
            with self._guard:
                self.all = [lane for lane in self.all if not lane.lost]
                lane = self.here
                # A lone stream stays here, where it need not be sent. Beside others it would keep
                # all of them waiting, since here is also everything that is not an engine's.
                if anywhere and any(lane.streams for lane in self.all):
                    self._keep_one_idle()
                    lane = min(self.all[1:], key=lambda lane: lane.streams, default=self.here)
                lane.streams += 1
                if lane is not self.here:
                    self._keep_one_idle()
            if lane.wait():
                return lane

    def _keep_one_idle(self) -> None:
        others = self.all[1:]
        if len(others) >= self._most or time.monotonic() < self._next_start:
            return
        if all(lane.streams for lane in others):
            try:
                started = self._starts.submit(self._start)
            except RuntimeError as error:  # no thread to be had
                self._put_off(error)
            else:
                self.all.append(Lane(Cores(1), started))

    def _start(self) -> EngineProcess:
        try:
            return EngineProcess()
        except OSError as error:
            with self._guard:
                self._put_off(error)
            raise

    def _put_off(self, error: Exception) -> None:
        log.warning("A further process cannot be started: %s", error)
        self._next_start = time.monotonic() + RETRY_SECONDS

    def leave(self, lane: Lane, stages: Sequence[int]) -> None:
        """Free a stream's place, and its stages."""
        with self._guard:
            lane.streams -= 1
        if lane.process is not None:
            lane.process.drop(stages)

    def close(self) -> None:
        """End the other processes; no stream may run any more."""
        self._starts.shutdown(wait=True)
        for lane in self.all:
            if lane.wait() and lane.process is not None:
                lane.process.close()


class Seat:
    """One stream's place in a lane. `leave` it at the end; the rest belongs to its thread.

    The stages that it opens are those of the engine, and begin where the lane is when they are
    first used. Engines that other processes do not know stay in this one.
    """

    def __init__(self, lanes: Lanes, *, anywhere: bool) -> None:
        self._lanes = lanes
        self._anywhere = anywhere
        self._lane: Lane | None = None
        self._stages: list[int] = []

    def lane(self) -> Lane:
        """Return the lane, which is chosen when first asked for; see `Lanes.take`."""
        if self._lane is None:
            self._lane = self._lanes.take(anywhere=self._anywhere)
        return self._lane

    @property
    def cores(self) -> Cores:
        """Who computes next in the lane."""
        return self.lane().cores

    def analysis(self, engine: Engine, latency: LatencyProfile) -> Analysis:
        """Return `engine.analysis(latency)`."""
        analysis: Analysis = self._opened(engine, "analysis", latency)
        return analysis

    def rendering(
        self,
        engine: Engine,
        voice: Voice,
        settings: ConversionSettings,
        seed: int,
        latency: LatencyProfile,
    ) -> Rendering:
        """Return `engine.rendering(...)`."""
        rendering: Rendering = self._opened(engine, "rendering", voice, settings, seed, latency)
        return rendering

    def stream(
        self,
        engine: Engine,
        voice: Voice,
        settings: ConversionSettings,
        latency: LatencyProfile,
        seed: int,
    ) -> "ConversionStream | SeatedStage":
        """Return `ConversionStream(engine, ...)`."""
        stream: ConversionStream | SeatedStage = self._opened(
            engine, "stream", voice, settings, latency, seed
        )
        return stream

    def number(self) -> int:
        """Return the number of a new stage in another process."""
        self._stages.append(next(_stages))
        return self._stages[-1]

    def leave(self) -> None:
        """Give the place to others."""
        if self._lane is not None:
            self._lanes.leave(self._lane, self._stages)
            self._lane = None

    def _opened(self, engine: Engine, kind: str, *arguments: object) -> Any:
        stage = open_stage(engine, kind, arguments)
        model = model_of(engine)
        return stage if model is None else SeatedStage(self, Opening(model, kind, arguments), stage)


class SeatedStage:
    """A stage that begins in its seat's lane when it is first used: an `Analysis`, a `Rendering` or
    a `ConversionStream`.

    stage: the same one in this process, which is let go if the lane is another.
    """

    def __init__(self, seat: Seat, opening: Opening, stage: Any) -> None:
        self.delay: int = stage.delay
        self._seat = seat
        self._opening: Opening | None = opening
        self._stage = stage
        self._number = 0

    def push(self, given: Any) -> Any:
        """Take samples or features in, and return what has become final."""
        return self._call("push", given)

    def flush(self, *given: Any) -> Any:
        """End the stream and return what remains. The object is spent afterwards."""
        return self._call("flush", *given)

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        self._call("change", voice, settings)

    def _call(self, method: str, *arguments: object) -> Any:
        process = self._seat.lane().process
        if process is None:
            return getattr(self._stage, method)(*arguments)
        if self._opening is not None:
            self._number = self._seat.number()
            process.open(self._number, self._opening)
            self._opening = self._stage = None
        return process.call(self._number, method, arguments)
