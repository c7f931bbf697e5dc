"""One conversion in its own thread, from an upload that still arrives to an answer being sent.

    open ──> speculate ──> commit ──> measure ──> approve ──> render ──> done
             (read and      (the form   (the exact   (quota,     (bytes into
              analyse what   is known)   length)      lease)      the answer)
              has arrived)

Until `commit` the source plan is a guess, and what is read ahead is bounded. If the plan turns out
to be different, reading starts again from the spool. Every step is one chunk of work in one turn on
the cores.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from menura.conversion.chain import Counted, Source, Target
from menura.conversion.lanes import Seat
from menura.conversion.request import (
    ConversionRequest,
    Duration,
    DurationLimits,
    SourcePlan,
)
from menura.conversion.spool import Spool, SpoolAborted
from menura.engine.interface import HOP, SAMPLE_RATE, Features, Samples
from menura.errors import MenuraError

log = logging.getLogger(__name__)

AHEAD_SECONDS = 60
"""Audio read and analysed at most before the form is complete and the request approved."""

PIECE = 3840
"""Samples analysed at a time: 160 ms, so that no stream holds a core for long."""


class Cancelled(Exception):
    """The conversion was stopped because nobody wants its result any more."""


@dataclass(frozen=True, slots=True)
class Produced:
    """What a finished job made. seconds: of audio in the answer."""

    duration: Duration
    seconds: float


class Job:
    """A conversion. Its methods may be called from any thread; `run` is the thread's own.

    answer_held: most bytes of the answer that wait in memory for its reader; None lifts the limit.
    measured: the source's length; set after `commit`, unless the request does without.
    done: what was produced, set when the answer is finished.
    Both fail with a MenuraError (refused or failed) or Cancelled.
    """

    def __init__(
        self,
        upload: Spool,
        answer: Spool,
        guess: SourcePlan,
        limits: DurationLimits,
        seat: Seat,
        *,
        on_end: Callable[["Job"], None],
        answer_held: int | None,
    ) -> None:
        self.upload = upload
        self.answer = answer
        self.measured: Future[Duration] = Future()
        self.done: Future[Produced] = Future()
        self._guess = guess
        self._limits = limits
        self._seat = seat
        self._on_end = on_end
        self._answer_held = answer_held
        self._request: ConversionRequest | None = None
        self._measure = True
        self._approved = False
        self._tee: Callable[[bytes], None] | None = None
        self._cancelled = False
        self._changed = threading.Condition()
        self._rendered = 0.0

    @property
    def rendered_seconds(self) -> float:
        """Seconds of audio in the answer so far."""
        return self._rendered

    def commit(self, request: ConversionRequest, *, measure: bool = True) -> None:
        """Say what is to be done.

        measure: whether the source's whole length is found before anything is rendered. Without
        it the job renders while the upload arrives, and `measured` is never set.
        """
        with self._changed:
            self._request = request
            self._measure = measure
            self._changed.notify_all()

    def approve(self, tee: Callable[[bytes], None] | None = None) -> None:
        """Let the job render. tee: also gets every byte of the answer, in the job's thread."""
        with self._changed:
            self._tee = tee
            self._approved = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Stop at once: within the chunk being computed. Frees both spools."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
        self.upload.abort()
        self.answer.abort()

    def run(self) -> None:
        """Do the work; returns when it is done, refused, failed or cancelled."""
        for future in (self.measured, self.done):
            future.set_running_or_notify_cancel()
        try:
            with closing(_Work(self._seat, self._limits, self.upload, self._guess)) as work:
                self.done.set_result(self._convert(work))
        except (SpoolAborted, Cancelled):
            self._fail(Cancelled())
        except MenuraError as error:
            self._fail(error)
        except Exception:
            if self._cancelled:
                self._fail(Cancelled())
            else:
                log.exception("A conversion failed.")
                self._fail(MenuraError("The conversion failed; the server's log says why."))
        finally:
            self._seat.leave()
            self.upload.abort()
            self._on_end(self)

    def _fail(self, error: Exception) -> None:
        self.answer.abort()
        for future in (self.measured, self.done):
            if not future.done():
                future.set_exception(error)

    def _convert(self, work: "_Work") -> Produced:
        request = self._speculate(work)
        work.follow(request.source)
        duration = None
        if self._measure:
            duration = work.measure(self._check)
            self.measured.set_result(duration)
        # Opening the encoder takes a millisecond, which is spent while the quota is asked for.
        target = Target(request, self._seat, duration)
        while not self._approved:
            if not work.step_ahead():
                self._wait(lambda: self._approved)
            self._check()
        return self._render(work, target)

    def _speculate(self, work: "_Work") -> ConversionRequest:
        """Work on a guess until the request is known."""
        while self._request is None:
            if not work.step_guess():
                self._wait(lambda: self._request is not None)
            self._check()
        return self._request

    def _render(self, work: "_Work", target: Target) -> Produced:
        ended = False
        while not ended:
            self._check()
            with self._seat.cores.turn():
                features = work.features()
                if features is not None:
                    data = target.push(features)
                elif work.exhausted:
                    ended = True
                    data = target.finish(work.total, work.duration)
                else:
                    continue
            self._rendered = target.seconds
            if self._answer_held is not None:
                self.answer.wait_until_dropped(self._answer_held)
            if self._tee is not None:
                self._tee(data)
            self.answer.append(data)
        self.answer.finish()
        return Produced(work.duration, target.seconds)

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or until())

    def _check(self) -> None:
        if self._cancelled:
            raise Cancelled


