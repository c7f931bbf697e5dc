"""A job gives the same answer however its upload arrives, and ends when nobody wants it."""

import io
import itertools
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from menura.audio.level import to_int16
from menura.conversion import job as job_module
from menura.conversion.job import Cancelled, Job
from menura.conversion.request import ConversionRequest, DurationLimits, SourcePlan
from menura.conversion.service import ConversionService
from menura.engine.registry import engine_for
from menura.engine.stream import ConversionStream
from menura.errors import (
    AudioTooLong,
    AudioTooShort,
    ConcurrencyExceeded,
    InvalidAudio,
    MenuraError,
    SystemBusy,
)
from menura.settings import Settings

from ..sounds import decoded, long_wav, tone, wav
from .plain import ENGINE, output, plain_request

WAIT = 60


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ConversionService]:
    made = ConversionService(Settings(data=tmp_path, max_seconds=0, cores=2))
    yield made
    made.close()
    assert made.running == 0
    assert not any(lane.streams for lane in made.lanes.all)


def answer_of(job: Job) -> bytes:
    return job.answer.reader().read()


def converted(
    service: ConversionService, data: bytes, request: ConversionRequest, cuts: list[int]
) -> bytes:
    job = service.start(request.source)
    edges = [0, *sorted(cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        job.upload.append(data[begin:end])
        time.sleep(0.001)
    job.upload.finish()
    job.commit(request)
    job.measured.result(WAIT)
    job.approve()
    try:
        return answer_of(job)
    finally:
        job.cancel()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_cutting_of_the_upload_gives_the_same_bytes(data: st.DataObject) -> None:
    service = ConversionService(Settings(max_seconds=0))
    try:
        upload = wav(tone(0.6, 22_050), 22_050)
        cuts = data.draw(st.lists(st.integers(0, len(upload)), max_size=12))
        name = data.draw(st.sampled_from(["pcm_16000", "mp3_44100_128", "opus_48000_32"]))
        request = plain_request(name)
        assert converted(service, upload, request, cuts) == converted(service, upload, request, [])
    finally:
        service.close()


def test_the_real_engine_gives_the_same_bytes_in_any_cutting(service: ConversionService) -> None:
    engine = engine_for()
    voice = engine.measure([tone(6.0, 24_000)]).voice
    upload = wav(tone(1.3, 44_100, seed=3), 44_100)
    request = ConversionRequest(SourcePlan(engine), voice, output("pcm_44100"), seed=1)
    whole = converted(service, upload, request, [])
    rng = np.random.default_rng(0)
    for count in (1, 9, 60):
        cuts = [int(cut) for cut in rng.integers(0, len(upload), count)]
        assert converted(service, upload, request, cuts) == whole
    job = service.start(request.source)
    job.commit(request, measure=False)
    job.approve()
    for start in range(0, len(upload), 5_000):
        job.upload.append(upload[start : start + 5_000])
        time.sleep(0.002)
    job.upload.finish()
    assert answer_of(job) == whole


def test_the_answer_is_what_the_engine_makes_to_the_last_sample(service: ConversionService) -> None:
    engine = engine_for()
    voice = engine.measure([tone(6.0, 24_000)]).voice
    upload = wav(tone(1.3, 24_000, seed=3), 24_000)
    request = ConversionRequest(SourcePlan(engine), voice, output("pcm_24000"), seed=1)
    stream = ConversionStream(engine, voice, request.settings, request.source.latency, 1)
    made = np.concatenate((stream.push(decoded(upload)), stream.flush()))
    assert converted(service, upload, request, []) == to_int16(made).astype("<i2").tobytes()


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("count", [5_301, 44_100])
def test_the_answer_is_as_long_as_the_source_to_the_sample(
    service: ConversionService, rate: int, count: int
) -> None:
    source = tone(count / rate, rate)
    out = decoded(converted(service, wav(source, rate), plain_request(f"wav_{rate}"), [700]))
    assert out.size == source.size == count


def test_the_answer_is_aligned_with_the_source(service: ConversionService) -> None:
    source = tone(1.0, 24_000)
    out = decoded(converted(service, wav(source, 24_000), plain_request("wav_24000"), []))
    np.testing.assert_allclose(out, source, atol=2 / 32768)


@pytest.mark.parametrize(
    "guess", [{}, {"file_format": "pcm_s16le_16"}, {"sample_rate": 16_000}], ids=str
)
@pytest.mark.parametrize("asked", [{}, {"file_format": "pcm_s16le_16"}], ids=str)
def test_a_wrong_guess_changes_nothing(
    service: ConversionService, guess: dict[str, object], asked: dict[str, object]
) -> None:
    data = wav(tone(0.5))
    if asked:
        data = data[44:]
    request = plain_request("pcm_16000", **asked)
    job = service.start(plain_request(**guess).source)
    job.upload.append(data)
    job.upload.finish()
    time.sleep(0.05)
    job.commit(request)
    assert job.measured.result(WAIT).samples == 8_000
    job.approve()
    assert answer_of(job) == converted(service, data, request, [])


def test_audio_longer_than_what_is_read_ahead(
    service: ConversionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = plain_request("pcm_16000")
    data = wav(tone(5.0))
    whole = converted(service, data, request, [])
    monkeypatch.setattr(job_module, "AHEAD_SECONDS", 1)
    assert converted(service, data, request, [2_000, 60_000]) == whole


def test_nothing_is_rendered_before_approval(service: ConversionService) -> None:
    job = service.start(plain_request().source)
    job.upload.append(wav(tone(0.5)))
    job.upload.finish()
    job.commit(plain_request())
    assert job.measured.result(WAIT).seconds == 0.5
    time.sleep(0.05)
    assert job.answer.size == 0
    job.approve()
    assert len(answer_of(job)) == 24_000
    produced = job.done.result(WAIT)
    assert produced.seconds == 0.5


def test_without_measuring_the_answer_begins_before_the_upload_ends(
    service: ConversionService,
) -> None:
    request = plain_request("pcm_16000")
    data = wav(tone(2.0))
    job = service.start(request.source)
    job.commit(request, measure=False)
    job.approve()
    job.upload.append(data[:40_000])
    first = job.answer.reader().read(1)
    assert len(first) == 1
    assert not job.upload.finished
    job.upload.append(data[40_000:])
    job.upload.finish()
    assert answer_of(job) == converted(service, data, request, [])


@pytest.mark.parametrize(
    ("data", "limits", "refusal"),
    [
        (b"", (0.1, 0), InvalidAudio),
        (b"this is no audio at all", (0.1, 0), MenuraError),
        (wav(tone(0.05)), (0.1, 0), AudioTooShort),
        (wav(tone(2.0)), (0.1, 1.5), AudioTooLong),
        (wav(tone(2.0)[:0]), (0.1, 0), InvalidAudio),
    ],
)
def test_what_cannot_be_converted_is_refused_when_measured(
    service: ConversionService,
    data: bytes,
    limits: tuple[float, float],
    refusal: type[MenuraError],
) -> None:
    job = service.start(plain_request().source, limits=DurationLimits(*limits))
    job.upload.append(data)
    job.upload.finish()
    job.commit(plain_request())
    with pytest.raises(refusal) as caught:
        job.measured.result(WAIT)
    assert caught.value.http == 400
    assert isinstance(job.done.exception(WAIT), refusal)
    assert job.answer.aborted


def test_interleaved_streams_give_what_each_gives_alone(service: ConversionService) -> None:
    uploads = [wav(tone(0.5 + 0.1 * number, seed=number)) for number in range(6)]
    request = plain_request("mp3_44100_64")
    alone = [converted(service, upload, request, []) for upload in uploads]
    jobs = [service.start(request.source) for _ in uploads]
    for start in range(0, max(map(len, uploads)), 3_000):
        for job, upload in zip(jobs, uploads, strict=True):
            job.upload.append(upload[start : start + 3_000])
    for job in jobs:
        job.upload.finish()
        job.commit(request)
        job.approve()
    assert [answer_of(job) for job in jobs] == alone


@pytest.mark.parametrize("moment", ["start", "upload", "committed", "measured", "rendering"])
def test_a_cancelled_job_ends_at_any_moment(service: ConversionService, moment: str) -> None:
    request = plain_request("pcm_16000")
    job = service.start(request.source, off_disk=True)
    if moment != "start":
        job.upload.append(wav(tone(60.0)))
    if moment in ("committed", "measured", "rendering"):
        job.upload.finish()
        job.commit(request)
    if moment in ("measured", "rendering"):
        job.measured.result(WAIT)
    if moment == "rendering":
        job.approve()
        assert job.answer.reader().read(10)
    job.cancel()
    with pytest.raises(Cancelled):
        job.done.result(WAIT)
    deadline = time.monotonic() + WAIT
    while service.running and time.monotonic() < deadline:
        time.sleep(0.005)
    assert service.running == 0


def test_beyond_the_limit_of_streams_the_server_is_busy(tmp_path: Path) -> None:
    service = ConversionService(Settings(data=tmp_path, max_streams=2))
    jobs = [service.start(plain_request().source) for _ in range(2)]
    with pytest.raises(SystemBusy) as caught:
        service.start(plain_request().source)
    assert caught.value.retry_after
    jobs[0].cancel()
    jobs[0].done.exception(WAIT)
    deadline = time.monotonic() + WAIT
    while service.running == 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    service.start(plain_request().source)
    service.close()


def test_one_account_keeps_no_other_out(service: ConversionService) -> None:
    source = plain_request().source
    for _ in range(2):
        service.start(source, owner="one", concurrency=1)
    with pytest.raises(ConcurrencyExceeded):
        service.start(source, owner="one", concurrency=1)
    service.start(source, owner="other", concurrency=1)


def test_a_failing_engine_is_no_fault_of_the_client(service: ConversionService) -> None:
    class Broken(type(ENGINE)):  # type: ignore[misc]
        def rendering(self, *_: object) -> object:
            raise RuntimeError("broken on purpose")

    plan = SourcePlan(Broken())
    request = ConversionRequest(plan, plain_request().voice, plain_request().output_format)
    job = service.start(plan)
    job.upload.append(wav(tone(0.5)))
    job.upload.finish()
    job.commit(request)
    job.measured.result(WAIT)
    job.approve()
    error = job.done.exception(WAIT)
    assert isinstance(error, MenuraError)
    assert error.http == 500
    assert "broken" not in error.message


def test_off_disk_an_unread_answer_waits_instead_of_growing(service: ConversionService) -> None:
    request = plain_request("pcm_48000")
    job = service.start(request.source, off_disk=True)
    job.upload.append(wav(tone(60.0)))
    job.upload.finish()
    job.commit(request)
    job.measured.result(WAIT)
    job.approve()
    job.answer.wait_beyond(1 << 20)
    # For it to grow, if it did.
    time.sleep(0.5)
    read = 0
    assert job.answer.size < 2 << 20
    while not job.answer.finished or read < job.answer.size:
        job.answer.wait_beyond(read)
        time.sleep(0.001)
        data = job.answer.read_at(read, 1 << 20)
        read += len(data)
        job.answer.drop(read)
        assert job.answer.size - read < 2 << 20
    assert read == 60 * 48_000 * 2


def test_twenty_minutes_in_little_memory(service: ConversionService) -> None:
    class Sink(io.RawIOBase):
        count = 0

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.count += len(data)
            return len(data)

    class Source(io.RawIOBase):
        pieces = long_wav(20 * 60)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return next(self.pieces, b"")

    sink = Sink()
    seen: list[tuple[float, float]] = []
    tracemalloc.start()
    try:
        produced = service.convert_file(
            Source(),
            sink,
            plain_request("pcm_8000"),
            progress=lambda done, total: seen.append((done, total)),
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert produced.duration.seconds == 1200
    assert sink.count == 1200 * 8_000 * 2
    assert seen[-1] == (1200, 1200)
    assert all(a <= b for a, b in itertools.pairwise(seen))
    assert peak < 30e6


def test_file_conversion_reports_what_is_wrong(service: ConversionService) -> None:
    with pytest.raises(MenuraError):
        service.convert_file(io.BytesIO(b"no audio"), io.BytesIO(), plain_request())


def test_the_tee_gets_every_byte_of_the_answer(service: ConversionService) -> None:
    copied: list[bytes] = []
    job = service.start(plain_request().source)
    job.upload.append(wav(tone(1.0)))
    job.upload.finish()
    job.commit(plain_request())
    job.measured.result(WAIT)
    job.approve(copied.append)
    assert answer_of(job) == b"".join(copied)


def test_a_future_is_settled_even_if_nobody_waits() -> None:
    service = ConversionService(Settings())
    job = service.start(plain_request().source)
    service.close()
    assert isinstance(job.done.exception(WAIT), Cancelled)
    assert not [each for each in threading.enumerate() if each.name.startswith("stream")]


def test_no_more_streams_compute_at_once_than_the_settings_say(tmp_path: Path) -> None:
    service = ConversionService(Settings(data=tmp_path, cores=2, processes=1))
    cores = service.lanes.here.cores
    cores.acquire()
    cores.acquire()
    try:
        job = service.start(plain_request().source)
        job.upload.append(wav(tone(0.5)))
        job.upload.finish()
        job.commit(plain_request())
        deadline = time.monotonic() + WAIT
        while not cores.waiting and time.monotonic() < deadline:
            time.sleep(0.001)
        assert cores.waiting == 1
        assert not job.measured.done()
        cores.release()
        assert job.measured.result(WAIT).seconds == 0.5
    finally:
        service.close()


def test_what_starts_while_the_service_is_closed_is_stopped_or_refused(tmp_path):
    for _ in range(20):
        service = ConversionService(Settings(data=tmp_path))
        started = threading.Event()

        def start_on(service=service, started=started) -> None:
            while True:
                with suppress(SystemBusy):
                    service.start(plain_request().source)
                started.set()

        def start_until_refused(start_on=start_on) -> None:
            with pytest.raises(RuntimeError, match="shutdown"):
                start_on()

        starting = threading.Thread(target=start_until_refused)
        starting.start()
        assert started.wait(WAIT)
        closing = threading.Thread(target=service.close, daemon=True)
        closing.start()
        for thread in (starting, closing):
            thread.join(WAIT)
            assert not thread.is_alive()
        assert service.running == 0
