"""Starting conversions: the threads, the cores they share, and whole files for the command line."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from menura.conversion.cores import Cores
from menura.conversion.job import Job, Produced
from menura.conversion.lanes import Lanes
from menura.conversion.request import ConversionRequest, DurationLimits, SourcePlan
from menura.conversion.spool import Spool
from menura.errors import ConcurrencyExceeded, SystemBusy
from menura.settings import Settings

COPY_BYTES = 65_536
UNSENT_BYTES = 1_048_576
"""Bytes of an answer that may wait for a slow client where no temporary file may hold them."""


class ConversionService:
    """All conversions of this process: at most `max_streams` threads, which compute in `lanes`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.lanes = Lanes(settings.cores, settings.processes or settings.cores)
        self.cores = Cores(settings.cores)
        """For what is computed beside the streams."""
        self._threads = ThreadPoolExecutor(settings.max_streams, "stream")
        self._jobs: dict[Job, str] = {}
        self._guard = threading.Lock()

    @property
    def limits(self) -> DurationLimits:
        """The lengths the settings allow for a conversion."""
        return DurationLimits(self._settings.min_seconds, self._settings.max_seconds)

    @property
    def running(self) -> int:
        """Number of jobs that have not ended."""
        return len(self._jobs)

    def start(
        self,
        guess: SourcePlan,
        *,
        limits: DurationLimits | None = None,
        owner: str = "",
        concurrency: int | None = None,
        off_disk: bool = False,
        hold_answer: bool = False,
    ) -> Job:
        """Start a job on an upload that is about to arrive.

        owner, concurrency: the account, and how many of its requests may run at once. As many again
        are taken in, which read ahead until it is their turn; more would take threads and memory
        from others. off_disk: nothing of it may touch the disk. hold_answer: the answer is read
        only when whole; otherwise one that is `off_disk` waits for its reader to bound its memory.
        Raises ConcurrencyExceeded beyond twice `concurrency`, SystemBusy beyond `max_streams`.
        """
        memory = None if off_disk else self._settings.spool_memory_bytes
        with self._guard:
            if len(self._jobs) >= self._settings.max_streams:
                raise SystemBusy(
                    f"The server already runs {self._settings.max_streams} conversions, its limit; "
                    "try again soon.",
                    retry_after=1,
                )
            taken_in = sum(each == owner for each in self._jobs.values())
            if concurrency is not None and taken_in >= 2 * concurrency:
                raise ConcurrencyExceeded(
                    f"Too many parallel requests: the tier of this account allows {concurrency}.",
                    retry_after=1,
                )
            job = Job(
                Spool(memory),
                Spool(memory),
                guess,
                limits or self.limits,
                self.lanes.seat(guess.engine),
                on_end=self._ended,
                answer_held=UNSENT_BYTES if off_disk and not hold_answer else None,
            )
            # Under the guard: what starts while all is being stopped is stopped, or refused.
            self._threads.submit(job.run)
            self._jobs[job] = owner
        return job

    def _ended(self, job: Job) -> None:
        with self._guard:
            del self._jobs[job]

    def convert_file(
        self,
        source: BinaryIO,
        target: BinaryIO,
        request: ConversionRequest,
        *,
        limits: DurationLimits | None = None,
        progress: Callable[[float, float], None] = lambda done, total: None,
    ) -> Produced:
        """Convert one binary file into another, blocking.

        progress: called with the seconds made so far and the seconds there will be.
        Raises what the job refuses, and OSError of the files.
        """
        job = self.start(request.source, limits=limits)
        try:
            while data := source.read(COPY_BYTES):
                job.upload.append(data)
            job.upload.finish()
            job.commit(request)
            seconds = job.measured.result().seconds / request.settings.speed
            job.approve()
            reader = job.answer.reader()
            while data := reader.read(COPY_BYTES):
                target.write(data)
                progress(min(job.rendered_seconds, seconds), seconds)
            return job.done.result()
        finally:
            job.cancel()

    def close(self) -> None:
        """Stop every job, and wait for the threads and the processes."""
        with self._guard:
            running = tuple(self._jobs)
            self._threads.shutdown(wait=False)
        for job in running:
            job.cancel()
        self._threads.shutdown(wait=True)
        self.lanes.close()
