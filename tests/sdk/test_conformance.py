"""What the contract asks for beyond single calls: URL families, retries, failures, browsers."""

import asyncio
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from elevenlabs import ElevenLabs
from elevenlabs.core import ApiError
from elevenlabs.errors import UnprocessableEntityError

from menura.engine.registry import engine_for

from ..conftest import RunningServer
from .conftest import PROGRAM_LIMIT

GEORGE = "JBFqnCBsd6RMkjVDRZzb"
JAVASCRIPT = Path(__file__).parent / "js"
ONE_AT_A_TIME = {
    "default_tier": "single",
    "tiers": {"single": {"concurrency": 1, "zero_retention": True}},
    "queue_seconds": 0,
}
FAMILIES = ("/v1/speech-to-speech", "/v1/voice-changer")

needs_node = pytest.mark.skipif(
    shutil.which("node") is None
    or not (JAVASCRIPT / "node_modules" / "@elevenlabs" / "elevenlabs-js").is_dir(),
    reason="Node.js or the npm package is missing; run tests/setup.sh",
)


@contextmanager
def python_sdk(url: str, key: str) -> Iterator[ElevenLabs]:
    """Lend a client of the official SDK, and close its connections, for which it has no method."""
    client = ElevenLabs(base_url=url, api_key=key)
    yield client
    client._client_wrapper.httpx_client.httpx_client.close()


