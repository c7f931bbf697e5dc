"""Who listens slowly is waited for; who does not listen at all is lost, and can come back."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from menura.cli.keepalive import PatientWebSocket

from ..api.conftest import plain_model  # noqa: F401
from ..api.wire import PLAIN

pytestmark = pytest.mark.usefixtures("plain_model")

VOICE = "21m00Tcm4TlvDq8ikWAM"
SECONDS = 30
OUTPUT_BYTES = SECONDS * 2 * 48000
START = {
    "type": "start",
    "input": {"sample_rate": 8000},
    "output_format": "pcm_48000",
    "model_id": PLAIN,
    "seed": 1,
    "drop_late_ms": None,
}


@pytest.fixture
def impatient(server):
    """A server that asks every second whether its clients are there."""
    return server(serving={"ws_ping_interval": 1, "ws_ping_timeout": 3})


def open_socket(server, buffer=65_536, **options):
    """Return a client's socket which, left unread, is soon full, as on a slow link."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    plain.connect(("127.0.0.1", int(server.url.rsplit(":")[-1])))
    return connect(
        server.url.replace("http", "ws") + f"/v1/speech-to-speech/{VOICE}/live",
        additional_headers={"xi-api-key": server.api_key},
        sock=plain,
        max_queue=1,
        ping_interval=None,
        open_timeout=60,
        **options,
    )


def hum():
    rng = np.random.default_rng(2)
    phase = np.cumsum(2 * np.pi * (120 + rng.standard_normal(SECONDS * 8000)) / 8000)
    return (6000 * np.sign(np.sin(phase))).astype("<i2").tobytes()


def listen(client, *, bytes_per_second=None):
    """Read until the end; return the audio and the last event, null if it broke off."""
    audio, begun = b"", time.monotonic()
    while True:
        try:
            message = client.recv(timeout=30)
        except ConnectionClosed:
            return audio, None
        if isinstance(message, str):
            event = json.loads(message)
            assert event["type"] != "error", event
            if event["type"] == "ended":
                return audio, event
            continue
        audio += message
        if bytes_per_second is not None:
            ahead = len(audio) / bytes_per_second - (time.monotonic() - begun)
            time.sleep(max(0.0, ahead))


def test_a_slow_but_steady_listener_hears_all(impatient):
    with open_socket(impatient) as client:
        client.send(json.dumps(START))
        client.send(hum())
        client.send(json.dumps({"type": "end"}))
        audio, ended = listen(client, bytes_per_second=320_000)
    assert ended is not None
    assert ended["dropped_ms"] == 0
    assert len(audio) == OUTPUT_BYTES


def websocket_of(server):
    """Return the server's end of the only WebSocket there is."""
    connections = server._server.server_state.connections
    (served,) = [each for each in connections if isinstance(each, PatientWebSocket)]
    return served


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_gone(served, server):
    """Wait until the server has let a connection go."""
    until(lambda: served not in server._server.server_state.connections)


def test_a_listener_who_stopped_reading_is_lost_and_resumes_without_a_gap(impatient):
    with open_socket(impatient) as client:
        client.send(json.dumps(START))
        session_id = json.loads(client.recv())["session_id"]
        served = websocket_of(impatient)
        client.send(hum())
        client.send(json.dumps({"type": "end"}))
        until_gone(served, impatient)
        before, ended = listen(client)
        assert ended is None
        assert len(before) < OUTPUT_BYTES
    with open_socket(impatient) as client:
        resume = {"type": "resume", "session_id": session_id, "received": len(before)}
        client.send(json.dumps(resume))
        # Whether the server has had it nobody knows.
        client.send(json.dumps({"type": "end"}))
        after, ended = listen(client)
    assert ended is not None
    with open_socket(impatient) as client:
        client.send(json.dumps(START))
        client.send(hum())
        client.send(json.dumps({"type": "end"}))
        assert listen(client)[0] == before + after


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
def test_over_tls_too_no_more_is_taken_in_than_is_received(server, tmp_path, monkeypatch):
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    command = ["openssl", "req", "-x509", *made, "-subj", "/CN=menura"]
    subprocess.run(command, check=True, capture_output=True)
    running = server(serving={"ssl_certfile": certificate, "ssl_keyfile": key})
    held = []
    real = PatientWebSocket.data_received

    def data_received(self, data):
        real(self, data)
        held.append(len(self._waiting))

    monkeypatch.setattr(PatientWebSocket, "data_received", data_received)
    with connect(
        running.url.replace("http", "wss") + f"/v1/speech-to-speech/{VOICE}/live",
        additional_headers={"xi-api-key": running.api_key},
        ssl=ssl._create_unverified_context(),
        ping_interval=None,
    ) as client:
        dense = {"encoding": "f32le", "sample_rate": 48_000}
        client.send(json.dumps({**START, "input": dense, "output_format": "pcm_8000"}))
        frame = b"\x82\xfe\x01\x40\0\0\0\0" + bytes(320)
        client.socket.sendall(10_000 * frame)
        client.send(json.dumps({"type": "end"}))
        assert listen(client)[1] is not None
    assert max(held) < 1_000_000


