"""Who owes the server something for too long loses the connection, with a key or without."""

import asyncio
import json
import socket
import time

import h11
import pytest
from websockets.sync.client import connect

from menura.cli.deadlines import MOST_HEAD, TURN_EVENTS, PunctualHTTP

from ..api.wire import BOUNDARY, CONVERT, STREAM, VOICE, form
from ..conftest import start_server
from ..sounds import tone, wav

WAIT = 30.0
"""Seconds after which a server that keeps a connection has failed."""

UPGRADE = (
    "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Hasty(PunctualHTTP):
    head_seconds = rest_seconds = stall_seconds = 0.4

    def connection_made(self, transport):
        super().connection_made(transport)
        # Some kilobytes that nobody reads are enough to hold an answer up.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.set_write_buffer_limits(high=0)


class LessHasty(Hasty):
    """For clients that are in time, which a busy machine may keep waiting for a second."""

    head_seconds = rest_seconds = stall_seconds = 2.0


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    started = start_server(tmp_path_factory.mktemp("hasty") / "data", serving={"http": Hasty})
    yield started
    started.stop()


@pytest.fixture(scope="module")
def less_hasty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("less-hasty")
    started = start_server(folder / "data", serving={"http": LessHasty})
    yield started
    started.stop()


@pytest.fixture
def dial():
    """Return a function that opens a connection to a server."""
    opened = []

    def dialled(server, **options):
        plain = socket.socket()
        opened.append(plain)
        for option, value in options.items():
            plain.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        plain.settimeout(WAIT)
        plain.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[-1])))
        return plain

    yield dialled
    for plain in opened:
        plain.close()


