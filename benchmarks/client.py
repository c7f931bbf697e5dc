"""A server process to measure, and clients that watch the clock at the socket itself."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

BOUNDARY = "menura-benchmark"
VOICE = "JBFqnCBsd6RMkjVDRZzb"


@dataclass
class Served:
    """A running server. What it uses is read in /proc, which only Linux has."""

    port: int
    key: str
    process: subprocess.Popen[str]

    def cpu_seconds(self) -> float:
        """Return the CPU time the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> float:
        """Return the resident memory in megabytes (10**6 bytes)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def served(**settings: object) -> Iterator[Served]:
    """Run a server on a fresh data folder; `settings` go into its environment."""
    environment = os.environ | {
        f"MENURA_{name.upper()}": str(value) for name, value in settings.items()
    }
    with tempfile.TemporaryDirectory(prefix="menura-benchmark-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.served", folder],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Served(port, (Path(folder) / "api_key").read_text().strip(), process)
        finally:
            process.terminate()
            process.wait(30)


def form(audio: bytes, **fields: str) -> bytes:
    """Return a multipart body, fields first."""
    return form_head(**fields) + audio + form_tail()


def form_head(**fields: str) -> bytes:
    """Return a form up to the first byte of its audio."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
    )
    return "".join(parts).encode()


def form_tail() -> bytes:
    """Return what follows the audio."""
    return f"\r\n--{BOUNDARY}--\r\n".encode()


def head(server: Served, query: str, length: int | None) -> bytes:
    """Return a request's head; chunked without a length."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST /v1/speech-to-speech/{VOICE}/stream?{query} HTTP/1.1\r\nHost: benchmark\r\n"
        f"xi-api-key: {server.key}\r\nConnection: close\r\n{framing}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()


@dataclass
class Timed:
    """Times of one exchange in seconds after the last uploaded byte; bytes of its answer."""

    first: float
    last: float
    size: int


def exchange(
    server: Served, query: str, body: Iterable[bytes], length: int | None, pace: float = 0.0
) -> Timed:
    """Send a request, `pace` seconds between pieces, and time its answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head(server, query, length))
        begun = time.perf_counter()
        for number, piece in enumerate(body):
            if pace:
                time.sleep(max(0.0, begun + number * pace - time.perf_counter()))
            connection.sendall(piece)
        sent = time.perf_counter()
        received = b""
        while b"\r\n\r\n" not in received or received.endswith(b"\r\n\r\n"):
            data = connection.recv(65_536)
            if not data:
                raise RuntimeError(f"no answer: {received[:2000]!r}")
            received += data
        first = time.perf_counter()
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(received[:2000])
        size = len(received)
        while data := connection.recv(1 << 20):
            size += len(data)
        return Timed(first - sent, time.perf_counter() - sent, size)


@contextmanager
def watching(server: Served, every: float = 0.1) -> Iterator[Callable[[], float]]:
    """Sample the resident memory; the value lent returns the highest so far in megabytes."""
    highest = server.rss()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(every):
            highest = max(highest, server.rss())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: highest
    finally:
        done.set()
        thread.join()


@dataclass
class Paced:
    """A live listener. arrivals: when, in seconds after speaking began, which byte came."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)

    def delays(self, bytes_per_second: int) -> list[float]:
        """Return the seconds from each piece's being spoken to its being heard."""
        begun = 0
        found = []
        for when, end in self.arrivals:
            found.append(when - begun / bytes_per_second)
            begun = end
        return found


async def speak(
    server: Served, query: str, audio: bytes, piece: int, pace: float, **fields: str
) -> Paced:
    """Upload audio as it would be spoken and listen at the same time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    heard = Paced()
    begun = time.perf_counter()

    async def upload() -> None:
        writer.write(head(server, query, None))
        send(form_head(**fields))
        for number in range(0, len(audio), piece):
            due = begun + number / piece * pace
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            send(audio[number : number + piece])
            await writer.drain()
        send(form_tail())
        send(b"")

    def send(data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def listen() -> None:
        status = await reader.readuntil(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(status[:500])
        total = 0
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            total += size
            heard.arrivals.append((time.perf_counter() - begun, total))

    try:
        await asyncio.gather(upload(), listen())
    finally:
        writer.close()
    return heard
