"""The voice changer over real sockets: what it answers, in which order, and what it leaves."""

import gc
import io
import json
import threading
import time
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from menura.api import converting
from menura.api.exchange import Exchange
from menura.audio.formats import FORMATS, STREAM_FORMATS, OutputFormat
from menura.conversion.job import Job
from menura.conversion.passthrough import PassThrough
from menura.conversion.spool import Spool
from menura.engine import registry
from menura.settings import Tier

from ..conftest import RunningServer
from ..sounds import long_wav, rms, seconds_of, tone, wav
from ..sounds import speech as recorded
from ..storage.full import no_file_beyond
from .wire import CONVERT, PLAIN, STREAM, VOICE, Wire, form

THIRD = "pqHfZKP75CvOlQylNhV4"
SPEECH = Path(__file__).parent.parent / "speech" / "female_ljspeech.flac"

Server = Callable[..., RunningServer]


pytestmark = pytest.mark.usefixtures("plain_model")


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Return two seconds of speech."""
    return wav(recorded(SPEECH.stem, seconds=2.0), 24_000)


def post(
    server: RunningServer, path: str = CONVERT, audio: bytes = b"", **fields: str
) -> httpx.Response:
    return server.client.post(path, files={"audio": audio}, data=fields)


def idle(server: RunningServer) -> bool:
    """Wait until nothing of any request is left running."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        running = server.services.accounts.leases.running
        account = server.run(server.services.accounts.local_account()).account_id
        if not server.services.conversion.running and not running(account):
            return True
        time.sleep(0.01)
    return False


def living(*kinds: type) -> list[object]:
    """Return every object of these types."""
    return [found for found in gc.get_objects() if type(found) in kinds]


def used(server: RunningServer) -> int:
    return int(server.client.get("/v1/user/subscription").json()["character_count"])


# What comes back


@pytest.mark.parametrize("family", ["speech-to-speech", "voice-changer"])
@pytest.mark.parametrize("suffix", ["", "/stream"])
def test_all_four_paths_convert(
    shared_server: RunningServer, speech: bytes, family: str, suffix: str
) -> None:
    before = used(shared_server)
    reply = post(shared_server, f"/v1/{family}/{VOICE}{suffix}", speech, seed="7")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "audio/mpeg"
    assert abs(seconds_of(reply.content) - 2.0) < 0.03
    assert reply.headers["character-cost"] == reply.headers["x-character-count"] == "34"
    assert len(reply.headers["request-id"]) == 20
    assert int(reply.headers["tts-latency-ms"]) >= 0
    assert reply.headers["current-concurrent-requests"] == "1"
    assert ("content-length" in reply.headers) == (suffix == "")
    item = shared_server.client.get(f"/v1/history/{reply.headers['history-item-id']}").json()
    assert item["request_id"] == reply.headers["request-id"]
    assert item["source"] == "STS"
    assert item["output_format"] == "mp3_44100_128"
    assert used(shared_server) == before + 34
    stored = shared_server.client.get(f"/v1/history/{item['history_item_id']}/audio")
    assert stored.content == reply.content
    assert idle(shared_server)


@pytest.mark.parametrize("suffix", ["", "/stream"])
def test_the_same_seed_gives_the_same_bytes(
    shared_server: RunningServer, speech: bytes, suffix: str
) -> None:
    replies = [
        post(shared_server, f"/v1/{prefix}/{VOICE}{suffix}", speech, seed=seed).content
        for prefix in ("speech-to-speech", "voice-changer")
        for seed in ("0", "0", "8")
    ]
    assert len(set(replies)) == 2
    assert replies[0] != replies[2]


def test_only_at_level_0_a_whole_answer_knows_the_speaker_before_the_first_word(
    shared_server: RunningServer, speech: bytes
) -> None:
    def replies(level: int) -> set[bytes]:
        query = f"?optimize_streaming_latency={level}"
        return {
            post(shared_server, path + query, speech, seed="0").content
            for path in (CONVERT, STREAM)
        }

    assert len(replies(0)) == 2
    assert len(replies(1)) == len(replies(3)) == 1


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_format_decodes_to_the_length_of_the_input(
    shared_server: RunningServer, known: OutputFormat
) -> None:
    seconds = 0.8
    source = wav(tone(seconds, 44_100), 44_100)
    for path in (CONVERT, STREAM) if known in STREAM_FORMATS else (CONVERT,):
        reply = post(shared_server, f"{path}?output_format={known.name}", source, model_id=PLAIN)
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == known.media_type
        count = decoded_samples(reply.content, known)
        expected = round(seconds * known.sample_rate)
        slack = {"mp3": 1152, "opus": 960}.get(known.codec, 0)
        assert expected <= count <= expected + slack


def test_the_engine_changes_the_voice_and_settings_change_the_sound(
    shared_server: RunningServer, speech: bytes
) -> None:
    path = f"{CONVERT}?output_format=pcm_24000"
    plain = post(shared_server, path, speech, model_id=PLAIN, seed="1").content
    changed = post(shared_server, path, speech, seed="1").content
    weak = post(
        shared_server, path, speech, seed="1", voice_settings='{"similarity_boost": 0}'
    ).content
    assert len({plain, changed, weak}) == 3
    assert len(plain) == len(changed) == len(weak)


