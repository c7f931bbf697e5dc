"""The HTTP way: time to the first byte, cost of a stream, streams in real time, memory.

Every figure stands beside its floor: the same request with an engine that only passes the audio
through, so that what remains is upload, decoding, resampling, encoding and answer.
"""

import asyncio
import statistics
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.client import Served, exchange, form, form_head, form_tail, served, speak, watching
from benchmarks.recordings import speech, wav
from benchmarks.report import Report
from benchmarks.served import MODELS, PASS_THROUGH
from menura.audio.encode import open_encoder
from menura.audio.formats import find_format
from menura.audio.wav_header import wav_header

LATE = 0.2
"""Seconds by which a piece may come later than those of a stream that is alone usually do."""
TRIES = 2
"""A machine's other work makes streams late, never early: those in time once are held."""


def first_byte(report: Report, quick: bool) -> None:
    """Time from the last uploaded byte to the first audio byte, of a 5 s clip as MP3."""
    audio = wav(speech(5.0))
    count = 20 if quick else 200
    for name, paced in (("sent at once", False), ("sent as it is spoken", True)):
        times: dict[str, list[float]] = {}
        with served() as server:
            for model in MODELS:
                body = form(audio, model_id=model)
                pieces = [body[i : i + 4800] for i in range(0, len(body), 4800)]
                pieces = pieces if paced else [body]
                for _ in range(3):
                    exchange(server, "output_format=mp3_44100_128", [body], len(body))
                times[model] = sorted(
                    exchange(
                        server,
                        "output_format=mp3_44100_128",
                        pieces,
                        len(body),
                        0.1 if paced else 0.0,
                    ).first
                    * 1000
                    for _ in range(max(5, count // 10) if paced else count)
                )
        for share, limit in ((0.5, 60), (0.95, 120)):
            value, floor = (_quantile(times[model], share) for model in MODELS)
            report.add(
                f"first byte, 5 s {name}, p{share * 100:.0f}",
                value,
                "ms",
                floor=floor,
                limit=limit,
            )


def whole_chain(report: Report, quick: bool) -> None:
    """CPU time of the server for each second of audio, one stream on one core."""
    seconds = 30 if quick else 120
    for label, audio in (("WAV", wav(speech(seconds))), ("MP3", _mp3(seconds))):
        for output in ("mp3_44100_128", "pcm_16000"):
            values = []
            with served(cores=1) as server:
                for model in MODELS:
                    body = form(audio, model_id=model)
                    exchange(server, f"output_format={output}", [body], len(body))
                    before = server.cpu_seconds()
                    exchange(server, f"output_format={output}", [body], len(body))
                    values.append((server.cpu_seconds() - before) / seconds)
            report.add(
                f"real-time factor (CPU), {label} to {output}",
                values[0],
                "",
                floor=values[1],
                limit=0.10,
            )


def real_time_streams(report: Report, quick: bool) -> None:
    """Streams that are spoken and heard at the same time before one of them is late."""
    seconds = 6 if quick else 15
    counts = []
    for model in MODELS:
        held = 0
        with served(cores=2) as server:
            usual = statistics.median(asyncio.run(_speakers(server, 1, seconds, model)))
        for count in (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 56, 64):
            if not any(_in_time(model, count, seconds, usual + LATE) for _ in range(TRIES)):
                break
            held = count
        counts.append(held)
        name = "pass-through" if model == PASS_THROUGH else "converted"
        report.add(f"duplex delay of one stream, {name}, median", 1000 * usual, "ms")
    report.add(
        f"real-time streams on two cores, none {1000 * LATE:.0f} ms late",
        counts[0],
        "streams",
        floor=counts[1],
    )


def memory_over_many(report: Report, quick: bool) -> None:
    """Growth of the resident memory over many conversions."""
    count = 60 if quick else 500
    body = form(wav(speech(2.0)))
    with served() as server:
        for _ in range(20):
            exchange(server, "", [body], len(body))
        before = server.rss()
        for _ in range(count):
            exchange(server, "", [body], len(body))
        report.add(f"memory after {count} more conversions", server.rss() - before, "MB", limit=20)
        report.add("memory of the server", server.rss(), "MB")


def memory_of_an_hour(report: Report, quick: bool) -> None:
    """Highest resident memory over idle while one long file is converted."""
    seconds = 300 if quick else 3600
    second = speech(10.0, 16_000)

    def upload(model: str) -> Iterator[bytes]:
        yield form_head(model_id=model) + wav_header(16_000, 16_000 * seconds)
        for _ in range(seconds // 10):
            yield second
        yield form_tail()

    values = []
    for model in MODELS:
        with served() as server:
            warm = form(wav(speech(2.0)), model_id=model)
            for _ in range(5):
                exchange(server, "", [warm], len(warm))
            idle = server.rss()
            length = sum(len(piece) for piece in upload(model))
            with watching(server) as highest:
                exchange(server, "output_format=mp3_44100_128", upload(model), length)
            values.append(highest() - idle)
    report.add(
        f"memory over idle, a file of {seconds / 60:.0f} minutes",
        values[0],
        "MB",
        floor=values[1],
        limit=50,
    )


SUITE: list[Callable[[Report, bool], None]] = [
    first_byte,
    whole_chain,
    real_time_streams,
    memory_over_many,
    memory_of_an_hour,
]


def _in_time(model: str, count: int, seconds: int, limit: float) -> bool:
    with served(cores=2) as server:
        worst = max(asyncio.run(_speakers(server, count, seconds, model)))
    print(f"  {model}: {count} streams, latest piece after {1000 * worst:.0f} ms", flush=True)
    return worst <= limit


async def _speakers(server: Served, count: int, seconds: int, model: str) -> list[float]:
    """Have so many people speak at once and return the delays of all pieces, in seconds."""
    audio = wav(speech(seconds, 16_000), 16_000)
    query = "output_format=pcm_16000&duplex=true"
    warm = form(wav(speech(1.0)), model_id=model)
    await asyncio.to_thread(exchange, server, "", [warm], len(warm))

    async def one(number: int) -> list[float]:
        await asyncio.sleep(number * 0.1 / count)
        heard = await speak(server, query, audio, 3200, 0.1, model_id=model)
        return heard.delays(32_000)

    return [
        delay
        for delays in await asyncio.gather(*(one(number) for number in range(count)))
        for delay in delays
    ]


def _mp3(seconds: int) -> bytes:
    known = find_format("mp3_24000_48")
    assert known is not None
    encoder = open_encoder(known)
    samples = np.frombuffer(speech(seconds), "<i2").astype(np.float32) / 32768
    return encoder.push(samples) + encoder.finish()


def _quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