def javascript(url: str, key: str, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `convert.mjs`."""
    return subprocess.Popen(
        ["node", str(JAVASCRIPT / "convert.mjs"), url, str(folder), *arguments],
        env={**os.environ, "ELEVENLABS_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer_of(program: "subprocess.Popen[str]") -> Any:
    """Wait for a program and return what it printed."""
    output, errors = program.communicate(timeout=PROGRAM_LIMIT)
    assert program.returncode == 0, errors
    return json.loads(output)


@pytest.mark.parametrize("suffix", ["", "/stream"])
def test_both_families_answer_alike(
    shared_server: RunningServer, recordings: Path, suffix: str
) -> None:
    audio = (recordings / "short.wav").read_bytes()
    answers = [
        shared_server.client.post(
            f"{family}/{GEORGE}{suffix}", files={"audio": audio}, data={"seed": "1"}
        )
        for family in FAMILIES
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert set(answers[0].headers) == set(answers[1].headers)
    for name in ("content-type", "character-cost", "maximum-concurrent-requests"):
        assert answers[0].headers[name] == answers[1].headers[name]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix", ["", "/stream"])
def test_missing_audio(shared_server: RunningServer, family: str, suffix: str) -> None:
    for parts in ({"model_id": (None, "eleven_english_sts_v2")}, {"other": b"x"}):
        refused = shared_server.client.post(f"{family}/{GEORGE}{suffix}", files=parts)
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", "audio"]


@contextmanager
def busy(server: RunningServer) -> Iterator[Callable[[], None]]:
    """Hold the account's only place, as a long request of another program would."""
    accounts = server.services.accounts
    principal = server.run(accounts.keys.authenticate(server.api_key, None))
    leave = asyncio.Event()
    entered = threading.Event()

    async def hold() -> None:
        async with accounts.leases.acquire(principal):
            entered.set()
            await leave.wait()

    holding = asyncio.run_coroutine_threadsafe(hold(), server._loop)
    assert entered.wait(30)

    def end() -> None:
        server._loop.call_soon_threadsafe(leave.set)
        holding.result(30)

    yield end
    if not holding.done():
        end()


def test_a_second_request_is_one_too_many(
    server: Callable[..., RunningServer], recordings: Path
) -> None:
    running = server(**ONE_AT_A_TIME)
    audio = (recordings / "short.wav").read_bytes()
    with python_sdk(running.url, running.api_key) as client, busy(running) as end:
        with pytest.raises(ApiError) as refused:
            b"".join(client.speech_to_speech.convert(GEORGE, audio=audio))
        assert refused.value.status_code == 429
        assert int((refused.value.headers or {})["retry-after"]) >= 1
        assert refused.value.body["detail"]["code"] == "concurrent_limit_exceeded"
        assert refused.value.body["detail"]["status"] == "too_many_concurrent_requests"
        end()
        assert b"".join(client.speech_to_speech.convert(GEORGE, audio=audio))


@needs_node
def test_the_javascript_sdk_tries_again_and_succeeds(
    server: Callable[..., RunningServer], recordings: Path
) -> None:
    running = server(**ONE_AT_A_TIME)
    with busy(running) as end:
        program = javascript(running.url, running.api_key, recordings)
        refusals = running.app.state.metrics.requests.labels(
            "POST", "/v1/speech-to-speech/{voice_id}", 429
        )
        deadline = time.monotonic() + PROGRAM_LIMIT
        while refusals._value.get() < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        end()
        assert answer_of(program) > 10_000


class FirstAnswer503(BaseHTTPRequestHandler):
    """A proxy in front of the server that fails once and then passes everything on."""

    target = ""
    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.bodies.append(body)
        if len(self.bodies) == 1:
            answer = httpx.Response(503, headers={"retry-after": "0"}, content=b"{}")
        else:
            headers = {name: self.headers[name] for name in ("content-type", "xi-api-key")}
            answer = httpx.post(self.target + self.path, content=body, headers=headers, timeout=60)
        self.send_response(answer.status_code)
        for name in ("content-type", "retry-after"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def flaky(shared_server: RunningServer) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a proxy whose first answer is 503, and the bodies it was sent."""
    handler = cast(
        type[FirstAnswer503],
        type("Handler", (FirstAnswer503,), {"target": shared_server.url, "bodies": []}),
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}", handler.bodies
        proxy.shutdown()
        thread.join()


def clones(server: RunningServer) -> list[str]:
    voices = server.client.get("/v1/voices").json()["voices"]
    return [voice["voice_id"] for voice in voices if voice["category"] == "cloned"]


def test_a_retry_that_lost_its_fields_makes_no_voice(
    shared_server: RunningServer, recordings: Path, flaky: tuple[str, list[bytes]]
) -> None:
    url, bodies = flaky
    speech = (recordings / "speech.wav").read_bytes()
    before = clones(shared_server)
    with (
        python_sdk(url, shared_server.api_key) as client,
        pytest.raises(UnprocessableEntityError) as refused,
    ):
        client.voices.ivc.create(name="Twice", files=[speech])
    assert refused.value.body["detail"][0]["loc"] == ["body", "name"]
    assert len(bodies) == 2
    assert clones(shared_server) == before


@needs_node
def test_a_whole_retry_makes_one_voice(
    shared_server: RunningServer, recordings: Path, flaky: tuple[str, list[bytes]]
) -> None:
    url, _ = flaky
    before = clones(shared_server)
    made = answer_of(javascript(url, shared_server.api_key, recordings, "clone"))
    assert clones(shared_server) == [made, *before]
    shared_server.client.delete(f"/v1/voices/{made}")


def collect(pieces: Iterator[bytes], into: bytearray) -> None:
    for piece in pieces:
        into += piece


def test_an_engine_that_dies_breaks_the_transfer(
    shared_server: RunningServer, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for()
    start = engine.rendering

    class Dying:
        def __init__(self, rendering: Any) -> None:
            self._rendering = rendering
            self._pushes = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._rendering, name)

        def push(self, features: Any) -> Any:
            self._pushes += 1
            if self._pushes > 8:
                raise RuntimeError("the engine died")
            return self._rendering.push(features)

        def flush(self, total: int) -> Any:
            raise RuntimeError("the engine died")

    def rendering(*arguments: Any) -> Any:
        return Dying(start(*arguments))

    monkeypatch.setattr(type(engine), "rendering", lambda _, *arguments: rendering(*arguments))
    speech = (recordings / "speech.wav").read_bytes()
    received = bytearray()
    before = shared_server.client.get("/v1/history").json()["history"]
    with python_sdk(shared_server.url, shared_server.api_key) as client:
        pieces = client.speech_to_speech.stream(GEORGE, audio=speech, output_format="pcm_44100")
        with pytest.raises(httpx.RemoteProtocolError):
            collect(pieces, received)
    assert 0 < len(received) < 3 * 88_200
    assert shared_server.client.get("/v1/history").json()["history"] == before


def test_a_browser_may_ask(shared_server: RunningServer) -> None:
    wanted = "xi-api-key, x-fern-language, x-fern-sdk-name, x-fern-sdk-version, content-type"
    with shared_server.anonymous() as anonymous:
        for method, path in (
            ("POST", f"/v1/speech-to-speech/{GEORGE}/stream"),
            ("GET", "/v2/voices"),
            ("DELETE", "/v1/voices/x"),
        ):
            allowed = anonymous.options(
                path,
                headers={
                    "origin": "https://example.org",
                    "access-control-request-method": method,
                    "access-control-request-headers": wanted,
                },
            )
            assert allowed.status_code in {200, 204}
            assert allowed.headers["access-control-allow-origin"] == "*"
            assert allowed.headers["access-control-allow-headers"] == "*"
            assert method in allowed.headers["access-control-allow-methods"]