def test_a_transposed_melody_is_heard_and_noted(
    shared_server: RunningServer, speech: bytes
) -> None:
    made = [
        post(shared_server, CONVERT, speech, seed="1", **settings)
        for settings in (
            {},
            {"voice_settings": '{"transpose": "auto"}'},
            {"voice_settings": '{"transpose": -2.5}'},
        )
    ]
    plain, automatic, moved = (each.content for each in made)
    assert plain == automatic != moved
    noted = [
        shared_server.client.get(f"/v1/history/{each.headers['history-item-id']}").json()
        for each in made
    ]
    assert [item["settings"].get("transpose") for item in noted] == [None, None, -2.5]
    assert "transpose" not in noted[0]["settings"]


def test_speed_changes_the_length(shared_server: RunningServer, speech: bytes) -> None:
    path = f"{CONVERT}?output_format=pcm_16000"
    fast = post(shared_server, path, speech, voice_settings='{"speed": 1.2}').content
    assert len(fast) // 2 == round(32_000 / 1.2)


# The form


def test_fields_may_come_before_or_after_the_audio(
    shared_server: RunningServer, speech: bytes
) -> None:
    raw = speech[44:]
    fields = [
        ("model_id", "eleven_multilingual_sts_v2"),
        ("voice_settings", '{"stability": 0.1}'),
        ("seed", "5"),
        ("remove_background_noise", "true"),
        ("file_format", "pcm_s16le_16"),
    ]
    replies = []
    for parts in (
        [*fields, ("audio", raw)],
        [("audio", raw), *fields],
        [*fields[3:], ("audio", raw), *fields[:3]],
    ):
        with Wire(shared_server.url, shared_server.api_key) as wire:
            body = form(*parts)
            wire.head(f"{STREAM}?output_format=pcm_16000", length=len(body))
            wire.send(body)
            replies.append(wire.reply())
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert len({reply.body for reply in replies}) == 1
    assert len(replies[0].body) == len(raw) // 2 * 2


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536])
def test_any_framing_of_the_upload_gives_the_same_bytes(
    shared_server: RunningServer, size: int
) -> None:
    source = wav(tone(0.4))
    whole = post(shared_server, STREAM, source, model_id=PLAIN, seed="1").content
    body = form(("model_id", PLAIN), ("seed", "1"), ("audio", source))
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(STREAM)
        wire.chunks(body[i : i + size] for i in range(0, len(body), size))
        reply = wire.reply()
    assert reply.complete
    assert reply.body == whole


def test_expect_continue(shared_server: RunningServer) -> None:
    body = form(("model_id", PLAIN), ("audio", wav(tone(0.4))))
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(STREAM, "Expect: 100-continue", length=len(body))
        assert wire.line().startswith(b"HTTP/1.1 100 ")
        assert wire.line() == b""
        wire.send(body)
        assert wire.reply().status == 200


def test_audio_without_a_file_name_and_with_empty_and_unknown_fields(
    shared_server: RunningServer,
) -> None:
    source = wav(tone(0.4))
    body = form(
        ("seed", ""), ("voice_settings", " "), ("output_format", "wav_8000"), ("audio", source)
    ).replace(b'; filename="a.bin"', b"")
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(f"{CONVERT}?output_format=&enable_logging=&nonsense=1", length=len(body))
        wire.send(body)
        reply = wire.reply()
    assert reply.status == 200
    assert reply.headers["content-type"] == "audio/mpeg"


# Refusals


BAD_SCHEMA: list[tuple[str, dict[str, str], list[str]]] = [
    ("?output_format=mp3_1", {}, ["query", "output_format"]),
    ("?output_format=MP3_44100_128", {}, ["query", "output_format"]),
    ("?enable_logging=perhaps", {}, ["query", "enable_logging"]),
    ("?enable_logging=true&enable_logging=false", {}, ["query", "enable_logging"]),
    ("?optimize_streaming_latency=5", {}, ["query", "optimize_streaming_latency"]),
    ("?optimize_streaming_latency=-1", {}, ["query", "optimize_streaming_latency"]),
    ("?optimize_streaming_latency=fast", {}, ["query", "optimize_streaming_latency"]),
    ("", {"seed": "one"}, ["body", "seed"]),
    ("", {"seed": "-1"}, ["body", "seed"]),
    ("", {"seed": "4294967296"}, ["body", "seed"]),
    ("", {"seed": "1e3"}, ["body", "seed"]),
    ("", {"seed": "9" * 40}, ["body", "seed"]),
    ("", {"remove_background_noise": "2"}, ["body", "remove_background_noise"]),
    ("", {"file_format": "mp3"}, ["body", "file_format"]),
]


@pytest.mark.parametrize(("query", "fields", "location"), BAD_SCHEMA, ids=str)
@pytest.mark.parametrize("suffix", ["", "/stream"])
def test_what_does_not_fit_the_schema_is_a_422_list(
    shared_server: RunningServer,
    query: str,
    fields: dict[str, str],
    location: list[str],
    suffix: str,
) -> None:
    reply = post(shared_server, CONVERT + suffix + query, b"x", **fields)
    assert reply.status_code == 422
    (item,) = reply.json()["detail"]
    assert item["loc"] == location
    assert set(item) == {"loc", "msg", "type"}
    assert len(reply.headers["x-trace-id"]) == 32


