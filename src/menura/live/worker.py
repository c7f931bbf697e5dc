"""The thread of one live stream: runs its chain and keeps the delay from growing."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from menura.conversion.lanes import Seat
from menura.engine.interface import ConversionSettings, Samples, Voice
from menura.live.chain import LiveChain, LiveRequest

PIECE_SECONDS = 0.02
"""Audio computed under one turn on a core, and dropped at once when it is late."""

EARLY_SECONDS = 0.1
"""Input at most so far ahead of real time is speech that somebody hears as it is made, and goes
first: links deliver in bursts. Input further ahead is a recording, and waits like files."""

SILENCE_DBFS = -100.0


@dataclass(frozen=True, slots=True)
class LiveStats:
    """What a stream did since the last look, and in all.

    Times in milliseconds. rtf: computing time over audio time. dropped, seconds: in all.
    """

    processing: float
    processing_p95: float
    queue: float
    rtf: float
    input_level_dbfs: float
    dropped: float
    seconds_in: float
    seconds_out: float


@dataclass(slots=True)
class _Change:
    voice: Voice | None
    settings: ConversionSettings | None
    done: Callable[[], object]


class LiveWorker:
    """The thread of one live stream. `feed`, `change`, `end` and `stop` never wait.

    on_output: called in the thread with bytes of the answer. on_held: called in the thread when
    input waits for `allow`. on_end: called once in the thread, with null after `end` or `stop`,
    else with what went wrong.
    """

    def __init__(
        self,
        request: LiveRequest,
        seat: Seat,
        on_output: Callable[[bytes], None],
        on_held: Callable[[], None],
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        self.chain = LiveChain(request, seat)
        self._drop_late = request.drop_late
        self._seat = seat
        self._on_output = on_output
        self._on_held = on_held
        self._allowed = math.inf
        self._on_end = on_end
        self._piece = max(1, round(self.chain.input_rate * PIECE_SECONDS))
        self._queue: deque[tuple[float, Samples] | _Change] = deque()
        self._changed = threading.Condition()
        self._due = 0.0
        self._waiting = 0
        self._ending = False
        self._stopped = False
        self._taken = 0
        self._dropped = 0
        self._times: deque[float] = deque(maxlen=256)
        self._computed = 0.0
        self._audio = 0.0
        self._pushed = 0.0
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> float:
        """Seconds of input that wait to be computed."""
        return self._waiting / self.chain.input_rate

    @property
    def ending(self) -> bool:
        """Whether there will be no more input."""
        return self._ending or self._stopped

    def feed(self, data: bytes) -> None:
        """Queue input. Raises InvalidAudio when it cannot be decoded."""
        samples = self.chain.decode(data)
        with self._changed:
            for start in range(0, samples.size, self._piece):
                piece = samples[start : start + self._piece]
                # Audio that came faster than real time is due when real time would have brought it.
                self._due = max(time.monotonic(), self._due + piece.size / self.chain.input_rate)
                self._queue.append((self._due, piece))
            self._waiting += samples.size
            self._taken += samples.size
            self._changed.notify()

    def change(
        self,
        voice: Voice | None,
        settings: ConversionSettings | None,
        done: Callable[[], object],
    ) -> None:
        """Queue a change behind the input so far; `done` is called in the thread after it."""
        with self._changed:
            self._queue.append(_Change(voice, settings, done))
            self._changed.notify()

    def allow(self, seconds: float) -> None:
        """Compute no more input once so many seconds of output have been made in all."""
        with self._changed:
            self._allowed = seconds
            self._changed.notify()

    def end(self) -> None:
        """Let what is queued be computed, flush, and end."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def stop(self) -> None:
        """End at once; the rest is lost."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the thread."""
        self._thread.join()

    @property
    def held(self) -> float:
        """Seconds of input that are in the chain, of which the output has not been made; for the
        `done` of a change."""
        return max(0.0, self._pushed - self.chain.seconds)

    def stats(self) -> LiveStats:
        """Return what happened since the last call."""
        with self._changed:
            times = sorted(self._times)
            computed, audio = self._computed, self._audio
            self._times.clear()
            self._computed = self._audio = 0.0
            peak, self.chain.level_peak = self.chain.level_peak, 0.0
            rate = self.chain.input_rate
            return LiveStats(
                processing=1000 * sum(times) / len(times) if times else 0.0,
                processing_p95=1000 * times[int(0.95 * (len(times) - 1))] if times else 0.0,
                queue=1000 * self._waiting / rate,
                rtf=computed / audio if audio else 0.0,
                input_level_dbfs=20 * float(np.log10(peak)) if peak > 1e-5 else SILENCE_DBFS,
                dropped=1000 * self._dropped / rate,
                seconds_in=self._taken / rate,
                seconds_out=self.chain.seconds,
            )

    def _run(self) -> None:
        on_end = self._on_end
        try:
            while self._step():
                pass
        except Exception as error:  # the session tells the client and logs it
            self._let_go()
            on_end(error)
        else:
            self._let_go()
            on_end(None)

    def _let_go(self) -> None:
        """Forget who listens: it has this worker, and both would stay until the next collection of
        garbage, with minutes of sound. Nor does a session that waits for its client need stages."""
        del self._on_output, self._on_held, self._on_end
        self.chain.close()
        self._seat.leave()

    def _step(self) -> bool:
        with self._changed:
            while not self._stopped:
                if self._queue and self.chain.seconds >= self._allowed:
                    self._on_held()
                elif self._queue or self._ending:
                    break
                self._changed.wait()
            if self._stopped:
                return False
            item = self._next()
        if item is None:
            with self._seat.cores.turn():
                rest = self.chain.flush()
            self._give(rest)
            return False
        if isinstance(item, _Change):
            self.chain.change(item.voice, item.settings)
            item.done()
            return True
        self._compute(*item)
        return True

    def _next(self) -> "tuple[float, Samples] | _Change | None":
        """Take the next thing to do, audio with the time when it is due; late audio is dropped on
        the way. Null at the end."""
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, _Change):
                return item
            due, samples = item
            self._waiting -= samples.size
            if self._drop_late is None or time.monotonic() - due <= self._drop_late:
                return item
            self._dropped += samples.size
        return None if self._ending else (self._due, np.zeros(0, np.float32))

    def _compute(self, due: float, samples: Samples) -> None:
        with self._seat.cores.turn(urgent=due - time.monotonic() < EARLY_SECONDS):
            started = time.perf_counter()
            made = self.chain.push(samples)
            spent = time.perf_counter() - started
        with self._changed:
            self._times.append(spent)
            self._computed += spent
            self._audio += samples.size / self.chain.input_rate
        self._pushed += samples.size / self.chain.input_rate
        self._give(made)

    def _give(self, made: bytes) -> None:
        if made:
            self._on_output(made)