class _Work:
    """Reading and analysing a source, as far ahead as is allowed.

    A failure while following a guess is kept until the guess has been confirmed.
    """

    def __init__(
        self, seat: Seat, limits: DurationLimits, upload: Spool, guess: SourcePlan
    ) -> None:
        self._seat = seat
        self._limits = limits
        self._upload = upload
        self._start(guess)

    def _start(self, plan: SourcePlan) -> None:
        self._plan = plan
        self._failure: Exception | None = None
        self._analysis = self._seat.analysis(plan.engine, plan.latency)
        self._reader = self._upload.reader(self._seat.cores.suspended)
        self._source: Source | None = None
        self._meter: Counted | None = None
        self._samples: deque[Samples] = deque()
        self._features: deque[Features] = deque()
        self._waiting_samples = 0
        self._waiting_frames = 0
        self._flushed = False

    def follow(self, plan: SourcePlan) -> None:
        """Go on with a plan, from the start if it is another one. Raises a kept failure."""
        if plan == self._plan:
            if self._failure is not None:
                raise self._failure
            return
        self.close()
        self._start(plan)

    def close(self) -> None:
        """Free the decoders."""
        for opened in (self._source, self._meter):
            if opened is not None:
                opened.close()
        self._source = self._meter = None

    @property
    def exhausted(self) -> bool:
        """Whether all samples have been analysed and their features given out."""
        return self._flushed and not self._features

    @property
    def total(self) -> int:
        """Samples of the source at 24 kHz read so far."""
        return self._source.total if self._source is not None else 0

    @property
    def duration(self) -> Duration:
        """The length of the source as far as it was read."""
        assert self._source is not None
        return self._source.duration

    def step_guess(self) -> bool:
        """Do one step while the request is unknown; False when nothing is left to do."""
        if self._failure is not None:
            return False
        try:
            with self._seat.cores.turn():
                return self._guessing()
        except SpoolAborted:
            raise
        except Exception as failure:
            self._failure = failure
            return False

    def step_ahead(self) -> bool:
        """Do one step before the request is approved; False when nothing is left to do."""
        with self._seat.cores.turn():
            if self._samples:
                self._analyse()
            elif self._may_read and not self._reader.would_wait:
                self._read()
            else:
                return False
            return True

    def measure(self, check: Callable[[], None]) -> Duration:
        """Read to the end of the source, or count it aside, and return its exact length."""
        while True:
            check()
            with self._seat.cores.turn():
                if self._at_end:
                    return self.duration
                if self._may_read:
                    self._read()
                elif self._count():
                    assert self._meter is not None
                    return self._meter.duration

    def features(self) -> Features | None:
        """Return the next features, None when another call or the end must bring them."""
        if self._features:
            features = self._features.popleft()
            self._waiting_frames -= features.frames
            return features
        enough = self._waiting_samples >= PIECE or self._reader.would_wait
        if self._samples and (self._at_end or enough):
            self._analyse()
        elif not self._at_end:
            self._read()
        elif not self._flushed:
            self._flushed = True
            self._keep(self._analysis.flush())
        return None

    @property
    def _at_end(self) -> bool:
        return self._source is not None and self._source.ended

    @property
    def _may_read(self) -> bool:
        if self._at_end:
            return False
        return self._waiting_samples + self._waiting_frames * HOP < AHEAD_SECONDS * SAMPLE_RATE

    def _guessing(self) -> bool:
        if self._may_read and not (self._reader.would_wait and self._samples):
            self._read()
        elif self._samples:
            self._analyse()
        elif self._at_end:
            return False
        else:
            return not self._count()
        return True

    def _read(self) -> None:
        if self._source is None:
            self._source = Source(self._reader, self._plan, self._limits)
        samples = self._source.read()
        self._waiting_samples += samples.size
        for start in range(0, samples.size, PIECE):
            self._samples.append(samples[start : start + PIECE])

    def _analyse(self) -> None:
        pieces = [self._samples.popleft()]
        size = pieces[0].size
        while self._samples and size + self._samples[0].size <= PIECE:
            pieces.append(self._samples.popleft())
            size += pieces[-1].size
        self._waiting_samples -= size
        self._keep(self._analysis.push(np.concatenate(pieces)))

    def _keep(self, features: Features) -> None:
        """Keep features until they are rendered, a piece at a time."""
        self._waiting_frames += features.frames
        self._features.extend(features.split(PIECE // HOP))

    def _count(self) -> bool:
        """Count one more block of the source aside; True at its end."""
        if self._meter is None:
            reader = self._upload.reader(self._seat.cores.suspended)
            self._meter = Counted(reader, self._plan.file_format, self._limits)
        if not self._meter.ended:
            self._meter.read()
        return self._meter.ended