@pytest.mark.parametrize(
    ("query", "fields", "words"),
    [
        ("?enable_logging=perhaps", {}, ["'perhaps'", "true", "false"]),
        ("?optimize_streaming_latency=fast", {}, ["'fast'", "from 0 to 4"]),
        ("", {"seed": "one"}, ["'one'", "from 0 to 4294967295"]),
        ("", {"seed": "-1"}, ["'-1'", "from 0 to 4294967295"]),
        ("", {"seed": "9" * 40}, ["9" * 40, "from 0 to 4294967295"]),
        ("", {"file_format": "mp3"}, ["'mp3'", "other, pcm_s16le_16"]),
        ("", {"model_id": "eleven_sts"}, ["'eleven_sts'", "eleven_multilingual_sts_v2"]),
        ("", {"model_id": "eleven_v3"}, ["'eleven_v3'", "eleven_multilingual_sts_v2"]),
        ("", {"voice_settings": '{"stability": 2}'}, ["stability", "not 2", "from 0 to 1"]),
    ],
    ids=str,
)
def test_a_refusal_names_the_value_and_what_is_allowed(
    shared_server: RunningServer, query: str, fields: dict[str, str], words: list[str]
) -> None:
    detail = post(shared_server, CONVERT + query, b"x", **fields).json()["detail"]
    message = detail[0]["msg"] if isinstance(detail, list) else detail["message"]
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", [f.name for f in FORMATS if f.codec == "wav"])
def test_wav_is_refused_on_stream(shared_server: RunningServer, name: str) -> None:
    reply = post(shared_server, f"{STREAM}?output_format={name}", b"x")
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["query", "output_format"]


def test_missing_audio_is_a_422_list(shared_server: RunningServer) -> None:
    for options in ({"files": {"seed": (None, "1")}}, {}):
        reply = shared_server.client.post(STREAM, **options)
        assert reply.status_code == 422
        assert reply.json()["detail"][0]["loc"] == ["body", "audio"]


def test_repeated_fields_are_refused(shared_server: RunningServer) -> None:
    for parts in (
        [("seed", "1"), ("seed", "2"), ("audio", b"x")],
        [("audio", b"x"), ("audio", b"y")],
    ):
        with Wire(shared_server.url, shared_server.api_key) as wire:
            body = form(*parts)
            wire.head(STREAM, length=len(body))
            wire.send(body)
            reply = wire.reply()
        assert reply.status == 422
        assert reply.json()["detail"][0]["loc"] == ["body", parts[0][0]]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("model_id", "nonsense", "model_not_found"),
        ("voice_settings", "garbage", "invalid_voice_settings"),
    ],
)
def test_a_text_field_with_a_filename_counts(
    shared_server: RunningServer, name: str, value: str, code: str
) -> None:
    """`requests` and browsers' FormData give one to texts among files."""
    reply = shared_server.client.post(
        CONVERT, files={"audio": ("a.wav", wav(tone(1.0))), name: (name, value)}
    )
    assert reply.status_code == 400
    assert reply.json()["detail"]["code"] == code


def test_a_form_without_a_byte_has_no_audio(shared_server: RunningServer) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    reply = shared_server.client.post(CONVERT, headers=headers)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "audio"]