@contextmanager
def call_without_a_key(server):
    """Lend the socket of a phone call that has just been let in."""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", int(server.url.rsplit(":")[-1])))
        plain.sendall(
            f"GET /v1/speech-to-speech/{VOICE}/twilio HTTP/1.1\r\nHost: menura\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert plain.recv(4096).startswith(b"HTTP/1.1 101 ")
        yield plain


EMPTY = {
    "pings": b"\x89\x80\0\0\0\0",
    "pongs": b"\x8a\x80\0\0\0\0",
    "parts of a message": b"\x01\x80\0\0\0\0" + 999 * b"\x00\x80\0\0\0\0",
    "messages": b"\x81\x80\0\0\0\0",
}


@pytest.mark.parametrize("frames", EMPTY.values(), ids=EMPTY)
def test_frames_without_a_word_keep_nobody_waiting(server, monkeypatch, frames):
    kinds = Counter()

    def count(kind, handle):
        def counted(self, *arguments):
            kinds[kind] += 1
            return handle(self, *arguments)

        return counted

    for kind in ("handle_ping", "handle_pong", "handle_cont", "handle_text"):
        monkeypatch.setattr(PatientWebSocket, kind, count(kind, getattr(PatientWebSocket, kind)))
    with call_without_a_key(server()) as plain:
        with suppress(ConnectionError):
            plain.sendall(frames * (600_000 // len(frames)))
        with suppress(ConnectionError):
            while plain.recv(65_536):
                pass
    assert 0 < kinds.total() < 5_000


def test_what_is_no_text_ends_the_connection(shared_server, caplog):
    with call_without_a_key(shared_server) as plain:
        plain.sendall(b'\x81\x84\0\0\0\0{"\xff}' + b"\x81\x81\0\0\0\0\xff")
        assert plain.recv(4) == b"\x88\x02\x03\xef"
        assert plain.recv(1) == b""
    # Without a key nobody fills the log with tracebacks.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_pings_whose_answers_nobody_reads_end_the_connection(impatient):
    with call_without_a_key(impatient) as plain:
        pings = 100_000 * (b"\x89\xfd" + bytes(4) + bytes(125))
        with pytest.raises(ConnectionError):
            plain.sendall(pings)


@pytest.mark.parametrize("farewell", ["end", "close"])
def test_what_nobody_reads_keeps_no_connection_that_is_over(server, monkeypatch, farewell):
    monkeypatch.setattr(PatientWebSocket, "closing_seconds", 1.0)
    monkeypatch.setattr("menura.cli.keepalive.SEND_BUFFER", 2048)
    # The client's library reads a message or two ahead, whatever their size.
    monkeypatch.setattr("menura.live.session.PIECE_BYTES", 2048)
    started = server()
    with open_socket(started, buffer=2048, close_timeout=0.1) as client:
        client.send(json.dumps(START))
        client.recv()
        served = websocket_of(started)
        client.send(hum()[:10_000])
        until(lambda: served.transport.get_write_buffer_size() >= 24_000)
        if farewell == "end":
            client.send(json.dumps({"type": "end"}))
        else:
            client.protocol.send_close(1000)
            client.socket.sendall(b"".join(client.protocol.data_to_send()))
        until_gone(served, started)


def test_who_talks_while_the_server_stops_hears_that_it_did(server):
    started = server()
    with open_socket(started) as client, ThreadPoolExecutor() as threads:
        client.send(json.dumps(START))
        client.recv()
        listening = threads.submit(listen, client)
        stopping = threads.submit(started.stop)
        with suppress(ConnectionClosed):
            while True:
                client.send(bytes(640))
                time.sleep(0.0005)
        listening.result()
        stopping.result()
        assert client.close_code == 1012


def test_who_does_not_listen_keeps_no_server_from_stopping(server):
    started = server()
    with open_socket(started, buffer=2048, close_timeout=0.1) as client:
        client.send(json.dumps(START))
        client.recv()
        client.send(hum())
        served = websocket_of(started)
        until(lambda: served.transport.get_write_buffer_size() > 0)
        started.stop()
        assert served not in started._server.server_state.connections
