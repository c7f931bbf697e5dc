"""The live socket: delay from mouth to ear, alone and beside files, and how many talkers two cores
hold."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import connect

from benchmarks.client import VOICE, Served, exchange, form, served
from benchmarks.recordings import speech, wav
from benchmarks.report import Report
from benchmarks.served import MODELS
from benchmarks.server import TRIES
from menura.engine.interface import SAMPLE_RATE

CHUNK = 480
SLACK = 15.0
"""Milliseconds that the socket and the machine may add to the stated delay."""

LATE = 40.0
"""Milliseconds over the stated delay at which a talker hears a gap: one chunk of jitter buffer."""

FILES = 12
"""Files that are converted at the same time, over and over, beside a talker."""


@dataclass
class Talk:
    """One talker's figures. delays: milliseconds from speaking a sample to hearing it."""

    stated: float
    delays: list[float] = field(default_factory=list)
    dropped: float = 0.0

    def quantile(self, share: float) -> float:
        """Return a quantile of the delays."""
        return float(np.quantile(self.delays, share))


async def talk(server: Served, audio: bytes, model: str, start: float) -> Talk:
    """Talk in real time, 20 ms a message, and note when each first sample of an answer is heard."""
    url = f"ws://127.0.0.1:{server.port}/v1/speech-to-speech/{VOICE}/live"
    async with connect(url, additional_headers={"xi-api-key": server.key}) as socket:
        await socket.send(json.dumps({"type": "start", "model_id": model, "seed": 1}))
        result = Talk(json.loads(await socket.recv())["delay_ms"])
        begun = time.perf_counter() + start

        async def speak() -> None:
            for number, at in enumerate(range(0, len(audio), 2 * CHUNK)):
                # A microphone hands a chunk over when its last sample has been spoken.
                due = begun + (number + 1) * CHUNK / SAMPLE_RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await socket.send(audio[at : at + 2 * CHUNK])
            await socket.send(json.dumps({"type": "end"}))

        speaking = asyncio.create_task(speak())
        heard = 0
        async for message in socket:
            if isinstance(message, bytes):
                now = time.perf_counter()
                result.delays.append(1000 * (now - begun - heard / SAMPLE_RATE))
                heard += len(message) // 2
                continue
            event = json.loads(message)
            if event["type"] == "error":
                raise RuntimeError(event)
            if event["type"] == "ended":
                result.dropped = event["dropped_ms"]
                break
        await speaking
        return result


async def talks(server: Served, count: int, seconds: float, model: str) -> list[Talk]:
    """Let some talk at once, out of step."""
    audio = speech(seconds)
    starts = np.random.default_rng(1).uniform(0, CHUNK / SAMPLE_RATE, count)
    return await asyncio.gather(*(talk(server, audio, model, start) for start in starts))


def mouth_to_ear(report: Report, quick: bool) -> None:
    """Delay of one talker on loopback, in 20 ms chunks."""
    found: dict[str, Talk] = {}
    with served() as server:
        for model in MODELS:
            asyncio.run(talks(server, 1, 2.0, model))
            (found[model],) = asyncio.run(talks(server, 1, 10 if quick else 60, model))
    real, floor = (found[model] for model in MODELS)
    report.add("live: stated delay, 20 ms chunks", real.stated, "ms", floor=floor.stated, limit=62)
    report.add("live: mouth to ear, p50", real.quantile(0.5), "ms", floor=floor.quantile(0.5))
    report.add(
        "live: mouth to ear, p95",
        real.quantile(0.95),
        "ms",
        floor=floor.quantile(0.95),
        limit=real.stated + SLACK,
    )


def beside_files(report: Report, quick: bool) -> None:
    """Delay of one talker on two cores that files keep busy."""
    body = form(wav(speech(10)))
    done = threading.Event()
    with served(cores=2) as server, ThreadPoolExecutor(FILES) as clients:

        def convert() -> None:
            while not done.is_set():
                exchange(server, "output_format=pcm_24000", [body], len(body))

        work = [clients.submit(convert) for _ in range(FILES)]
        time.sleep(1.0)
        try:
            (result,) = asyncio.run(talks(server, 1, 5 if quick else 30, MODELS[0]))
        finally:
            done.set()
        for each in work:
            each.result()
    name = f"live: a talker beside {FILES} files"
    report.add(f"{name}, p99 over the stated delay", result.quantile(0.99) - result.stated, "ms")
    report.add(f"{name}, audio dropped", result.dropped, "ms")


def talkers(report: Report, quick: bool) -> None:
    """Talkers at once before the p99 delay of one passes the stated delay by a jitter buffer."""
    held = []
    for model in MODELS:
        most = 0
        for count in (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24):
            if not any(_in_time(model, count, 5 if quick else 15) for _ in range(TRIES)):
                break
            most = count
        held.append(most)
    report.add("live: talkers on two cores, p99 in time", held[0], "talkers", floor=held[1])


def _in_time(model: str, count: int, seconds: int) -> bool:
    with served(cores=2) as server:
        results = asyncio.run(talks(server, count, seconds, model))
    worst = max(one.quantile(0.99) - one.stated for one in results)
    dropped = sum(one.dropped for one in results)
    print(f"  {model}: {count} talkers, p99 {worst:+.0f} ms, dropped {dropped:.0f} ms", flush=True)
    return worst <= LATE and not dropped


SUITE = [mouth_to_ear, beside_files, talkers]