def test_a_whole_answer_that_takes_long_is_sent_as_it_is_made(
    server: Server, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = server()
    path = f"{CONVERT}?output_format=wav_16000"
    whole = post(started, path, speech, model_id=PLAIN)
    assert int(whole.headers["content-length"]) == len(whole.content)
    monkeypatch.setattr(converting, "WHOLE_SECONDS", 0.0)
    arriving = post(started, path, speech, model_id=PLAIN)
    assert "content-length" not in arriving.headers
    assert arriving.content == whole.content
    for name in ("character-cost", "history-item-id", "tts-latency-ms"):
        assert name in arriving.headers
    (item, _) = started.client.get("/v1/history").json()["history"]
    assert item["history_item_id"] == arriving.headers["history-item-id"]


def test_the_latency_told_is_that_of_the_first_byte(shared_server: RunningServer) -> None:
    long = b"".join(long_wav(20))
    begun = time.monotonic()
    with shared_server.client.stream("POST", CONVERT, files={"audio": long}) as answer:
        waited = 1000 * (time.monotonic() - begun)
        told = int(answer.headers["tts-latency-ms"])
        answer.read()
    # Most of the wait is the conversion, which must be over before a whole answer is sent.
    assert 0.5 * waited < told <= waited


REFUSALS: list[tuple[str, dict[str, str], bytes, int, str]] = [
    ("/v1/speech-to-speech/doesnotexist", {}, b"x", 404, "voice_not_found"),
    ("/v1/speech-to-speech/" + "a" * 500, {}, b"x", 404, "voice_not_found"),
    ("/v1/speech-to-speech/..%2F..%2Fetc", {}, b"x", 404, ""),
    (CONVERT, {"model_id": "nonsense"}, b"x", 400, "model_not_found"),
    (CONVERT, {"model_id": "eleven_turbo_v2"}, b"x", 400, "unsupported_model"),
    (CONVERT, {"model_id": "scribe_v1"}, b"x", 400, "unsupported_model"),
    (CONVERT, {"voice_settings": "[object Object]"}, b"x", 400, "invalid_voice_settings"),
    (CONVERT, {"voice_settings": "[1]"}, b"x", 400, "invalid_voice_settings"),
    (CONVERT, {"voice_settings": '{"stability": 2}'}, b"x", 400, "invalid_voice_settings"),
    (CONVERT, {"voice_settings": '{"stability": "x"}'}, b"x", 400, "invalid_voice_settings"),
    (CONVERT, {}, b"", 400, "invalid_audio"),
    (CONVERT, {}, b"just some text, no audio at all", 400, "invalid_audio_format"),
    (CONVERT, {}, bytes(range(256)), 400, "invalid_audio"),
    (CONVERT, {}, wav(tone(0.05)), 400, "audio_too_short"),
    (CONVERT, {"file_format": "pcm_s16le_16"}, b"\0", 400, "invalid_audio"),
]


@pytest.mark.parametrize(("path", "fields", "audio", "status", "code"), REFUSALS)
def test_what_is_refused_names_its_reason(
    shared_server: RunningServer,
    path: str,
    fields: dict[str, str],
    audio: bytes,
    status: int,
    code: str,
) -> None:
    reply = post(shared_server, path, audio, **fields)
    assert reply.status_code == status, reply.text
    if code:
        detail = reply.json()["detail"]
        assert detail["code"] == detail["status"] == code
        assert detail["request_id"] == reply.headers["x-trace-id"]
    assert idle(shared_server)


def test_a_sound_a_sample_too_short_is_not_said_to_be_long_enough(
    shared_server: RunningServer,
) -> None:
    reply = post(shared_server, CONVERT, wav(tone(0.1)[:-1]))
    message = "The audio has 0.0999375 seconds; at least 0.1 are needed."
    assert reply.json()["detail"]["message"] == message


def test_checks_come_in_the_contract_s_order(server: Server) -> None:
    tiers = {"low": Tier(concurrency=1, credits=10, formats_denied=("mp3_44100_192",))}
    running = server(default_tier="low", tiers=tiers, max_upload_bytes=200_000)
    bad: dict[str, Any] = {
        "path": "/v1/speech-to-speech/nope",
        "query": {
            "output_format": "mp3_44100_192",
            "enable_logging": "false",
            "optimize_streaming_latency": "9",
        },
        "fields": {"model_id": "nope", "voice_settings": "nope"},
        "audio": b"text" * 100_000,
    }

    def code() -> str:
        reply = running.client.post(
            bad["path"], params=bad["query"], data=bad["fields"], files={"audio": bad["audio"]}
        )
        detail = reply.json()["detail"]
        return "422" if isinstance(detail, list) else str(detail["code"])

    assert code() == "422"
    bad["query"]["optimize_streaming_latency"] = "1"
    assert code() == "voice_not_found"
    bad["path"] = CONVERT
    assert code() == "model_not_found"
    del bad["fields"]["model_id"]
    assert code() == "invalid_voice_settings"
    del bad["fields"]["voice_settings"]
    assert code() == "feature_not_available"
    del bad["query"]["enable_logging"]
    assert code() == "output_format_not_allowed"
    del bad["query"]["output_format"]
    assert code() == "request_too_large"
    bad["audio"] = b"text" * 100
    assert code() == "invalid_audio_format"
    bad["audio"] = wav(tone(2.0))
    assert code() == "insufficient_credits"


def test_the_longest_audio_and_the_largest_upload(server: Server) -> None:
    running = server(max_seconds=1.0, max_upload_bytes=100_000)
    reply = post(running, STREAM, wav(tone(1.5)))
    assert (reply.status_code, reply.json()["detail"]["code"]) == (400, "audio_too_long")
    reply = post(running, STREAM, wav(tone(5.0)))
    assert (reply.status_code, reply.json()["detail"]["code"]) == (400, "request_too_large")
    with Wire(running.url, running.api_key) as wire:
        wire.head(STREAM, length=10**10)
        assert wire.reply().json()["detail"]["code"] == "request_too_large"
    assert used(running) == 0


def test_over_the_concurrency_limit_one_gets_429(server: Server) -> None:
    running = server(default_tier="one", tiers={"one": Tier(concurrency=1)}, queue_seconds=0.05)
    body = form(("model_id", PLAIN), ("audio", wav(tone(60.0, 48_000), 48_000)))
    with Wire(running.url, running.api_key) as slow:
        slow.head(f"{STREAM}?output_format=pcm_48000", length=len(body))
        slow.send(body)
        assert slow.reply_head()[0] == 200
        reply = post(running, STREAM, wav(tone(0.4)), model_id=PLAIN)
        assert reply.status_code == 429
        assert reply.json()["detail"]["status"] == "too_many_concurrent_requests"
        assert int(reply.headers["retry-after"]) >= 1
    assert idle(running)
    assert post(running, STREAM, wav(tone(0.4)), model_id=PLAIN).status_code == 200


@pytest.mark.parametrize("place_comes_free", [False, True])
def test_one_too_many_to_be_taken_in_waits_and_is_told_the_limit(
    server: Server, place_comes_free: bool
) -> None:
    running = server(
        default_tier="one",
        tiers={"one": Tier(concurrency=1)},
        queue_seconds=20 if place_comes_free else 0.3,
    )
    body = form(("model_id", PLAIN), ("audio", wav(tone(4.0))))
    began = time.monotonic()
    with (
        Wire(running.url, running.api_key) as first,
        Wire(running.url, running.api_key) as second,
        Wire(running.url, running.api_key) as third,
    ):
        for taken_in in (first, second):
            taken_in.head(STREAM, length=len(body))
            taken_in.send(body[:-9])
        while running.services.conversion.running < 2:
            time.sleep(0.01)
        third.head(STREAM, length=len(body))
        third.send(body)
        if place_comes_free:
            for taken_in in (first, second):
                taken_in.send(body[-9:])
                assert taken_in.reply().status == 200
            assert third.reply().status == 200
        else:
            reply = third.reply()
            assert reply.status == 429
            assert reply.json()["detail"]["code"] == "concurrent_limit_exceeded"
            assert "allows 1." in reply.json()["detail"]["message"]
            assert time.monotonic() - began >= 0.3
    assert idle(running)


def key_of(server: RunningServer, **limits: int) -> str:
    accounts = server.services.accounts
    account = server.run(accounts.local_account())
    return str(server.run(accounts.keys.create(account.account_id, "limited", **limits)).secret)


@pytest.mark.parametrize(("of_key", "paid"), [(False, 3), (True, 1)])
def test_requests_at_once_stay_within_the_credits(server: Server, of_key: bool, paid: int) -> None:
    tier = Tier(concurrency=12) if of_key else Tier(concurrency=12, credits=60)
    running = server(default_tier="some", tiers={"some": tier})
    key = key_of(running, character_limit=20) if of_key else running.api_key

    def one(_: int) -> tuple[int, str]:
        with running.anonymous(headers={"xi-api-key": key}) as client:
            reply = client.post(CONVERT, files={"audio": wav(tone(1.2))}, data={"model_id": PLAIN})
        refused = reply.status_code != 200
        return reply.status_code, reply.json()["detail"]["status"] if refused else ""

    with ThreadPoolExecutor(12) as clients:
        replies = sorted(clients.map(one, range(12)))
    assert replies == paid * [(200, "")] + (12 - paid) * [(401, "quota_exceeded")]
    assert used(running) == paid * 20
    assert idle(running)


def test_a_duplex_stream_holds_credits_and_ends_with_them(server: Server) -> None:
    running = server(default_tier="some", tiers={"some": Tier(concurrency=12, credits=60)})

    def begin(wire: Wire, seconds: float) -> bytes:
        body = form(("model_id", PLAIN), ("audio", wav(tone(seconds))))
        wire.head(f"{STREAM}?output_format=pcm_16000&duplex=true")
        wire.chunk(body[:30_000])
        assert wire.reply_head()[0] == 200
        return body[30_000:]

    def other() -> httpx.Response:
        return post(running, STREAM, wav(tone(1.2)), model_id=PLAIN)

    with Wire(running.url, running.api_key) as wire:
        rest = begin(wire, 1.2)
        refused = other()
        assert refused.json()["detail"]["status"] == "quota_exceeded"
        wire.chunks([rest])
        assert len(wire.rest()) == 2 * 16_000 * 1.2
    assert idle(running)
    assert used(running) == 20
    with Wire(running.url, running.api_key) as wire:
        wire.chunks([begin(wire, 20.0)])
        with pytest.raises(EOFError):
            wire.rest()
    assert idle(running)
    # What was heard until then is paid.
    assert used(running) == 60
    assert post(running, STREAM, wav(tone(4.0)), model_id=PLAIN).status_code == 401


def test_what_was_heard_of_a_stream_that_is_too_long_is_paid(server: Server) -> None:
    running = server(max_seconds=3, default_tier="some", tiers={"some": Tier(concurrency=2)})
    with Wire(running.url, running.api_key) as wire:
        wire.head(f"{STREAM}?output_format=pcm_16000&duplex=true")
        wire.chunk(form(("model_id", PLAIN), ("audio", wav(tone(6.0))))[:90_000])
        assert wire.reply_head()[0] == 200
        heard = 0
        while heard < 32_000:
            heard += len(wire.body_piece())
        wire.chunks([bytes(200_000)])
        with pytest.raises(EOFError):
            wire.rest()
    assert idle(running)
    assert used(running) >= heard / 32_000 * 1000 / 60


# Connections


def test_a_client_that_reads_nothing_until_it_has_sent_everything(server: Server) -> None:
    running = server(max_seconds=0)
    for seconds, query in ((60, "duplex=false"), (480, "duplex=true")):
        source = b"".join(long_wav(seconds, 44_100))
        body = form(("model_id", PLAIN), ("audio", source))
        with Wire(running.url, running.api_key) as wire:
            wire.head(f"{STREAM}?output_format=pcm_44100&{query}", length=len(body))
            wire.send(body)
            reply = wire.reply()
        assert reply.complete
        assert len(reply.body) == len(source) - 44
    assert len(source) > 40_000_000
    assert idle(running)


def test_duplex_answers_while_the_upload_goes_on(shared_server: RunningServer) -> None:
    source = wav(tone(4.0))
    body = form(("model_id", PLAIN), ("seed", "1"), ("audio", source))
    whole = post(shared_server, f"{STREAM}?output_format=pcm_16000", source, model_id=PLAIN)
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(f"{STREAM}?output_format=pcm_16000&duplex=true")
        wire.chunk(body[:60_000])
        status, headers = wire.reply_head()
        assert status == 200
        assert "character-cost" not in headers
        received = wire.body_piece()
        assert received
        wire.chunks([body[60_000:]])
        while piece := wire.body_piece():
            received += piece
    assert received == whole.content
    item = shared_server.client.get(f"/v1/history/{headers['history-item-id']}").json()
    charged = item["character_count_change_to"] - item["character_count_change_from"]
    assert charged == 67
    assert idle(shared_server)


def test_duplex_wants_every_field_before_the_audio(shared_server: RunningServer) -> None:
    body = form(("audio", wav(tone(0.2))), ("seed", "1"))
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(f"{STREAM}?duplex=true", length=len(body))
        wire.send(body)
        reply = wire.reply()
    assert reply.status == 422 or not reply.complete
    assert idle(shared_server)


@pytest.mark.parametrize("duplex", ["false", "true"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_a_vanished_client_stops_only_its_own_work(
    shared_server: RunningServer, duplex: str, share: float
) -> None:
    source = wav(tone(30.0))
    body = form(("model_id", PLAIN), ("audio", source))
    other = wav(tone(0.5))
    expected = post(shared_server, STREAM, other, model_id=PLAIN, seed="1").content
    wire = Wire(shared_server.url, shared_server.api_key)
    wire.head(f"{STREAM}?duplex={duplex}", length=len(body))
    wire.send(body[: int(len(body) * share)])
    if share == 1.0:
        assert wire.reply_head()[0] == 200
    wire.close()
    assert post(shared_server, STREAM, other, model_id=PLAIN, seed="1").content == expected
    assert idle(shared_server)


def test_an_upload_that_stalls_is_refused_and_let_go(server: Server) -> None:
    running = server(upload_idle_timeout=1)
    body = form(("model_id", PLAIN), ("audio", wav(tone(5.0))))
    for duplex in ("false", "true"):
        with Wire(running.url, running.api_key) as wire:
            wire.head(f"{STREAM}?duplex={duplex}", length=len(body))
            wire.send(body[:400])
            reply = wire.reply()
            assert reply.status == 400
            assert "1 seconds" in reply.json()["detail"]["message"]
    assert idle(running)


def test_a_reader_that_stops_is_let_go(server: Server) -> None:
    running = server(answer_stall_timeout=0.3, max_seconds=0)
    body = form(("model_id", PLAIN), ("audio", wav(tone(120.0, 48_000), 48_000)))
    with Wire(running.url, running.api_key) as wire:
        wire.head(f"{STREAM}?output_format=pcm_48000", length=len(body))
        wire.send(body)
        assert wire.reply_head()[0] == 200
        assert idle(running)


def test_a_failure_after_the_first_byte_breaks_the_transfer(server: Server) -> None:
    read = threading.Event()

    class Failing(PassThrough):
        def rendering(self, *arguments: Any) -> Any:
            rendering = super().rendering(*arguments)
            count = 0

            class Rendering:
                def push(self, features: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count > 20:
                        read.wait(30)
                        raise RuntimeError("the engine broke, on purpose")
                    return rendering.push(features)

            return Rendering()

    running = server()
    registry._BUILDERS["failing"] = Failing
    try:
        body = form(("model_id", "failing"), ("audio", wav(tone(30.0))))
        with Wire(running.url, running.api_key) as wire:
            wire.head(f"{STREAM}?output_format=pcm_16000", length=len(body))
            wire.send(body)
            assert wire.reply_head()[0] == 200
            assert wire.body_piece()
            read.set()
            with pytest.raises((EOFError, ConnectionResetError)):
                wire.rest()
        whole = post(running, CONVERT, wav(tone(30.0)), model_id="failing")
        assert whole.status_code == 500
        assert whole.json()["detail"]["code"] == "internal_error"
        assert "purpose" not in whole.text
    finally:
        del registry._BUILDERS["failing"]
    assert idle(running)
    assert used(running) == 0
    assert running.client.get("/v1/history").json()["history"] == []


def test_interleaved_requests_give_what_each_gives_alone(shared_server: RunningServer) -> None:
    sources = [wav(tone(0.4 + number / 10, seed=number)) for number in range(6)]
    alone = [post(shared_server, STREAM, source, seed="3").content for source in sources]
    together: dict[int, bytes] = {}

    def convert(number: int) -> None:
        together[number] = post(shared_server, STREAM, sources[number], seed="3").content

    threads = [threading.Thread(target=convert, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(6)] == alone


# Retention and money


@pytest.mark.parametrize("path", [CONVERT, STREAM])
def test_zero_retention_leaves_no_trace(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    opened: list[object] = []
    monkeypatch.setattr(
        "menura.conversion.spool.tempfile.TemporaryFile",
        lambda *args, **kwargs: opened.append(args),
    )
    monkeypatch.setattr("menura.api.converting.WHOLE_SECONDS", 600.0)
    running = server()

    def files() -> dict[str, int]:
        return {
            str(found.relative_to(tmp_path)): found.stat().st_size
            for found in tmp_path.rglob("*")
            if found.is_file() and "menura.db" not in found.name
        }

    before = files()
    source = wav(tone(40.0, 48_000), 48_000)
    reply = post(
        running, f"{path}?enable_logging=false&output_format=pcm_48000", source, model_id=PLAIN
    )
    assert reply.status_code == 200
    assert len(reply.content) == len(source) - 44
    assert ("content-length" in reply.headers) == (path == CONVERT)
    assert "history-item-id" not in reply.headers
    assert reply.headers["character-cost"] == "667"
    assert files() == before
    assert opened == []
    assert running.client.get("/v1/history").json()["history"] == []
    assert used(running) == 667
    request_id = reply.headers["request-id"].encode()
    running.stop()
    for found in tmp_path.rglob("menura.db*"):
        assert request_id not in found.read_bytes()


@pytest.mark.parametrize("path", [CONVERT, STREAM])
def test_a_client_that_vanishes_pays_for_what_was_made(server: Server, path: str) -> None:
    running = server(max_seconds=0)
    body = form(("model_id", PLAIN), ("audio", wav(tone(600.0, 8_000), 8_000)))
    with Wire(running.url, running.api_key) as wire:
        wire.head(f"{path}?output_format=mp3_44100_128", length=len(body))
        wire.send(body)
        if path == STREAM:
            assert wire.reply_head()[0] == 200
        while not any(job.rendered_seconds for job in running.services.conversion._jobs):
            time.sleep(0.01)
    assert idle(running)
    assert 0 < used(running) < 10_000
    assert running.client.get("/v1/history").json()["history"] == []


def test_tiers_decide_what_a_request_may_ask(server: Server) -> None:
    running = server(default_tier="free")
    for query, code in (
        ("output_format=pcm_44100", "output_format_not_allowed"),
        ("enable_logging=false", "feature_not_available"),
    ):
        reply = post(running, f"{CONVERT}?{query}", wav(tone(0.4)), model_id=PLAIN)
        assert reply.status_code == 403
        assert reply.json()["detail"]["code"] == code
    assert post(running, CONVERT, wav(tone(0.4)), model_id=PLAIN).status_code == 200


# The log


def test_a_conversion_that_fails_is_logged_with_the_id_of_its_answer(
    shared_server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside of the house")

    monkeypatch.setattr(PassThrough, "analysis", broken)
    reply = post(shared_server, CONVERT, wav(tone(0.4)), model_id=PLAIN)
    assert reply.status_code == 500
    assert "inside" not in reply.text
    assert reply.json()["detail"]["request_id"] in caplog.text


def test_an_answer_that_breaks_off_is_logged_with_the_id_in_its_head(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    body = form(("model_id", PLAIN), ("audio", wav(tone(4.0))), ("seed", "7"))
    with Wire(shared_server.url, shared_server.api_key) as wire:
        wire.head(f"{STREAM}?output_format=pcm_16000&duplex=true")
        wire.chunk(body[:60_000])
        assert wire.answered_within(30)
        wire.chunks([body[60_000:]])
        reply = wire.reply()
    assert not reply.complete
    assert idle(shared_server)
    assert reply.headers["x-trace-id"] in caplog.text


# The document


def test_the_openapi_document_tells_everything(shared_server: RunningServer) -> None:
    paths = shared_server.client.get("/openapi.json").json()["paths"]
    for family in ("speech-to-speech", "voice-changer"):
        for suffix, formats in (("", 28), ("/stream", 21)):
            operation = paths[f"/v1/{family}/{{voice_id}}{suffix}"]["post"]
            parameters = {item["name"]: item for item in operation["parameters"]}
            expected = {
                "voice_id", "output_format", "enable_logging", "optimize_streaming_latency",
            }  # fmt: skip
            assert set(parameters) == expected | ({"duplex"} if suffix else set())
            assert len(parameters["output_format"]["schema"]["enum"]) == formats
            body = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
            assert body["required"] == ["audio"]
            assert "audio/mpeg" in operation["responses"]["200"]["content"]
            assert "application/json" not in operation["responses"]["200"]["content"]
            assert {"400", "401", "403", "404", "422", "429"} <= set(operation["responses"])


def test_other_methods_are_refused(shared_server: RunningServer) -> None:
    assert shared_server.client.get(STREAM).status_code == 405


def decoded_samples(data: bytes, known: OutputFormat) -> int:
    """Count the samples with a decoder that is not ours."""
    if known.codec in ("ulaw", "alaw"):
        return len(data)
    if known.codec == "pcm":
        return len(data) // 2
    if known.codec == "wav":
        with wave.open(io.BytesIO(data)) as file:
            assert file.getframerate() == known.sample_rate
            assert file.getnchannels() == 1
            assert len(data) == 44 + 2 * file.getnframes()
            return file.getnframes()
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        assert stream.rate == known.sample_rate
        assert stream.channels == 1
        return sum(frame.samples for frame in container.decode(stream))


def test_json_bodies_are_no_forms(shared_server: RunningServer) -> None:
    reply = shared_server.client.post(STREAM, content=json.dumps({"audio": "x"}))
    assert reply.status_code == 400
    assert reply.json()["detail"]["code"] == "invalid_content_type"


def test_the_voice_in_the_path_is_the_one_that_is_heard(
    shared_server: RunningServer, speech: bytes
) -> None:
    client = shared_server.client
    recording = {"files": SPEECH.read_bytes()}
    made = client.post("/v1/voices/add", data={"name": "Mine"}, files=recording).json()["voice_id"]
    paths = (CONVERT, f"/v1/speech-to-speech/{THIRD}", f"/v1/speech-to-speech/{made}")
    heard = [post(shared_server, path, speech, seed="1") for path in paths]
    assert [reply.status_code for reply in heard] == [200, 200, 200]
    assert len({reply.content for reply in heard}) == 3
    client.delete(f"/v1/voices/{made}")


def test_a_voice_s_own_settings_hold_unless_the_request_has_others(
    shared_server: RunningServer, speech: bytes
) -> None:
    path = f"/v1/speech-to-speech/{THIRD}?output_format=pcm_16000"

    def heard(**fields: str) -> bytes:
        return post(shared_server, path, speech, seed="1", **fields).content

    plain, weak = heard(), heard(voice_settings='{"similarity_boost": 0}')
    assert plain != weak
    edit = f"/v1/voices/{THIRD}/settings/edit"
    shared_server.client.post(edit, json={"similarity_boost": 0, "speed": 1.2})
    assert len(heard()) // 2 == round(32_000 / 1.2)
    assert heard(voice_settings='{"speed": 1}') == weak
    assert heard(voice_settings='{"speed": 1, "similarity_boost": 0.75}') == plain


@pytest.mark.parametrize("path", [CONVERT, STREAM])
def test_noise_is_removed_when_asked(shared_server: RunningServer, path: str) -> None:
    noise = np.random.default_rng(1).standard_normal(32_000) * 0.05
    source = wav(noise.astype(np.float32))

    def heard(asked: str) -> np.ndarray:
        query = f"{path}?output_format=pcm_16000"
        reply = post(shared_server, query, source, model_id=PLAIN, remove_background_noise=asked)
        return np.frombuffer(reply.content, "<i2").astype(np.float32)[16_000:]

    assert rms(heard("true")) < 0.5 * rms(heard("false"))


def test_latency_levels_keep_length_and_look_less_far_ahead(
    shared_server: RunningServer, speech: bytes
) -> None:
    query = "?output_format=pcm_16000&optimize_streaming_latency"
    heard = [
        post(shared_server, f"{STREAM}{query}={level}", speech, seed="1").content
        for level in range(5)
    ]
    assert {len(each) for each in heard} == {64_000}
    # Levels 3 and 4 are the same.
    assert [heard.index(each) for each in heard] == [0, 1, 2, 3, 3]


def test_the_default_model_is_a_setting(server: Server) -> None:
    running = server(default_model="menura_source_filter_v1")
    source = wav(tone(0.5))
    named = post(running, CONVERT, source, seed="1", model_id="menura_source_filter_v1")
    other = post(running, CONVERT, source, seed="1", model_id="eleven_english_sts_v2")
    unnamed = post(running, CONVERT, source, seed="1")
    assert unnamed.content == named.content != other.content
    assert post(running, CONVERT, source, model_id="eleven_english_sts_v1").status_code == 200
    # Noted under the id that it is listed under.
    assert running.client.get("/v1/history").json()["history"][0]["model_id"] == (
        "eleven_english_sts_v2"
    )
    item = running.client.get(f"/v1/history/{unnamed.headers['history-item-id']}").json()
    assert item["model_id"] == "menura_source_filter_v1"


def test_usage_tells_how_long_a_request_waited_and_ran(server: Server, speech: bytes) -> None:
    running = server()
    reply = post(running, CONVERT, speech)

    def measured(metric: str) -> float:
        query = {"start_unix": 0, "end_unix": 4 * 10**12, "aggregation_interval": "cumulative"}
        answer = running.client.get("/v1/usage/character-stats", params=query | {"metric": metric})
        return float(answer.json()["usage"]["All"][0])

    assert measured("ttfb_avg") == int(reply.headers["tts-latency-ms"]) > 0
    assert measured("concurrency_average") > 0
    assert measured("minutes_used") == pytest.approx(2.0 / 60)


def test_a_slowed_duplex_stream_costs_what_was_said(server: Server) -> None:
    running = server(default_tier="some", tiers={"some": Tier(concurrency=12, credits=60)})
    body = form(("voice_settings", '{"speed": 0.7}'), ("audio", wav(tone(20.0))))
    with Wire(running.url, running.api_key) as wire:
        wire.head(f"{STREAM}?output_format=pcm_16000&duplex=true", length=len(body))
        wire.send(body)
        reply = wire.reply()
    assert not reply.complete
    # 60 credits pay 3.6 s of speech, which last 5.1 s.
    assert 4.5 < len(reply.body) / 32_000 < 5.6
    assert idle(running)
    assert used(running) <= 60


@pytest.mark.parametrize("path", [CONVERT, CONVERT + "/stream"])
def test_a_full_disk_is_told_costs_nothing_and_is_got_over(server: Server, path: str) -> None:
    opened = server()
    audio = wav(tone(8.0))
    with no_file_beyond(500_000), suppress(httpx.RemoteProtocolError):
        # An answer that has begun breaks off; a whole one has not.
        refused = post(opened, f"{path}?output_format=pcm_48000", audio, model_id=PLAIN)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert "no room" in refused.json()["detail"]["message"]
    assert idle(opened)
    assert used(opened) == 0
    assert opened.client.get("/v1/history").json()["history"] == []
    assert list((opened.settings.data / "incoming").iterdir()) == []
    kept = post(opened, f"{path}?output_format=pcm_48000", audio, model_id=PLAIN)
    assert kept.status_code == 200
    found = opened.client.get(f"/v1/history/{kept.headers['history-item-id']}/audio")
    assert found.content == kept.content


@pytest.mark.parametrize("path", [CONVERT, CONVERT + "/stream", CONVERT + "/stream?duplex=true"])
def test_what_is_over_does_not_wait_for_a_collection_of_garbage(server: Server, path: str) -> None:
    opened = server()
    audio = wav(tone(1.0))
    before = living(Job, Spool, Exchange)
    gc.disable()
    try:
        assert post(opened, path, audio, model_id=PLAIN).status_code == 200
        assert idle(opened)
        deadline = time.monotonic() + 20
        while len(living(Job, Spool, Exchange)) > len(before):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        gc.enable()