def heard(plain):
    """Return all that the server sends until it ends the connection."""
    pieces = []
    try:
        while piece := plain.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def refuses_more(plain):
    """Tell whether the server is gone from the other end of a connection, soon."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        # Who sends is not given up.
        time.sleep(3 * Hasty.stall_seconds)
        try:
            plain.sendall(b"G")
        except (ConnectionResetError, BrokenPipeError):
            return True
    return False


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /v1/speech-to-speech/x HT"]
)
def test_a_head_that_does_not_come_is_not_waited_for(hasty, dial, begun):
    plain = dial(hasty)
    plain.sendall(begun)
    assert heard(plain) == b""


def test_nor_is_the_next_head_of_a_connection(less_hasty, dial):
    plain = dial(less_hasty)
    plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert plain.recv(65_536).startswith(b"HTTP/1.1 200")
    plain.sendall(b"G")
    assert b"HTTP/1.1" not in heard(plain)


def test_nor_is_the_rest_of_an_upload_that_was_refused(less_hasty, dial):
    plain = dial(less_hasty)
    head = f"POST {CONVERT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    plain.sendall(head.encode())
    assert plain.recv(65_536).startswith(b"HTTP/1.1 401")
    # A byte now and then was enough to be waited for.
    plain.sendall(b"a")
    assert b"HTTP/1.1" not in heard(plain)


@pytest.mark.parametrize("before", [0, 200, 20_000])
def test_what_is_no_http_ends_an_upload_that_was_refused(shared_server, dial, caplog, before):
    plain = dial(shared_server)
    plain.sendall(
        f"POST {CONVERT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    assert plain.recv(65_536).startswith(b"HTTP/1.1 401")
    plain.sendall(b"1\r\na\r\n" * before + b"no chunk\r\n")
    assert b"HTTP/1.1" not in heard(plain)
    # Without a key nobody fills the log with tracebacks.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "before", ["", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "next"]
)
@pytest.mark.parametrize(("length", "fits"), [(MOST_HEAD - 200, True), (MOST_HEAD, False)])
def test_a_head_has_a_length(shared_server, dial, before, length, fits):
    plain = dial(shared_server)
    head = f"GET /health?{'&' * length} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    # In one piece, or the library would see by itself how long it is.
    plain.sendall((before + head).encode())
    answers = heard(plain).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * bool(before) + [
        b"200" if fits else b"400"
    ]


def test_an_upload_takes_its_time(less_hasty, dial):
    plain = dial(less_hasty)
    body = b'{"name": "slow"}'
    head = (
        f"POST /v1/service-accounts HTTP/1.1\r\nHost: x\r\nxi-api-key: {less_hasty.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    plain.sendall(head.encode())
    for place in range(len(body)):
        time.sleep(1.5 * LessHasty.head_seconds / len(body))
        plain.sendall(body[place : place + 1])
    assert plain.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("key", "status"), [("", b"401"), ("xi-api-key: {}\r\n", b"200")])
def test_an_upload_in_crumbs_keeps_nobody_waiting(shared_server, monkeypatch, dial, key, status):
    taken = most = 0
    next_event = h11.Connection.next_event

    def counted(self):
        nonlocal taken, most
        taken += 1
        most = max(most, taken)
        return next_event(self)

    async def give_way():
        nonlocal taken
        while True:
            taken = 0
            await asyncio.sleep(0)

    async def begin():
        return asyncio.create_task(give_way())

    async def end():
        others.cancel()

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    others = shared_server.run(begin())
    plain = dial(shared_server)
    head = (
        f"POST /v1/service-accounts HTTP/1.1\r\nHost: x\r\n{key.format(shared_server.api_key)}"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = '{"name": "crumbs"' + " " * 20_000 + "}"
    crumbs = "".join(f"1\r\n{crumb}\r\n" for crumb in body)
    after = "0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    plain.sendall((head + crumbs + after).encode())
    first, *second = heard(plain).split(b"HTTP/1.1 ")[1:]
    shared_server.run(end())
    assert first.startswith(status)
    assert [answer[:3] for answer in second] == [b"200"]
    # A whole turn, and what begins and ends a request.
    assert 0 < most < 2 * TURN_EVENTS


def test_a_websocket_is_under_other_deadlines(less_hasty):
    address = less_hasty.url.replace("http", "ws") + f"/v1/speech-to-speech/{VOICE}/live"
    headers = {"xi-api-key": less_hasty.api_key}
    with connect(address, additional_headers=headers, open_timeout=WAIT) as client:
        time.sleep(1.5 * LessHasty.head_seconds)
        client.send(json.dumps({"type": "start"}))
        assert json.loads(client.recv(timeout=WAIT))["type"] == "started"


@pytest.mark.parametrize("owed", ["", "Content-Length: 1000000\r\n"])
def test_who_takes_nothing_of_an_answer_is_given_up(hasty, dial, owed):
    plain = dial(hasty, SO_RCVBUF=4096)
    asked = "GET /static/js/live.js HTTP/1.1\r\nHost: x\r\n"
    plain.sendall(f"{asked}\r\n{asked}\r\n{asked}{owed}\r\n".encode())
    assert refuses_more(plain)


def test_who_still_sends_may_take_nothing_of_an_answer(less_hasty, dial):
    plain = dial(less_hasty, SO_RCVBUF=4096)
    body = form(("audio", wav(tone(4.0))))
    head = (
        f"POST {STREAM}?duplex=true&output_format=pcm_48000 HTTP/1.1\r\nHost: x\r\n"
        f"xi-api-key: {less_hasty.api_key}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    plain.sendall(head.encode())
    step = len(body) // 12
    for place in range(0, len(body), step):
        time.sleep(2 * LessHasty.stall_seconds / 12)
        plain.sendall(body[place : place + step])
    assert heard(plain).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET /v1/speech-to-speech/x/twilio HTTP/1.1\r\n{UPGRADE}X: {'a' * 9000}\r\n\r\n", b"431"),
        (f"GET /v1/speech-to-speech/{'x' * 9000} HTTP/1.1\r\n{UPGRADE}\r\n", b"414"),
        (f"GET / HTTP/1.1\r\n{UPGRADE}" + "x: 1\r\n" * 200 + "\r\n", b"431"),
    ],
)
def test_a_websocket_with_too_long_a_head_is_told_so(shared_server, head, status):
    with socket.create_connection(
        ("127.0.0.1", int(shared_server.url.rsplit(":", 1)[-1])), timeout=WAIT
    ) as plain:
        plain.sendall(head.encode())
        assert heard(plain).startswith(b"HTTP/1.1 " + status)
