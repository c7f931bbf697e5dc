"""The live socket as a client sees it: audio both ways, events, changes, drop-outs."""

import asyncio
import base64
import contextlib
import gc
import json
import os
import re
import signal
import sqlite3
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from menura.api.live_connection import Connection
from menura.errors import Unavailable
from menura.live.chain import LiveChain
from menura.live.session import LiveSession
from menura.settings import Tier

from .. import sounds
from ..accounts.house import add_account
from ..storage.full import no_file_beyond

SPEECH = Path(__file__).parents[1] / "speech" / "male_librispeech_1235.flac"
VOICE = "21m00Tcm4TlvDq8ikWAM"
QUIET_VOICE = "XB0fDUnXU5powFXDhCwa"
OTHER_VOICE = "pqHfZKP75CvOlQylNhV4"
FILE_PACE = {"drop_late_ms": None, "seed": 7}


def speech(rate=24000, seconds=2.0):
    return sounds.speech(SPEECH.stem, rate, seconds)


def s16(samples):
    return (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()


class Client:
    """A live client that keeps what it was sent."""

    def __init__(self, server, voice=VOICE, path="live", key=True, query=""):
        secret = server.api_key if key is True else key
        headers = {"xi-api-key": secret} if secret else {}
        url = server.url.replace("http", "ws") + f"/v1/speech-to-speech/{voice}/{path}{query}"
        self._connection = connect(
            url, additional_headers=headers, open_timeout=60, ping_interval=None
        )
        self.socket: ClientConnection = self._connection.__enter__()
        self.audio = b""
        self.events: list[dict] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def tell(self, **message):
        self.socket.send(json.dumps(message))

    def until(self, kind, timeout=60, key="type"):
        deadline = time.monotonic() + timeout
        while True:
            event = self.take(max(0.01, deadline - time.monotonic()))
            if event is not None and event.get(key) == kind:
                return event

    def until_heard(self, size):
        # Where that takes a second, `stats` come between the pieces of audio.
        while len(self.audio) < size:
            self.take()

    def take(self, timeout=60):
        """Receive a message, and return it if it is an event."""
        message = self.socket.recv(timeout=timeout)
        if isinstance(message, bytes):
            self.audio += message
            return None
        self.events.append(json.loads(message))
        return self.events[-1]

    def until_closed(self):
        with contextlib.suppress(ConnectionClosed):
            self.until(None)
        return self.socket.close_code

    def refused(self):
        """Wait for a call to be refused and return the reason: Twilio knows no event for it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                event = json.loads(self.socket.recv(timeout=60))
                assert event["event"] in {"media", "mark", "clear"}
        assert self.socket.close_code == 1008
        return self.socket.close_reason


def converted(server, data, chunk, **start):
    with Client(server) as client:
        client.tell(type="start", **{**FILE_PACE, **start})
        client.until("started")
        for at in range(0, len(data), chunk):
            client.socket.send(data[at : at + chunk])
        client.tell(type="end")
        return client.until("ended"), client.audio


def test_any_chunking_gives_the_same_audio_of_the_same_length(shared_server):
    data = s16(speech())
    whole = converted(shared_server, data, len(data))[1]
    assert len(whole) == len(data)
    for milliseconds in (10, 37, 2000):
        assert converted(shared_server, data, 48 * milliseconds)[1] == whole
    odd_pieces = converted(shared_server, data, 4801)[1]
    assert odd_pieces == whole
    assert converted(shared_server, data, len(data), seed=8)[1] != whole


@pytest.mark.parametrize(
    ("start", "encode"),
    [
        ({"input": {"encoding": "f32le", "sample_rate": 48000}}, lambda x: x.astype("<f4")),
        ({"input": {"encoding": "s16le", "sample_rate": 8000}}, s16),
    ],
)
def test_other_encodings_and_rates_come_out_as_long_as_they_went_in(shared_server, start, encode):
    rate = start["input"]["sample_rate"]
    data = bytes(encode(speech(rate, 1.0)))
    ended, audio = converted(shared_server, data, 3840, output_format="pcm_16000", **start)
    assert len(audio) == 2 * 16000
    assert ended["seconds_in"] == pytest.approx(1.0, abs=1e-3)
    assert ended["seconds_out"] == pytest.approx(1.0, abs=1e-3)


def test_opus_packets_are_taken(shared_server):
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = 48000, "mono", "flt"
    samples = speech(48000, 1.0)
    with Client(shared_server) as client:
        client.tell(type="start", input={"encoding": "opus"}, **FILE_PACE)
        client.until("started")
        for at in range(0, samples.size, 960):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 960], "flt", "mono")
            frame.sample_rate, frame.pts = 48000, at
            for packet in codec.encode(frame):
                client.socket.send(bytes(packet))
        client.tell(type="end")
        client.until("ended")
        assert len(client.audio) == pytest.approx(2 * 24000, abs=2 * 960)


def test_the_stated_delay_is_kept_and_stats_come_every_second(shared_server):
    samples = speech(seconds=3.0)
    step = 480
    stats = []
    with Client(shared_server) as client:
        # What a busy machine is late with must not be dropped; only what is held back counts here.
        client.tell(type="start", seed=1, drop_late_ms=None)
        started = client.until("started")
        assert started["chunk_ms"] == 20
        assert started["delay_ms"] < 62
        for half in np.split(samples, 2):
            begun = time.monotonic()
            for sent in range(0, half.size, step):
                client.socket.send(s16(half[sent : sent + step]))
                time.sleep(max(0.0, begun + (sent + step) / 24000 - time.monotonic()))
            stats.append(client.until("stats"))
        client.tell(type="end")
        client.until("ended")
    assert stats[-1]["seconds_in"] > stats[0]["seconds_in"]
    assert stats[0]["input_level_dbfs"] > -60
    # Whatever had come in by a look had gone out again but for the stated delay.
    for look in stats:
        waiting = (look["seconds_in"] - look["seconds_out"]) * 1000
        assert waiting <= started["delay_ms"] + look["queue_ms"] + 60


def test_voice_and_settings_change_in_the_middle_without_a_click(shared_server):
    samples = speech(seconds=3.0)
    data = s16(samples)
    half = len(data) // 2
    with Client(shared_server) as client:
        client.tell(type="start", **FILE_PACE)
        client.until("started")
        client.socket.send(data[:half])
        client.tell(type="change", voice_id=OTHER_VOICE, voice_settings={"stability": 0.9})
        assert client.until("changed")["voice_id"] == OTHER_VOICE
        client.socket.send(data[half:])
        client.tell(type="end")
        client.until("ended")
    changed = np.frombuffer(client.audio, "<i2") / 32768
    plain = np.frombuffer(converted(shared_server, data, len(data))[1], "<i2") / 32768
    assert changed.size == plain.size
    middle = samples.size // 2
    np.testing.assert_array_equal(changed[: middle - 4800], plain[: middle - 4800])
    assert np.abs(changed[middle + 4800 :] - plain[middle + 4800 :]).max() > 0.01
    joint = np.abs(np.diff(changed[middle - 2400 : middle + 2400])).max()
    assert joint <= 1.5 * np.abs(np.diff(plain)).max()


def test_a_change_keeps_what_it_does_not_name(shared_server):
    data = s16(speech(seconds=1.5))

    def after(start, *changes):
        with Client(shared_server) as client:
            client.tell(type="start", **FILE_PACE, **start)
            for change in changes:
                client.tell(type="change", **change)
                client.until("changed")
            client.socket.send(data)
            client.tell(type="end")
            client.until("ended")
        return client.audio

    quiet = {"voice_settings": {"similarity_boost": 0}}
    both = {"voice_settings": {"similarity_boost": 0, "stability": 0.1}}
    steady = {"voice_settings": {"stability": 0.1}}
    other = {"voice_id": OTHER_VOICE}
    expected = after({}, {**other, **both})
    assert expected != after({}, {**other, **steady})
    assert after(quiet, other, steady) == expected
    sung = {"voice_settings": {"transpose": 5}}
    assert after(sung) not in (after({}), after(quiet))
    assert after(sung, {"voice_settings": {"transpose": "auto"}}) == after({})
    assert after(quiet, steady, other) == expected


def test_a_resumed_stream_stays_in_the_voice_it_was_changed_to(shared_server):
    data = s16(speech(seconds=1.0))
    first = Client(shared_server)
    first.tell(type="start", **FILE_PACE)
    session_id = first.until("started")["session_id"]
    first.tell(type="change", voice_id=OTHER_VOICE, voice_settings={"similarity_boost": 0.2})
    first.until("changed")
    first.socket.socket.close()
    with Client(shared_server) as second:
        second.tell(type="resume", session_id=session_id, received=0)
        assert second.until("resumed")["voice_id"] == OTHER_VOICE
        second.tell(type="change", voice_settings={"stability": 0.1})
        assert second.until("changed")["voice_id"] == OTHER_VOICE
        second.socket.send(data)
        second.tell(type="end")
        second.until("ended")
    with Client(shared_server) as client:
        client.tell(type="start", **FILE_PACE)
        client.tell(
            type="change",
            voice_id=OTHER_VOICE,
            voice_settings={"similarity_boost": 0.2, "stability": 0.1},
        )
        client.until("changed")
        client.socket.send(data)
        client.tell(type="end")
        client.until("ended")
    assert second.audio == client.audio


def test_a_refused_change_leaves_the_stream_as_it_was(shared_server):
    data = s16(speech(seconds=1.0))
    with Client(shared_server) as client:
        client.tell(type="start", **FILE_PACE)
        client.until("started")
        client.tell(type="change", voice_id="nobody")
        refusal = client.until("error")
        assert refusal["detail"]["code"] == "voice_not_found"
        assert refusal["refused"] == "change"
        client.tell(type="change", voiceId=OTHER_VOICE)
        assert client.until("error")["detail"][0]["loc"] == ["body", "voiceId"]
        client.socket.send(data)
        client.tell(type="end")
        client.until("ended")
    assert client.audio == converted(shared_server, data, len(data))[1]


def test_a_dropped_connection_is_resumed_without_losing_or_repeating_a_sample(shared_server):
    data = s16(speech())
    cut = len(data) // 2 + 1234
    first = Client(shared_server)
    first.tell(type="start", **FILE_PACE)
    session_id = first.until("started")["session_id"]
    first.socket.send(data[:cut])
    while 48_000 * first.until("stats")["seconds_in"] < cut - 48:
        pass
    # Some of what was sent last never arrives, as on a broken link.
    first.socket.socket.close()
    with Client(shared_server) as second:
        second.tell(type="resume", session_id=session_id, received=len(first.audio))
        resumed = second.until("resumed")
        assert resumed["expected"] == cut
        second.socket.send(data[resumed["expected"] :])
        second.tell(type="end")
        second.until("ended")
    assert first.audio + second.audio == converted(shared_server, data, len(data))[1]


def test_a_talker_who_stalls_and_a_listener_who_does_not_read_lose_nothing(shared_server):
    data = s16(speech())
    begun = time.monotonic()
    expected = converted(shared_server, data, len(data))[1]
    # Less than the talker stalls, and enough for a busy machine to catch up.
    limit = min(60.0, 1.0 + 4 * (time.monotonic() - begun))
    with Client(shared_server) as client:
        client.tell(type="start", seed=7, drop_late_ms=1000 * limit)
        client.until("started")
        client.socket.send(data[:4801])
        stalled = time.monotonic()
        while time.monotonic() < stalled + limit + 0.5:
            client.until("stats")
        for at in range(4801, len(data), 4800):
            client.socket.send(data[at : at + 4800])
        client.tell(type="end")
        time.sleep(1.5)
        assert client.until("ended")["dropped_ms"] == 0
    assert client.audio == expected


def test_a_sender_far_ahead_is_left_unread(shared_server, monkeypatch):
    monkeypatch.setattr("menura.api.live_connection.BACKLOG_SECONDS", 1.0)
    push, held = LiveChain.push, threading.Event()
    monkeypatch.setattr(LiveChain, "push", lambda *given: held.wait(60) and push(*given))
    second = s16(speech(seconds=1.0))
    with Client(shared_server) as client:
        client.tell(type="start", **FILE_PACE)
        session_id = client.until("started")["session_id"]
        session = shared_server.services.live._sessions[session_id]
        for _ in range(5):
            client.socket.send(second)
        client.tell(type="end")
        while session.received < 2 * len(second):
            time.sleep(0.01)
        # For the server to read on, if it did.
        time.sleep(0.5)
        received = session.received
        held.set()
        client.until("ended")
    assert received == 2 * len(second)
    assert len(client.audio) == 5 * len(second)


def test_what_is_nested_deeply_is_refused_in_words(shared_server):
    with Client(shared_server) as client:
        client.tell(type="start")
        client.until("started")
        for field in ("voice_id", "voice_settings"):
            # Some are too deep to be written again, though they could be read.
            for depth in range(850, 950, 3):
                nested = "[" * depth + "]" * depth
                client.socket.send(f'{{"type": "change", "{field}": {nested}}}')
                assert "[[[..." in json.dumps(client.until("error")["detail"])


@pytest.mark.parametrize("farewell", [1000, 1001, 4321, None, "{", '{"type": "dance"}'])
def test_who_leaves_for_good_frees_the_place_at_once(server, farewell, monkeypatch):
    monkeypatch.setattr("menura.live.service.GRACE", 600.0)
    # What has been said is still converted; a busy machine needs a moment for it.
    started = server(default_tier="free", queue_seconds=60)
    sessions = started.services.live._sessions
    for _ in range(3):
        with Client(started) as client:
            client.tell(type="start")
            session_id = client.until("started")["session_id"]
            client.socket.send(s16(speech(seconds=0.2)))
            if isinstance(farewell, str):
                client.socket.send(farewell)
            else:
                with client.socket.send_context():
                    client.socket.protocol.send_close(farewell)
            client.until_closed()
    deadline = time.monotonic() + 60
    while session_id in sessions and not sessions[session_id].given_up:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with Client(started) as client:
        client.tell(type="resume", session_id=session_id, received=0)
        assert client.until("error")["detail"]["code"] == "not_found"


def test_talkers_at_once_have_a_process_each_before_they_speak(server):
    started = server(processes=2)
    data = s16(speech(seconds=1.5))
    with Client(started) as first, Client(started) as second:
        for client in (first, second):
            client.tell(type="start", **FILE_PACE)
            client.until("started")
        # What was said while a process starts would be dropped.
        here, there, idle = started.services.conversion.lanes.all
        assert [here.streams, there.streams, idle.streams] == [1, 1, 0]
        for client in (first, second):
            client.socket.send(data)
            client.tell(type="end")
            client.until("ended")
    assert len(first.audio) == len(data)
    assert first.audio == second.audio


def test_a_stream_that_ends_by_our_own_failure_costs_nothing(server):
    started = server(processes=2)
    data = s16(speech(seconds=1.5))
    with Client(started) as first, Client(started) as second:
        for client in (first, second):
            client.tell(type="start", **FILE_PACE)
            client.until("started")
        _, there, _ = started.services.conversion.lanes.all
        second.socket.send(data)
        second.until_heard(len(data) // 2)
        os.kill(there.process.pid, signal.SIGKILL)
        second.socket.send(data)
        assert second.until("error")["detail"]["code"] == "service_unavailable"
        assert second.until_closed() == 1008
        first.socket.send(data)
        first.tell(type="end")
        first.until("ended")
    spent = started.client.get("/v1/user/subscription").json()["character_count"]
    assert spent == first.events[-1]["character_cost"] > 0


def test_audio_after_the_end_is_neither_converted_nor_charged(shared_server):
    data = s16(speech(seconds=1.5))
    with Client(shared_server) as client:
        client.tell(type="start", **FILE_PACE)
        client.socket.send(data)
        client.tell(type="end")
        client.socket.send(data)
        assert client.until("ended")["character_cost"] == 25
    assert len(client.audio) == len(data)


def test_who_is_lost_after_the_end_can_still_hear_all(shared_server):
    data = s16(speech(seconds=1.0))
    first = Client(shared_server)
    first.tell(type="start", **FILE_PACE)
    session_id = first.until("started")["session_id"]
    first.socket.send(data)
    first.tell(type="end")
    first.socket.socket.close()
    session = shared_server.services.live._sessions[session_id]
    while not session.ended.done():
        time.sleep(0.01)
    with Client(shared_server) as second:
        second.tell(type="resume", session_id=session_id, received=len(first.audio))
        # All of it may have come, and the end may be on its way.
        with contextlib.suppress(ConnectionClosed):
            second.socket.send(data[second.until("resumed")["expected"] :])
            second.tell(type="end")
        assert second.until("ended")["seconds_out"] == pytest.approx(1.0, abs=1e-3)
    assert len(first.audio + second.audio) == len(data)
    # The last of it, the end included, may have been lost where nobody saw it.
    with Client(shared_server) as third:
        third.tell(type="resume", session_id=session_id, received=0)
        third.until("ended")
    assert third.audio == first.audio + second.audio


def test_who_is_lost_while_the_end_is_settled_hears_it_later(server, monkeypatch):
    started = server()
    commit = started.services.history.commit

    async def slowly(*arguments):
        await asyncio.sleep(1.5)
        return await commit(*arguments)

    monkeypatch.setattr(started.services.history, "commit", slowly)
    data = s16(speech(seconds=1.0))
    first = Client(started)
    first.tell(type="start", **FILE_PACE)
    session_id = first.until("started")["session_id"]
    first.socket.send(data)
    first.tell(type="end")
    first.until_heard(len(data))
    first.socket.socket.close()
    time.sleep(0.3)
    with Client(started) as second:
        second.tell(type="resume", session_id=session_id, received=len(data))
        assert second.until("ended")["history_item_id"]


def test_who_is_replaced_is_told_so(shared_server):
    data = s16(speech(seconds=0.5))
    with Client(shared_server) as old, Client(shared_server) as new:
        old.tell(type="start", **FILE_PACE)
        session_id = old.until("started")["session_id"]
        new.tell(type="resume", session_id=session_id, received=0)
        new.until("resumed")
        assert old.until_closed() == 4000
        assert old.socket.close_reason
        new.socket.send(data)
        new.tell(type="end")
        new.until("ended")
        assert len(new.audio) == len(data)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("revoke", "invalid_api_key"),
        ({"disabled": True}, "invalid_api_key"),
        ({"expires_at": 1}, "invalid_api_key"),
        ({"allowed_ips": ["192.0.2.0/24"]}, "invalid_api_key"),
        ({"permissions": ["voices_read"]}, "missing_permissions"),
    ],
)
def test_a_stream_ends_soon_after_its_key(shared_server, change, code, monkeypatch):
    monkeypatch.setattr("menura.live.service.WATCH_SECONDS", 0.5)
    keys = shared_server.services.accounts.keys
    account = shared_server.run(keys.authenticate(shared_server.api_key)).account_id
    made = shared_server.run(keys.create(account, "short-lived"))
    with Client(shared_server, key=made.secret) as client:
        client.tell(type="start")
        client.until("started")
        client.socket.send(s16(speech(seconds=0.2)))
        if change == "revoke":
            shared_server.run(keys.revoke(account, made.key_id))
        else:
            shared_server.run(keys.update(account, None, made.key_id, change))
        assert client.until("error")["detail"]["code"] == code
        assert client.until_closed() == 1008


def test_a_stream_goes_on_while_its_key_cannot_be_looked_at(shared_server, monkeypatch):
    monkeypatch.setattr("menura.live.service.WATCH_SECONDS", 0.05)
    looked = threading.Event()

    async def away(*_):
        looked.set()
        raise Unavailable("The database does not answer.")

    with Client(shared_server) as client:
        monkeypatch.setattr(shared_server.services.accounts.keys, "recheck", away)
        client.tell(type="start", **FILE_PACE)
        client.until("started")
        assert looked.wait(30)
        client.socket.send(s16(speech(seconds=0.5)))
        client.tell(type="end")
        assert client.until("ended")["history_item_id"]
    assert len(client.audio) == 24_000


def test_who_is_lost_keeps_the_place(server):
    started = server(default_tier="free", queue_seconds=1)
    for failed in (True, False):
        client = Client(started)
        client.tell(type="start")
        client.until("started")
        if failed:
            # So a client's library gives up a link on which no pong comes.
            with client.socket.send_context():
                client.socket.protocol.fail(1011, "keepalive ping timeout")
        client.socket.socket.close()
    with Client(started) as client:
        client.tell(type="start")
        assert client.until("error")["detail"]["code"] == "concurrent_limit_exceeded"


def test_silence_stays_silence(shared_server):
    _, audio = converted(shared_server, bytes(2 * 24000), 960)
    level = np.abs(np.frombuffer(audio, "<i2")).max()
    assert level <= 3


def test_the_stream_is_charged_once_and_kept_in_the_history(shared_server):
    data = s16(speech(seconds=1.5))
    before = shared_server.client.get("/v1/user/subscription").json()["character_count"]
    ended, audio = converted(shared_server, data, 9600)
    after = shared_server.client.get("/v1/user/subscription").json()["character_count"]
    assert ended["character_cost"] == after - before == 25
    stored = shared_server.client.get(f"/v1/history/{ended['history_item_id']}/audio")
    assert stored.content == audio


def test_usage_counts_a_voice_once_by_whichever_id_and_way_it_was_used(server):
    opened = server()
    own_id = "8jlO085weiShqXxUrm55"
    converted(opened, s16(speech(seconds=0.6)), 9600)
    for voice_id in (own_id, VOICE):
        answer = opened.client.post(
            f"/v1/speech-to-speech/{voice_id}", files={"audio": SPEECH.read_bytes()}
        )
        assert answer.status_code == 200
    moments = {"start_unix": 0, "end_unix": 4 * 10**12, "aggregation_interval": "cumulative"}
    asked = moments | {"breakdown_type": "voice", "metric": "request_count"}
    stats = opened.client.get("/v1/usage/character-stats", params=asked).json()
    assert stats["usage"] == {"Wren": [3.0]}


def test_streams_at_once_stay_within_the_credits(server, monkeypatch):
    # A machine so busy that nothing comes for a while must not be taken for a pause in real time.
    monkeypatch.setattr("menura.live.service.WATCH_SECONDS", 300.0)
    started = server(default_tier="some", tiers={"some": Tier(concurrency=5, credits=60)})
    with Client(started) as first:
        first.tell(type="start", **FILE_PACE)
        first.until("started")
        with Client(started) as second:
            second.tell(type="start")
            detail = second.until("error")["detail"]
            assert detail["code"] == "insufficient_credits"
            assert detail["status"] == "quota_exceeded"
        first.socket.send(s16(speech(seconds=1.2)))
        first.tell(type="end")
        assert first.until("ended")["character_cost"] == 20
    with Client(started) as third:
        third.tell(type="start", **FILE_PACE)
        third.until("started")
        for _ in range(20):
            third.socket.send(s16(speech(seconds=4.0)))
        assert third.until("error")["detail"]["code"] == "insufficient_credits"
        third.until_closed()
        # 40 credits pay 2.4 s; a chunk that has begun is finished.
        assert 2.3 < len(third.audio) / 2 / 24_000 < 2.6
    # A stream that failed is charged after its client has been told.
    deadline = time.monotonic() + 60
    spent = 20
    while spent == 20 and time.monotonic() < deadline:
        spent = started.client.get("/v1/user/subscription").json()["character_count"]
    assert spent == 60
    # What was cut off is no item.
    assert len(started.client.get("/v1/history").json()["history"]) == 1


def test_a_stream_ends_with_the_credits(server):
    # Both reserve five seconds, and three credits are left.
    started = server(default_tier="some", tiers={"some": Tier(concurrency=5, credits=171)})
    with Client(started) as client:
        client.tell(type="start", **FILE_PACE)
        client.until("started")
        with Client(started) as other:
            other.tell(type="start")
            other.until("started")
            client.socket.send(s16(speech(seconds=1.2)))
            end = client.until("error")
            assert end["detail"]["code"] == "insufficient_credits"
            assert "refused" not in end


def test_zero_retention_leaves_no_item(shared_server):
    before = shared_server.client.get("/v1/history").json()["history"]
    ended, _ = converted(shared_server, s16(speech(seconds=0.5)), 9600, enable_logging=False)
    assert ended["history_item_id"] is None
    assert shared_server.client.get("/v1/history").json()["history"] == before


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ({"model_id": "eleven_flash_v2_5"}, "unsupported_model"),
        ({"model_id": "nothing"}, "model_not_found"),
        ({"voice_settings": {"stability": 3}}, "invalid_voice_settings"),
        ({"voice_settings": "[object Object]"}, "invalid_voice_settings"),
        ({"voice_settings": {"speed": 1.1}}, "invalid_voice_settings"),
        ({"input": {"encoding": "mp3"}}, "invalid_parameters"),
        ({"input": {"encoding": "s16le", "sample_rate": 4000}}, "invalid_parameters"),
    ],
)
def test_a_start_that_cannot_be_is_refused_in_the_apis_words(shared_server, start, code):
    with Client(shared_server) as client:
        client.tell(type="start", **start)
        assert client.until("error")["detail"]["code"] == code
        assert client.until_closed() == 1008


@pytest.mark.parametrize(
    "start",
    [
        {"output_format": "wav_44100"},
        {"output_format": 5},
        {"outputFormat": "pcm_16000"},
        {"sample_rate": 16000},
        {"input": {"channels": 2}},
        {"seed": -1},
        {"seed": True},
        {"optimize_streaming_latency": 9},
        {"drop_late_ms": "soon"},
        {"drop_late_ms": 99},
        {"drop_late_ms": 60_001},
        {"drop_late_ms": 1e308},
        {"drop_late_ms": 10**400},
        {"input": []},
        {"input": {"sample_rate": "24000"}},
        {"remove_background_noise": "yes"},
        {"model_id": 1},
    ],
)
def test_a_start_of_the_wrong_shape_names_the_field(shared_server, start):
    with Client(shared_server) as client:
        client.tell(type="start", **start)
        detail = client.until("error")["detail"]
        field = next(iter(start))
        within = start[field] if isinstance(start[field], dict) else ()
        assert detail[0]["loc"] == ["body", field, *within]
        assert not re.search(r"\b(dict|bool|int|str)\b", detail[0]["msg"])
        assert client.until_closed() == 1008


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"type": "dance"}',
        '{"type": "start", "drop_late_ms": NaN}',
        '{"type": "start", "x": [-Infinity]}',
        "{" * 5000,
        b"audio",
    ],
)
def test_malformed_messages_end_the_connection_and_nothing_else(shared_server, message):
    with Client(shared_server) as client:
        client.socket.send(message)
        assert "detail" in client.until("error")
        assert client.until_closed() == 1008
    assert shared_server.client.get("/health").status_code == 200


def test_a_broken_opus_packet_is_an_audio_error(shared_server):
    with Client(shared_server) as client:
        client.tell(type="start", input={"encoding": "opus"})
        client.until("started")
        client.socket.send(b"\xff" * 2000)
        assert client.until("error")["detail"]["code"] == "invalid_audio"


def test_a_stream_that_is_cut_off_keeps_its_seat_until_its_thread_is_over(server):
    started = server(processes=2)
    with Client(started) as first, Client(started) as second:
        first.tell(type="start")
        first.until("started")
        second.tell(type="start", input={"encoding": "opus"}, **FILE_PACE)
        second.until("started")
        here, there, idle = started.services.conversion.lanes.all
        there.cores.acquire()
        # 20 ms of silence, which have to wait for a core.
        second.socket.send(b"\xf8\xff\xfe")
        deadline = time.monotonic() + 60
        while not there.cores.waiting:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second.socket.send(b"\xff" * 2000)
        with pytest.raises(TimeoutError):
            second.until("error", timeout=0.5)
        assert there.streams == 1
        there.cores.release()
        assert second.until("error")["detail"]["code"] == "invalid_audio"
        assert second.until_closed() == 1008
        first.tell(type="end")
        first.until("ended")
    assert [here.streams, there.streams, idle.streams] == [0, 0, 0]


def test_a_single_use_token_opens_one_stream(shared_server):
    made = shared_server.client.post("/v1/single-use-token/speech_to_speech_live").json()
    query = f"?single_use_token={made['token']}"
    with Client(shared_server, key=False, query=query) as client:
        client.tell(type="start")
        client.until("started")
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        Client(shared_server, key=False, query=query)


def test_streams_side_by_side_give_what_each_gives_alone(shared_server):
    one, two = s16(speech(seconds=1.5)), s16(speech(seconds=1.5)[::-1])
    alone = [converted(shared_server, data, 960)[1] for data in (one, two)]
    with Client(shared_server) as first, Client(shared_server) as second:
        for client in (first, second):
            client.tell(type="start", **FILE_PACE)
            client.until("started")
        for at in range(0, len(one), 960):
            first.socket.send(one[at : at + 960])
            second.socket.send(two[at : at + 960])
        for client in (first, second):
            client.tell(type="end")
        first.until("ended")
        second.until("ended")
    assert [first.audio, second.audio] == alone


# Twilio


@pytest.fixture
def unhurried(monkeypatch):
    """Calls that drop nothing, as other streams do on request, however busy the machine is."""
    monkeypatch.setattr("menura.api.live_start._drop_late", lambda _: None)


@contextlib.contextmanager
def call(server, parameters, **media_format) -> Iterator[Client]:
    with Client(server, path="twilio", key=False) as client:
        client.tell(event="connected", protocol="Call", version="1.0.0")
        client.tell(
            event="start",
            streamSid="MZ1",
            start={
                "streamSid": "MZ1",
                "callSid": "CA1",
                "tracks": ["inbound"],
                "mediaFormat": {
                    "encoding": "audio/x-mulaw",
                    "sampleRate": 8000,
                    "channels": 1,
                    **media_format,
                },
                "customParameters": parameters,
            },
        )
        yield client


def phone(client, track="inbound"):
    sent = 0
    for at in range(0, 8000, 160):
        payload = base64.b64encode(bytes([0x80 + at % 64]) * 160).decode()
        client.tell(event="media", streamSid="MZ1", media={"track": track, "payload": payload})
        sent += 160
    return sent


def heard(client):
    audio, marks = b"", []
    with contextlib.suppress(ConnectionClosed):
        while True:
            event = json.loads(client.socket.recv(timeout=60))
            if event.get("event") == "media":
                assert event["streamSid"] == "MZ1"
                audio += base64.b64decode(event["media"]["payload"])
            elif event.get("event") == "mark":
                marks.append((event["mark"]["name"], len(audio)))
            else:
                marks.append(event)
    return audio, marks


@pytest.mark.usefixtures("unhurried")
def test_a_phone_call_is_converted(shared_server):
    with call(shared_server, {"xi-api-key": shared_server.api_key, "seed": "3"}) as client:
        sent = phone(client)
        client.tell(event="mark", streamSid="MZ1", mark={"name": "here"})
        sent += phone(client)
        client.tell(event="mark", streamSid="MZ1", mark={"name": "end"})
        client.tell(event="stop", streamSid="MZ1", stop={"callSid": "CA1"})
        audio, marks = heard(client)
    assert len(audio) == sent
    # Where the output of the input before it ends, which comes later by the delay.
    assert marks == [("here", sent // 2), ("end", sent)]


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    ("name", "told"), [("x" * 2000, "a name of"), (["x"], "a name of"), ("x", "marks may wait")]
)
def test_marks_that_nobody_reads_do_not_pile_up(shared_server, name, told):
    with call(shared_server, {"xi-api-key": shared_server.api_key}) as client:
        client.tell(event="media", streamSid="MZ1", media={"payload": "/" * 216})
        with contextlib.suppress(ConnectionClosed):
            for _ in range(2000):
                client.tell(event="mark", streamSid="MZ1", mark={"name": name})
        assert told in client.refused()


@pytest.mark.usefixtures("unhurried")
def test_only_the_caller_is_converted(shared_server):
    key = key_of(shared_server, allowed_ips=["127.0.0.1"])
    with call(shared_server, {"xi-api-key": key}) as client:
        phone(client, "outbound")
        sent = phone(client)
        client.tell(event="stop", streamSid="MZ1", stop={"callSid": "CA1"})
        assert len(heard(client)[0]) == sent


def test_a_call_that_is_hung_up_frees_its_place_at_once(shared_server, monkeypatch):
    monkeypatch.setattr("menura.live.service.GRACE", 600.0)
    sessions = shared_server.services.live._sessions
    before = set(sessions)
    with call(shared_server, {"xi-api-key": shared_server.api_key}) as client:
        phone(client)
        client.until("media", key="event")
    deadline = time.monotonic() + 60
    while set(sessions) - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "other", [{"sampleRate": 16000}, {"encoding": "audio/x-alaw"}, {"channels": 2}]
)
def test_a_phone_call_in_another_format_is_refused(shared_server, other):
    with call(shared_server, {"xi-api-key": shared_server.api_key}, **other) as client:
        assert client.refused().startswith("invalid_parameters: mediaFormat ")


@pytest.mark.usefixtures("unhurried")
def test_a_phone_call_says_true_and_false_as_other_texts_do(shared_server):
    own = {"xi-api-key": shared_server.api_key}
    for told in ({"remove_background_noise": "True"}, {"enable_logging": "0"}):
        with call(shared_server, {**own, **told}) as client:
            client.tell(event="media", streamSid="MZ1", media={"payload": "/" * 21_336})
            assert client.until("media", key="event")["media"]["payload"]
    with call(shared_server, {**own, "enable_logging": "perhaps"}) as client:
        assert "'perhaps'" in client.refused()


def test_an_empty_model_is_the_usual_one(shared_server):
    ended, _ = converted(shared_server, s16(speech(seconds=0.5)), 9600, model_id="")
    assert ended["character_cost"] == 9


@pytest.mark.parametrize("path", ["live", "twilio"])
def test_who_says_nothing_is_refused_in_time(shared_server, path, caplog, monkeypatch):
    monkeypatch.setattr("menura.api.live_connection.HELLO_SECONDS", 0.5)
    with Client(shared_server, path=path) as client:
        assert client.until_closed() == 1008
        assert [event["detail"]["code"] for event in client.events] == (
            ["malformed_json"] if path == "live" else []
        )
        assert client.socket.close_reason.startswith("malformed_json: ")
    assert not caplog.records


def test_the_close_of_a_refused_stream_says_why(shared_server):
    with Client(shared_server) as client:
        client.tell(type="start", voice_settings={"stability": 2})
        assert client.until_closed() == 1008
        reason = client.socket.close_reason
        assert reason == "invalid_voice_settings: stability must be from 0 to 1, not 2."


def test_a_long_reason_is_cut_between_letters(shared_server):
    with Client(shared_server) as client:
        client.tell(type="start", output_format="x" + 100 * "é")
        assert client.until_closed() == 1008
        assert client.socket.close_reason == "unprocessable_entity: 'x" + 49 * "é"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"xi-api-key": "sk_wrong"},
        {"xi-api-key": "sk_\ud800"},
        {"xi-api-key": "sk_" + 1000 * "0"},
    ],
)
def test_a_phone_call_without_the_key_is_refused(shared_server, parameters, caplog):
    with call(shared_server, parameters) as client:
        assert client.refused().startswith(("missing_api_key: ", "invalid_api_key: "))
    (line,) = caplog.messages
    assert line.startswith("A phone call was refused (trace ")
    assert "ApiKey(" in line
    assert "sk_" not in line


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_a_phone_call_says_little_before_the_key(shared_server, size):
    with Client(shared_server, path="twilio", key=False) as client:
        # Compressed, a megabyte is a kilobyte on the wire.
        assert client.socket.protocol.extensions == []
        client.tell(event="connected", x="a" * size)
        assert client.refused().startswith("bad_request: ")


def test_a_phone_call_says_it_in_two_messages(shared_server):
    with Client(shared_server, path="twilio", key=False) as client:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(3):
                client.tell(event="connected")
        assert client.refused().startswith("invalid_parameters: ")


@pytest.mark.parametrize("before", [[], [{"event": "connected"}]])
def test_nothing_large_is_kept_of_a_phone_call_before_the_key(shared_server, before):
    with Client(shared_server, path="twilio", key=False) as client:
        for event in before:
            client.tell(**event)
            # What is sent after the answer is no longer read together with what was before.
            assert client.socket.ping().wait(30)
        # The head of a frame alone, since what is refused is not waited for.
        client.socket.socket.sendall(b"\x81\xff" + struct.pack(">Q", 80_000) + bytes(4))
        assert client.until_closed() == 1009


def test_media_before_start_and_bad_payloads_are_refused(shared_server):
    with Client(shared_server, path="twilio", key=False) as client:
        client.tell(event="media", media={"payload": "AAAA"})
        assert client.refused().startswith("invalid_parameters: ")
    with call(shared_server, {"xi-api-key": shared_server.api_key}) as client:
        client.tell(event="media", streamSid="MZ1", media={"payload": "not base64!"})
        assert client.refused().startswith("invalid_audio: ")


def key_of(server, account_id=None, **limits):
    keys = server.services.accounts.keys
    account_id = account_id or server.run(server.services.accounts.local_account()).account_id
    return server.run(keys.create(account_id, "some", **limits)).secret


def started(server, **start):
    with Client(server) as client:
        client.tell(type="start", **start)
        return client.until("started")


def test_another_account_cannot_resume(shared_server):
    shared_server.run(
        add_account(shared_server.services.database, "stranger", workspace="elsewhere")
    )
    foreign = key_of(shared_server, "stranger")
    weak = key_of(shared_server, permissions=["voices_read"])
    own = Client(shared_server)
    own.tell(type="start", **FILE_PACE)
    session_id = own.until("started")["session_id"]
    own.socket.send(s16(speech(seconds=0.5)))
    own.socket.socket.close()
    for key, code in ((foreign, "not_found"), (weak, "missing_permissions")):
        with Client(shared_server, key=key) as other:
            other.tell(type="resume", session_id=session_id, received=0)
            assert other.until("error")["detail"]["code"] == code
            assert other.until_closed() == 1008
            assert other.audio == b""
    with Client(shared_server) as again:
        again.tell(type="resume", session_id=session_id, received=0)
        again.until("resumed")


def test_an_unknown_session_is_refused(shared_server):
    with Client(shared_server) as client:
        client.tell(type="resume", session_id="x" * 20, received=0)
        assert client.until("error")["detail"]["code"] == "not_found"
        assert client.until_closed() == 1008


def test_a_start_without_the_permission_is_refused(shared_server):
    with Client(shared_server, key=key_of(shared_server, permissions=["voices_read"])) as client:
        client.tell(type="start")
        assert client.until("error")["detail"]["code"] == "missing_permissions"
    made = shared_server.client.post("/v1/single-use-token/tts_websocket").json()
    query = f"?single_use_token={made['token']}"
    with Client(shared_server, key=False, query=query) as client:
        client.tell(type="start")
        assert client.until("error")["detail"]["code"] == "missing_permissions"


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ({"enable_logging": False}, "feature_not_available"),
        ({"output_format": "pcm_44100"}, "output_format_not_allowed"),
    ],
)
def test_the_tier_decides_what_a_stream_may_ask(server, start, code):
    with Client(server(default_tier="free")) as client:
        client.tell(type="start", **start)
        assert client.until("error")["detail"]["code"] == code
        assert client.until_closed() == 1008


def test_zero_retention_leaves_no_usage_record(shared_server):
    def requests():
        query = {"start_unix": 0, "end_unix": 4 * 10**12, "aggregation_interval": "cumulative"}
        path = "/v1/usage/character-stats"
        found = shared_server.client.get(path, params=query | {"metric": "request_count"})
        return found.json()["usage"]["All"]

    before = requests()
    ended, _ = converted(shared_server, s16(speech(seconds=0.5)), 9600, enable_logging=False)
    assert ended["character_cost"] == 9
    assert requests() == before


def test_noise_is_removed_when_asked_and_the_stated_delay_grows(shared_server):
    noise = (np.random.default_rng(1).standard_normal(3 * 24000) * 0.02).astype(np.float32)
    clean, plain = (
        np.frombuffer(
            converted(shared_server, s16(noise), 9600, remove_background_noise=asked)[1], "<i2"
        ).astype(float)
        for asked in (True, False)
    )
    assert clean.size == plain.size == noise.size
    assert np.std(clean[24000:]) < 0.7 * np.std(plain[24000:])
    plain, denoised = (
        started(shared_server, remove_background_noise=asked)["delay_ms"] for asked in (False, True)
    )
    assert 100 < denoised - plain < 160


@pytest.mark.parametrize(("level", "least", "most"), [(0, 500, 1250), (1, 200, 500), (3, 0, 62)])
def test_the_level_decides_the_delay(shared_server, level, least, most):
    told = started(shared_server, optimize_streaming_latency=level)
    assert least < told["delay_ms"] < most


def test_a_voice_s_own_settings_hold_but_for_its_speed(shared_server):
    data = s16(speech(seconds=1.0))

    def heard_in(voice, **start):
        with Client(shared_server, voice=voice) as client:
            client.tell(type="start", **FILE_PACE, **start)
            client.socket.send(data)
            client.tell(type="end")
            client.until("ended")
        return client.audio

    weak = {"voice_settings": {"similarity_boost": 0}}
    plain, expected = heard_in(QUIET_VOICE), heard_in(QUIET_VOICE, **weak)
    assert plain != expected
    edit = f"/v1/voices/{QUIET_VOICE}/settings/edit"
    shared_server.client.post(edit, json={"similarity_boost": 0, "speed": 1.2})
    assert heard_in(QUIET_VOICE) == expected
    assert heard_in(QUIET_VOICE, voice_settings={"similarity_boost": 0.75}) == plain


def test_who_never_comes_back_gives_the_place_up(server, monkeypatch):
    monkeypatch.setattr("menura.live.service.GRACE", 0.3)
    running = server()
    account_id = running.run(running.services.accounts.local_account()).account_id
    leases, live = running.services.accounts.leases, running.services.live
    client = Client(running)
    client.tell(type="start")
    client.until("started")
    client.socket.send(s16(speech(seconds=0.5)))
    client.socket.socket.close()
    deadline = time.monotonic() + 60
    while (leases.running(account_id) or live._sessions) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert leases.running(account_id) == 0
    assert not live._sessions


def test_who_leaves_while_the_database_is_away_is_forgotten_all_the_same(server, monkeypatch):
    monkeypatch.setattr("menura.storage.database.BUSY_TIMEOUT", 0.2)
    running = server()
    live = running.services.live
    path = running.settings.data / "menura.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        with Client(running) as client:
            client.tell(type="start")
            client.until("started")
            other.execute("BEGIN IMMEDIATE")
        deadline = time.monotonic() + 60
        while (live._sessions or live._tasks) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not live._sessions
    assert not live._tasks


def test_a_server_that_stops_keeps_and_charges_what_was_said(server, tmp_path):
    running = server(data=tmp_path / "house")
    data = s16(speech(seconds=1.0))
    client = Client(running)
    client.tell(type="start", **FILE_PACE)
    request_id = client.until("started")["request_id"]
    client.socket.send(data)
    while client.until("stats")["seconds_in"] < 1.0:
        pass
    running.stop()
    client.socket.socket.close()
    again = server(data=tmp_path / "house")
    (item,) = again.client.get("/v1/history").json()["history"]
    assert item["request_id"] == request_id
    assert item["character_count_change_to"] - item["character_count_change_from"] == 17
    stored = again.client.get(f"/v1/history/{item['history_item_id']}/audio").content
    assert len(stored) == len(data)


def test_a_message_of_more_than_a_mebibyte_closes_the_connection(shared_server):
    with Client(shared_server) as client:
        client.tell(type="start", **FILE_PACE)
        client.socket.send(bytes((1 << 20) + 1))
        assert client.until_closed() == 1009


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("model_id", "nothing", "'nothing'"),
        ("voice_settings", '{"stability": 3}', "stability"),
        ("seed", "-1", "seed"),
        ("optimize_streaming_latency", "9", "level"),
        ("remove_background_noise", "perhaps", "'perhaps'"),
    ],
)
def test_a_parameter_of_a_phone_call_is_heard(shared_server, name, value, told):
    with call(shared_server, {"xi-api-key": shared_server.api_key, name: value}) as client:
        assert told in client.refused()


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("while_it_waits", [False, True])
def test_clear_empties_what_has_not_been_sent(shared_server, monkeypatch, while_it_waits):
    tell, output = Connection.tell, LiveSession.output
    cleared = asyncio.Event()

    async def in_one_piece(self, *arguments):
        while self.produced < 6_400:  # noqa: ASYNC110  the thread tells nobody
            await asyncio.sleep(0.01)
        if while_it_waits:
            await cleared.wait()
        return await output(self, *arguments)

    async def over_a_slow_line(self, **event):
        if event.get("event") == "clear":
            cleared.set()
        if event.get("event") == "media":
            await cleared.wait()
        await tell(self, **event)

    monkeypatch.setattr(LiveSession, "output", in_one_piece)
    monkeypatch.setattr(Connection, "tell", over_a_slow_line)
    sessions = shared_server.services.live._sessions
    before = set(sessions)
    with call(shared_server, {"xi-api-key": shared_server.api_key}) as client:
        sent = phone(client)
        while not any(sessions[each].produced > 0.8 * sent for each in set(sessions) - before):
            time.sleep(0.01)
        client.tell(event="clear", streamSid="MZ1")
        client.tell(event="stop", streamSid="MZ1", stop={"callSid": "CA1"})
        audio, others = heard(client)
    assert {"event": "clear", "streamSid": "MZ1"} in others
    assert len(audio) < 0.3 * sent


def test_a_full_disk_costs_the_history_item_and_not_the_conversation(server):
    opened = server()
    with no_file_beyond(500_000):
        data = 4 * s16(speech())
        ended, audio = converted(opened, data, 9600, output_format="pcm_48000")
    assert len(audio) == 2 * len(data)
    assert ended["character_cost"] == 134
    assert ended["history_item_id"] is None
    assert opened.client.get("/v1/history").json()["history"] == []
    now = round(1000 * time.time())
    moments = {"start_unix": now - 86_400_000, "end_unix": now}
    stats = opened.client.get("/v1/usage/character-stats", params=moments).json()
    assert sum(stats["usage"]["All"]) == 134


def test_a_stream_that_is_over_does_not_wait_for_a_collection_of_garbage(server):
    opened = server()
    gc.disable()
    try:
        with Client(opened) as client:
            client.tell(type="start", **FILE_PACE)
            client.until("started")
            (session,) = opened.services.live._sessions.values()
            parts = [weakref.ref(part) for part in (session, session.worker, session.worker.chain)]
            del session
            client.socket.send(s16(speech()))
        deadline = time.monotonic() + 20
        while left := [part for part in map(weakref.ref.__call__, parts) if part is not None]:
            assert time.monotonic() < deadline, left
            del left
            time.sleep(0.05)
    finally:
        gc.enable()
