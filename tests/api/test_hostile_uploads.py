"""Whatever is posted, the answer is a clear 4xx or audio, and nothing is left running."""

import random
import socket
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import RunningServer
from ..sounds import tone, wav
from .wire import BOUNDARY, CONVERT, PLAIN, STREAM, Wire, form

GOOD = form(
    ("model_id", PLAIN),
    ("voice_settings", '{"stability": 0.5}'),
    ("seed", "1"),
    ("audio", wav(tone(0.3))),
    ("file_format", "other"),
)


pytestmark = pytest.mark.usefixtures("plain_model")


def send(server: RunningServer, body: bytes, path: str = STREAM) -> httpx.Response:
    return server.client.post(
        path,
        content=body,
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    )


def check(reply: httpx.Response) -> None:
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        detail = reply.json()["detail"]
        assert detail
        if isinstance(detail, dict):
            assert detail["message"]
            assert detail["request_id"] == reply.headers["x-trace-id"]


mutation = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 1100), st.integers(0, 400)),
    st.tuples(st.just("put"), st.integers(0, 1100), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("flip"), st.integers(0, len(GOOD) - 1), st.integers(1, 255)),
    st.tuples(st.just("end"), st.integers(0, len(GOOD)), st.none()),
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutations=st.lists(mutation, min_size=1, max_size=4))
def test_mutated_forms(
    shared_server: RunningServer, mutations: list[tuple[str, int, int | bytes | None]]
) -> None:
    body = GOOD
    for kind, place, what in mutations:
        if kind == "cut" and isinstance(what, int):
            body = body[:place] + body[place + what :]
        elif kind == "put" and isinstance(what, bytes):
            body = body[:place] + what + body[place:]
        elif kind == "flip" and isinstance(what, int) and place < len(body):
            body = body[:place] + bytes([body[place] ^ what]) + body[place + 1 :]
        else:
            body = body[:place]
    check(send(shared_server, body))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    query=st.dictionaries(
        st.sampled_from(
            ["output_format", "enable_logging", "optimize_streaming_latency", "duplex", "x"]
        ),
        st.text(max_size=20),
    ),
    fields=st.dictionaries(
        st.sampled_from(
            ["model_id", "voice_settings", "seed", "remove_background_noise", "file_format"]
        ),
        st.text(max_size=30),
    ),
)
def test_any_values(
    shared_server: RunningServer, query: dict[str, str], fields: dict[str, str]
) -> None:
    check(
        shared_server.client.post(
            STREAM, params=query, data=fields, files={"audio": wav(tone(0.2))}
        )
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n" * 1000,
        f"--{BOUNDARY}--\r\n".encode(),
        form(*[(f"field{number}", "x") for number in range(1000)]),
        form(*[("audio", b"x")] * 3),
        form(("voice_settings", "[" * 60_000)),
        form(("voice_settings", '{"stability": ' + "9" * 5_000 + "}"), ("audio", b"x")),
        form(("voice_settings", '{"stability": NaN}'), ("audio", b"x")),
        form(("voice_settings", '{"stability": Infinity}'), ("audio", b"x")),
        form(("seed", "1" * 70_000), ("audio", b"x")),
        form(("model_id", "\0"), ("audio", b"x")),
        form(("model_id", "../../etc/passwd"), ("audio", b"x")),
        GOOD.replace(b"model_id", b"model_id" * 1000),
        GOOD.replace(b"form-data", b"attachment"),
    ],
    ids=range(14),
)
@pytest.mark.parametrize("path", [CONVERT, STREAM, f"{STREAM}?duplex=true"])
def test_odd_bodies(shared_server: RunningServer, body: bytes, path: str) -> None:
    reply = send(shared_server, body, path)
    assert 400 <= reply.status_code < 500
    check(reply)


@pytest.mark.parametrize(
    "length", ["-1", "1e3", "99999999999999999999999", "0x10", "1, 2", "", "12abc"]
)
def test_absurd_lengths(shared_server: RunningServer, length: str) -> None:
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(STREAM, length=length)  # type: ignore[arg-type]
        assert 400 <= wire.reply_head()[0] < 500


def test_a_body_shorter_than_it_says_ends_with_the_connection(
    shared_server: RunningServer,
) -> None:
    wire = Wire(shared_server.url, shared_server.api_key)
    wire.head(STREAM, length=len(GOOD) + 100)
    wire.send(GOOD)
    wire._socket.shutdown(socket.SHUT_WR)
    wire.close()
    deadline = time.monotonic() + 60
    while shared_server.services.conversion.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shared_server.services.conversion.running == 0


def test_clients_that_vanish_at_random_leave_nothing(shared_server: RunningServer) -> None:
    chance = random.Random(1)
    audio = wav(tone(5.0))
    for number in range(60):
        body = form(("model_id", PLAIN), ("audio", audio))
        duplex = "true" if number % 2 else "false"
        wire = Wire(shared_server.url, shared_server.api_key)
        wire.head(f"{STREAM}?duplex={duplex}&output_format=pcm_44100", length=len(body))
        wire.send(body[: chance.randrange(len(body) + 1)])
        if chance.random() < 0.3:
            time.sleep(chance.random() * 0.02)
        wire.close()
    deadline = time.monotonic() + 60
    leases = shared_server.services.accounts.leases
    account = shared_server.run(shared_server.services.accounts.local_account()).account_id
    while time.monotonic() < deadline and (
        shared_server.services.conversion.running or leases.running(account)
    ):
        time.sleep(0.01)
    assert shared_server.services.conversion.running == 0
    assert leases.running(account) == 0
    assert shared_server.client.get("/health").status_code == 200
