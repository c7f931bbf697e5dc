"""Killed at any moment, the server leaves a healthy house: fifty times in a row.

Each round starts the real server, lets clients convert, upload, clone, edit and delete, kills it
with SIGKILL after a seeded amount of work, starts it again and checks what is there.
"""

import hashlib
import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import av
import httpx
import pytest
from tests.sounds import tone, wav

ROUNDS = 50
SEED = 20261123
SECONDS = 1.0
VOICE = "JBFqnCBsd6RMkjVDRZzb"
FORMATS = ("mp3_44100_128", "pcm_16000", "opus_48000_64", "ulaw_8000")
LONGEST_ROUND = 30.0
CREDITS = 17
"""What one second of audio costs."""

SPEECH = Path(__file__).parent.parent / "speech" / "female_ljspeech.flac"
RECORDING = wav(tone(SECONDS))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are POSIX")


class Killable:
    """The server process, started and killed at will."""

    def __init__(self, data: Path) -> None:
        program = Path(__file__).with_name("killable.py")
        self._starter = subprocess.Popen(
            [sys.executable, str(program), str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._pid = 0

    def start(self) -> None:
        self._say("start")
        while not (line := self._hear()).startswith("pid"):
            pass
        self._pid = int(line.split()[1])

    def wait_ready(self) -> str:
        """Return the address once the server accepts connections."""
        while not (line := self._hear()).startswith("ready"):
            assert line, "The server did not start."
        return f"http://127.0.0.1:{line.split()[1]}"

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._say("reap")
        while self._hear() != "dead":
            pass

    def __enter__(self) -> "Killable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        self._starter.stdin.close()
        if kind is not None and self._pid:
            os.kill(self._pid, signal.SIGKILL)
        self._starter.wait(30)
        self._starter.stdout.close()

    def _say(self, word: str) -> None:
        assert self._starter.stdin is not None
        self._starter.stdin.write(word + "\n")

    def _hear(self) -> str:
        assert self._starter.stdout is not None
        return self._starter.stdout.readline().strip()


@dataclass
class Memory:
    """What the clients know over all rounds."""

    requests_of_items: dict[str, str] = field(default_factory=dict)
    deleted_items: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    leftovers: int = 0
    operations: int = 0


class Clients:
    """Threads that keep one server busy until it dies."""

    def __init__(self, url: str, key: str, memory: Memory, seed: int, wanted: int) -> None:
        self._url, self._key = url, key
        self._memory = memory
        self._wanted = wanted
        self._done = 0
        self._enough = threading.Event()
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._unexpected: list[str] = []
        if wanted == 0:
            self._enough.set()
        jobs = (self._convert, self._convert, self._upload_slowly, self._clone, self._tidy)
        self._threads = [
            threading.Thread(target=self._run, args=(job, random.Random(seed * 100 + number)))
            for number, job in enumerate(jobs)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_work(self, extra: float) -> None:
        """Return after enough operations and a moment more."""
        self._enough.wait(LONGEST_ROUND)
        time.sleep(extra)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not self._unexpected, self._unexpected

    def _run(self, job: Callable[[httpx.Client, random.Random], None], rng: random.Random) -> None:
        headers = {"xi-api-key": self._key}
        with httpx.Client(base_url=self._url, headers=headers, timeout=20) as client:
            while not self._stopping.is_set():
                try:
                    job(client, rng)
                except httpx.TransportError:
                    return

    def _check(self, answer: httpx.Response, *allowed: int) -> None:
        if answer.status_code not in (200, *allowed):
            self._unexpected.append(f"{answer.request.url}: {answer.status_code} {answer.text}")
        with self._guard:
            self._done += 1
            self._memory.operations += 1
            if self._done >= self._wanted:
                self._enough.set()

    def _convert(self, client: httpx.Client, rng: random.Random) -> None:
        path = f"/v1/speech-to-speech/{VOICE}" + rng.choice(("", "/stream"))
        query = {"output_format": rng.choice(FORMATS)}
        self._check(client.post(path, params=query, files={"audio": RECORDING}))

    def _upload_slowly(self, client: httpx.Client, rng: random.Random) -> None:
        boundary = "slow"
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        ).encode()
        body = head + RECORDING + f"\r\n--{boundary}--\r\n".encode()

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(body), 8000):
                yield body[start : start + 8000]
                self._stopping.wait(rng.uniform(0, 0.05))

        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        self._check(
            client.post(f"/v1/voice-changer/{VOICE}/stream", content=pieces(), headers=headers)
        )

    def _clone(self, client: httpx.Client, rng: random.Random) -> None:
        files = [("files", ("a.flac", SPEECH.read_bytes())), ("files", ("b.wav", RECORDING))]
        made = client.post("/v1/voices/add", data={"name": "clone"}, files=files)
        self._check(made)
        if made.status_code != 200:
            return
        voice_id = made.json()["voice_id"]
        if rng.random() < 0.5:
            edit = f"/v1/voices/{voice_id}/edit"
            self._check(client.post(edit, data={"name": "edited"}, files=files[1:]))
        if rng.random() < 0.7:
            self._check(client.delete(f"/v1/voices/{voice_id}"))

    def _tidy(self, client: httpx.Client, rng: random.Random) -> None:
        items = client.get("/v1/history").json()["history"]
        if len(items) < 3:
            time.sleep(0.02)
            return
        ids = [item["history_item_id"] for item in rng.sample(items, 3)]
        with self._guard:
            for item in items:
                self._memory.requests_of_items[item["history_item_id"]] = item["request_id"]
        self._check(client.post("/v1/history/download", json={"history_item_ids": ids}))
        with self._guard:
            self._memory.deleted_items.add(ids[0])
        self._check(client.delete(f"/v1/history/{ids[0]}"))


def stored(data: Path) -> dict[str, Path]:
    """Return the objects that lie in the folder, by key."""
    folder = data / "objects"
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


def count_leftovers(data: Path) -> int:
    """Return what the next start has to sweep."""
    with closing(sqlite3.connect(data / "menura.db")) as connection:
        known = {key for (key,) in connection.execute("SELECT key FROM objects")}
    return len(stored(data).keys() - known) + len(list((data / "incoming").iterdir()))


def check_storage(data: Path, memory: Memory) -> None:
    """Check the files and rows of a house that was just opened again."""
    with closing(sqlite3.connect(data / "menura.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = connection.execute("SELECT key, size, sha256 FROM objects").fetchall()
        items = dict(connection.execute("SELECT history_item_id, request_id FROM history_items"))
        owners = [
            key
            for table in ("history_items", "voice_samples", "voice_models")
            for (key,) in connection.execute(f"SELECT object_key FROM {table}")
        ]
        charged = dict(connection.execute("SELECT request_id, credits FROM usage_records"))
        counted = connection.execute(
            "SELECT sum(used) FROM counted_credits JOIN accounts ON owner_id = account_id"
        ).fetchone()[0]
        leases = connection.execute("SELECT count(*) FROM leases").fetchone()[0]
    files = stored(data)
    assert files.pop("owner", None) is not None
    assert files.keys() == {key for key, _, _ in rows}, "An orphan, or a row without its object."
    assert set(owners) <= files.keys()
    for key, size, digest in rows:
        if key not in memory.heard:
            content = files[key].read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
            memory.heard.add(key)
    assert list((data / "incoming").iterdir()) == []
    assert leases == 0
    memory.requests_of_items.update(items)
    paid_for = set(items.values()) | {
        memory.requests_of_items[item] for item in memory.deleted_items
    }
    assert charged.keys() <= paid_for, "Credits were charged for nothing."
    assert set(items.values()) <= charged.keys(), "Audio was given away."
    assert (counted or 0) == sum(charged.values())
    assert set(charged.values()) <= {CREDITS}


def check_audio(client: httpx.Client, memory: Memory) -> None:
    """Check that each listed item's audio is whole to a second decoder."""
    for item in client.get("/v1/history", params={"page_size": 1000}).json()["history"]:
        item_id = item["history_item_id"]
        if item_id in memory.heard:
            continue
        memory.heard.add(item_id)
        answer = client.get(f"/v1/history/{item_id}/audio")
        assert answer.status_code == 200
        assert seconds_of(answer.content, item["output_format"]) == pytest.approx(SECONDS, abs=0.06)


def seconds_of(audio: bytes, output_format: str) -> float:
    codec, rate = output_format.split("_")[:2]
    raw = {"pcm": 2, "ulaw": 1}
    if codec in raw:
        return len(audio) / raw[codec] / int(rate)
    with av.open(io.BytesIO(audio)) as container:
        frames = list(container.decode(audio=0))
    return sum(frame.samples for frame in frames) / frames[0].sample_rate


def check_voices(client: httpx.Client, memory: Memory) -> None:
    """Check that each clone's samples are whole and that it can still be measured."""
    for voice in client.get("/v1/voices").json()["voices"]:
        if voice["category"] != "cloned":
            continue
        assert voice["samples"]
        for sample in voice["samples"]:
            if sample["sample_id"] in memory.heard:
                continue
            memory.heard.add(sample["sample_id"])
            path = f"/v1/voices/{voice['voice_id']}/samples/{sample['sample_id']}/audio"
            answer = client.get(path)
            assert answer.status_code == 200
            assert len(answer.content) == sample["size_bytes"]


def test_fifty_kills_leave_a_healthy_house(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rng = random.Random(SEED)
    memory = Memory()
    with Killable(data) as server:
        for number in range(ROUNDS):
            server.start()
            if number % 8 == 0:
                # In the middle of starting, the very first start included.
                time.sleep(rng.uniform(0, 0.15))
                server.kill()
                continue
            url = server.wait_ready()
            key = (data / "api_key").read_text(encoding="utf-8").strip()
            check_storage(data, memory)
            with httpx.Client(base_url=url, headers={"xi-api-key": key}, timeout=30) as client:
                check_audio(client, memory)
                check_voices(client, memory)
            clients = Clients(url, key, memory, number, rng.randrange(0, 8))
            clients.wait_for_work(rng.uniform(0, 0.1))
            server.kill()
            clients.stop()
            memory.leftovers += count_leftovers(data)
        server.start()
        url = server.wait_ready()
        check_storage(data, memory)
        with httpx.Client(base_url=url, headers={"xi-api-key": key}, timeout=30) as client:
            check_audio(client, memory)
            check_voices(client, memory)
        server.kill()
    # The rounds were not idle, and some kills did hit something half done.
    assert memory.operations > ROUNDS
    assert memory.deleted_items
    assert memory.leftovers > 0
