"""Bad files over real sockets: a clear 4xx in the contract's shape, never a 5xx, a hang or a leak.

What is wrong with forms, queries and lengths is posted in `test_hostile_uploads`.
"""

import gzip
import io
import json
import struct
import threading
import time
import wave
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import RunningServer, start_server
from ..sounds import tone, wav
from .wire import BOUNDARY, CONVERT, PLAIN, STREAM, Wire, form

ISOLATE = "/v1/audio-isolation/stream"
ADD = "/v1/voices/add"


pytestmark = pytest.mark.usefixtures("plain_model")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server as strict as the default one."""
    started = start_server(tmp_path_factory.mktemp("bad") / "data", max_isolation_seconds=600)
    yield started
    settled(started)
    assert started.client.get("/health").status_code == 200
    started.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that gives up on an upload sooner, though not while a busy machine makes it wait."""
    started = start_server(
        tmp_path_factory.mktemp("hasty") / "data",
        upload_idle_timeout=1.5,
        upload_rate_grace=1.0,
        upload_min_rate=64,
    )
    yield started
    started.stop()


def encoded(container: str, codec: str, samples: np.ndarray, rate: int = 24_000) -> bytes:
    """Return a real file."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as made:
        stream = made.add_stream(codec, rate=rate)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.format, "mono", rate)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = rate
        for converted in resampler.resample(frame):
            made.mux(stream.encode(converted))
        made.mux(stream.encode(None))
    return out.getvalue()


def riff(
    data: bytes,
    *,
    kind: int = 1,
    channels: int = 1,
    rate: int = 16_000,
    bits: int = 16,
    riff_size: int | None = None,
    data_size: int | None = None,
    before: bytes = b"",
) -> bytes:
    """Return a WAV file that says what it is told to say."""
    align = channels * bits // 8
    fmt = struct.pack(
        "<HHIIHH", kind, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits
    )
    size = len(data) if data_size is None else data_size
    body = before + b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size) + data
    whole = len(body) + 4 if riff_size is None else riff_size
    return b"RIFF" + struct.pack("<I", whole & 0xFFFFFFFF) + b"WAVE" + body


def floats(values: np.ndarray) -> bytes:
    return riff(values.astype("<f4").tobytes(), kind=3, bits=32)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def zipped(encrypted: bool) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("speech.wav", wav(tone(0.5)))
    data = bytearray(out.getvalue())
    if encrypted:
        data[6] |= 1
    return bytes(data)


@cache
def m4a() -> bytes:
    return encoded("ipod", "aac", tone(0.5, 24_000))


REFUSED: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x00",
    "text": b"These are words, but nobody speaks them.\n" * 50,
    "json": json.dumps({"audio": "none"}).encode(),
    "html": b"<!DOCTYPE html><html><body><audio src='a.mp3'></audio></body></html>",
    "image": PNG,
    "zip": zipped(False),
    "encrypted zip": zipped(True),
    "gzip of a recording": gzip.compress(wav(tone(0.5))),
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF",
    "program": b"\x7fELF\x02\x01\x01" + bytes(57),
    "playlist of a local file": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n",
    "playlist of a server": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    "concat script": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "zeros": bytes(20_000),
    "protected m4a": m4a().replace(b"mp4a", b"enca"),
    "m4a without its index": m4a()[: m4a().index(b"moov") - 4],
    "only the first bytes of an m4a": m4a()[:40],
    "only the first bytes of a wav": wav(tone(0.5))[:30],
    "wav without samples": riff(b""),
    "wav too short": wav(tone(0.05)),
    "wav without channels": riff(bytes(3200), channels=0),
    "wav of 65535 channels": riff(bytes(3200), channels=65_535),
    "wav of 0 Hz": riff(bytes(3200), rate=0),
    "wav of 4 GHz": riff(bytes(3200), rate=0xFFFFFFFF),
    "wav of 0 bits": riff(bytes(3200), bits=0),
    "wav of an unknown codec": riff(bytes(3200), kind=0x4242),
    "wav with a chunk past its end": riff(b"", before=b"LIST" + struct.pack("<I", 1 << 31)),
    "wav of a thousand chunks and no sound": riff(b"", before=(b"junk" + bytes(4)) * 1000),
}

ACCEPTED: dict[str, bytes] = {
    "silence": wav(np.zeros(8000, np.float32)),
    "direct current": wav(np.full(8000, 0.5, np.float32)),
    "clipping": wav(np.sign(tone(0.5))),
    "alternating extremes": wav(np.tile(np.array([-1, 1], np.float32), 4000)),
    "NaN": floats(np.full(8000, np.nan)),
    "infinities among speech": floats(np.where(np.arange(8000) % 7, tone(0.5), np.inf)),
    "huge floats": floats(tone(0.5) * 1e30),
    "wav that says it is endless": riff(bytes(16_000), riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF),
    "wav that says it is longer": riff(bytes(16_000), data_size=10**8),
    "wav that says nothing": riff(bytes(16_000), riff_size=0, data_size=0),
    "wav ending inside a sample": wav(tone(0.5))[:-1],
    "wav behind a thousand chunks": riff(bytes(16_000), before=(b"junk" + bytes(4)) * 1000),
    "8 bits": riff(bytes(range(256)) * 32, bits=8, rate=8000),
}


def post(
    server: RunningServer, path: str, data: bytes, name: str = "a.wav", kind: str = "audio/wav"
) -> httpx.Response:
    field = "files" if path == ADD else "audio"
    fields = {"name": "Bad input"} if path == ADD else {"model_id": PLAIN}
    return server.client.post(path, files={field: (name, data, kind)}, data=fields)


def refusal(reply: httpx.Response) -> dict[str, Any]:
    """Check the contract's shape and return the detail."""
    assert 400 <= reply.status_code < 500, (reply.status_code, reply.text)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    detail = reply.json()["detail"]
    if isinstance(detail, list):
        assert reply.status_code == 422
        assert all(set(each) >= {"loc", "msg", "type"} for each in detail)
        return {"code": "422", "message": detail[0]["msg"]}
    assert set(detail) >= {"type", "code", "message", "status", "request_id"}
    assert detail["message"].endswith(".")
    assert "Traceback" not in detail["message"]
    assert "/tmp" not in detail["message"]
    return dict(detail)


def settled(server: RunningServer) -> None:
    """Wait until nothing runs any more."""
    account = server.run(server.services.accounts.local_account()).account_id
    leases = server.services.accounts.leases
    deadline = time.monotonic() + 20
    while server.services.conversion.running or leases.running(account):
        assert time.monotonic() < deadline, "Work was left behind."
        time.sleep(0.01)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", [CONVERT, STREAM, ISOLATE])
def test_what_is_no_sound_is_refused_in_words(server: RunningServer, path: str, name: str) -> None:
    detail = refusal(post(server, path, REFUSED[name]))
    assert detail["code"] in ("invalid_audio", "invalid_audio_format", "audio_too_short")
    assert detail["param"] == "audio"
    settled(server)


@pytest.mark.parametrize("name", REFUSED)
def test_no_voice_is_made_of_what_is_no_sound(server: RunningServer, name: str) -> None:
    before = server.client.get("/v2/voices").json()["total_count"]
    refusal(post(server, ADD, REFUSED[name]))
    assert server.client.get("/v2/voices").json()["total_count"] == before


@pytest.mark.parametrize("name", ["silence", "direct current", "NaN", "clipping"])
def test_no_voice_is_made_of_what_holds_no_speech(server: RunningServer, name: str) -> None:
    refusal(post(server, ADD, ACCEPTED[name]))


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("path", [STREAM, ISOLATE])
def test_odd_sound_is_still_sound(server: RunningServer, path: str, name: str) -> None:
    reply = post(server, path, ACCEPTED[name])
    assert reply.status_code == 200, reply.text
    with av.open(io.BytesIO(reply.content)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert all(np.isfinite(frame).all() for frame in frames)
    assert sum(frame.shape[1] for frame in frames) > 20_000


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_sound_is_converted_by_the_default_engine(server: RunningServer, name: str) -> None:
    reply = server.client.post(
        f"{STREAM}?output_format=pcm_24000", files={"audio": ACCEPTED[name]}, data={"seed": "1"}
    )
    assert reply.status_code == 200, reply.text
    samples = np.frombuffer(reply.content, "<i2")
    assert samples.size >= 0.45 * 24_000
    if name in ("silence", "NaN"):
        assert np.abs(samples.astype(int)).max() < 200


@pytest.mark.parametrize(
    ("container", "codec", "name", "kind"),
    [
        ("mp3", "libmp3lame", "speech.wav", "audio/wav"),
        ("ogg", "libopus", "speech.png", "image/png"),
        ("flac", "flac", "../../etc/passwd", "text/html; charset=klingon"),
        ("ipod", "aac", "", "application/json"),
        ("webm", "libopus", "a\x00b.mp3", "audio/mpeg"),
    ],
)
def test_a_wrong_label_does_not_matter(
    server: RunningServer, container: str, codec: str, name: str, kind: str
) -> None:
    rate = 48_000 if codec == "libopus" else 24_000
    data = encoded(container, codec, tone(0.5, rate), rate)
    reply = post(server, STREAM, data, name or "x", kind)
    assert reply.status_code == 200, reply.text


@cache
def real_files() -> tuple[bytes, ...]:
    return (
        encoded("mp3", "libmp3lame", tone(0.4, 24_000)),
        encoded("ogg", "libopus", tone(0.4, 48_000), 48_000),
        encoded("flac", "flac", tone(0.4, 24_000)),
        m4a(),
        encoded("webm", "libopus", tone(0.4, 48_000), 48_000),
        wav(tone(0.4)),
    )


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
def test_truncated_files_end_in_words_or_in_what_there_is(
    server: RunningServer, number: int, part: float
) -> None:
    data = real_files()[number]
    reply = post(server, STREAM, data[: int(part * len(data))])
    if reply.status_code != 200:
        refusal(reply)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    number=st.integers(0, 5),
    blows=st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.binary(min_size=0, max_size=8)),
        min_size=1,
        max_size=8,
    ),
    isolate=st.booleans(),
)
def test_damaged_files(
    server: RunningServer, number: int, blows: list[tuple[float, bool, bytes]], isolate: bool
) -> None:
    data = real_files()[number]
    for where, early, what in blows:
        at = int(where * (min(200, len(data)) if early else len(data)))
        data = data[:at] + what + data[at + max(1, len(what)) :]
    try:
        reply = post(server, ISOLATE if isolate else STREAM, data)
    except httpx.RemoteProtocolError:
        return
    if reply.status_code != 200:
        refusal(reply)


@cache
def bomb() -> bytes:
    """Return twenty minutes of silence, a hundredth of the size of its samples."""
    rate = 8_000
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as made:
        stream = made.add_stream("flac", rate=rate)
        stream.layout = "mono"
        minute = np.zeros((1, 60 * rate), np.int16)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(minute, "s16", "mono")
            frame.sample_rate = rate
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("path", [CONVERT, STREAM, ISOLATE, f"{STREAM}?duplex=true"])
def test_a_small_file_of_many_minutes_is_too_long(server: RunningServer, path: str) -> None:
    data = bomb()
    assert len(data) < 250_000
    try:
        reply = post(server, path, data)
    except httpx.RemoteProtocolError:
        assert "duplex" in path
    else:
        assert refusal(reply)["code"] == "audio_too_long"
    settled(server)


@pytest.mark.parametrize("chunked", [False, True])
def test_51_megabytes_are_too_many(server: RunningServer, chunked: bool) -> None:
    head = form(("model_id", PLAIN), ("audio", b""))
    start = head[: head.rindex(b"\r\n--")]
    piece = bytes(1 << 20)
    with Wire(server.url, server.api_key) as wire:
        wire.head(STREAM, length=None if chunked else 54 << 20)
        try:
            if chunked:
                wire.chunk(start)
                for _ in range(54):
                    wire.chunk(piece)
            else:
                wire.send(start + piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        status, headers = wire.reply_head()
    assert status == 400
    assert headers["content-type"] == "application/json"
    settled(server)


@pytest.mark.parametrize("path", [CONVERT, STREAM, f"{STREAM}?duplex=true", ISOLATE, ADD])
def test_a_body_that_stops_is_given_up(hasty: RunningServer, path: str) -> None:
    body = form(("model_id", PLAIN), ("name", "x"), ("audio", wav(tone(0.5))))
    with Wire(hasty.url, hasty.api_key) as wire:
        wire.head(path, length=len(body))
        sent = len(body) // 2
        wire.send(body[:sent])
        # With duplex the answer begins before the end of the body, but not at a set time.
        while "duplex" in path and not wire.answered_within(0.1):
            wire.send(body[sent : sent + 1])
            sent += 1
        reply = wire.reply()
    if "duplex" in path:
        # The answer had begun, so it can only break off.
        assert reply.status == 200
        assert not reply.complete
    else:
        assert reply.status == 400
        assert reply.json()["detail"]["code"] == "bad_request"
    settled(hasty)


def test_a_byte_at_a_time_is_given_up(hasty: RunningServer) -> None:
    body = form(("model_id", PLAIN), ("audio", wav(tone(0.5))))
    with Wire(hasty.url, hasty.api_key) as wire:
        wire.head(STREAM, length=len(body))
        ended = threading.Event()

        def drip() -> None:
            for at in range(len(body)):
                if ended.wait(0.05):
                    return
                try:
                    wire.send(body[at : at + 1])
                except OSError:
                    return

        sender = threading.Thread(target=drip)
        sender.start()
        try:
            reply = wire.reply()
        finally:
            ended.set()
            sender.join()
    assert reply.status == 400
    assert "slow" in reply.json()["detail"]["message"]
    settled(hasty)


IDS = [
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "a" * 1000,
    "%F0%9F%8E%A4",
    "x'%20OR%201=1--",
    "%2e%2e",
    "-",
    "%FF%FE",
    "{voice_id}",
]


@pytest.mark.parametrize("given_id", IDS)
def test_absurd_ids_are_not_found(server: RunningServer, given_id: str) -> None:
    client = server.client
    audio = {"audio": wav(tone(0.2))}
    replies = [
        client.post(f"/v1/speech-to-speech/{given_id}", files=audio),
        client.post(f"/v1/voice-changer/{given_id}/stream", files=audio),
        client.get(f"/v1/voices/{given_id}"),
        client.delete(f"/v1/voices/{given_id}"),
        client.get(f"/v1/voices/{given_id}/settings"),
        client.post(f"/v1/voices/{given_id}/settings/edit", json={}),
        client.post(f"/v1/voices/{given_id}/edit", data={"name": "x"}),
        client.get(f"/v1/voices/{given_id}/samples/{given_id}/audio"),
        client.get(f"/v1/voices/{given_id}/preview"),
        client.get(f"/v1/history/{given_id}"),
        client.get(f"/v1/history/{given_id}/audio"),
        client.delete(f"/v1/history/{given_id}"),
        client.delete(f"/v1/audio-isolation/history/{given_id}"),
        client.post("/v1/history/download", json={"history_item_ids": [given_id]}),
        client.post(f"/v1/single-use-token/{given_id}"),
        client.get(f"/v1/service-accounts/{given_id}/api-keys"),
    ]
    for reply in replies:
        assert reply.status_code in (400, 403, 404, 422), (reply.request.url, reply.text)
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-trace-id"]
        assert reply.json()["detail"]


@pytest.mark.parametrize(
    "header",
    [
        b"xi-api-key: " + b"\xff\xfe\x80",
        b"xi-api-key: " + b"k" * 10_000,
        b"authorization: Bearer",
        b"authorization: Basic " + b"=" * 200,
        b"authorization: " + bytes(range(0x21, 0x7F)),
    ],
)
def test_absurd_keys_are_refused(server: RunningServer, header: bytes) -> None:
    with Wire(server.url, "") as wire:
        wire.send(b"GET /v1/voices HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
        reply = wire.reply()
    assert reply.status == 401
    assert reply.json()["detail"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 5000,
        "multipart/mixed; boundary=x",
        "application/json",
        "application/x-www-form-urlencoded; charset=utf-16",
        "\xff\xff",
        "multipart/form-data; boundary=\xe4\xf6",
    ],
)
@pytest.mark.parametrize("path", [CONVERT, STREAM, ISOLATE, ADD])
def test_absurd_content_types_are_refused(
    server: RunningServer, path: str, content_type: str
) -> None:
    body = form(("audio", wav(tone(0.2))))
    headers = {"content-type": content_type.encode("latin-1")}
    refusal(server.client.post(path, content=body, headers=headers))


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "klingon", "idna", "base64", "x" * 500])
def test_wrong_charsets_are_refused_or_read(server: RunningServer, charset: str) -> None:
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="seed"\r\n'
        f"Content-Type: text/plain; charset={charset}\r\n\r\n1\xff\r\n"
    ).encode("latin-1") + form(("model_id", PLAIN), ("audio", wav(tone(0.2))))
    reply = server.client.post(
        STREAM,
        content=body,
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    assert refusal(reply)["code"] == "422"


def test_compressed_bodies_are_refused(server: RunningServer) -> None:
    body = gzip.compress(form(("model_id", PLAIN), ("audio", wav(tone(0.2)))))
    reply = server.client.post(
        STREAM,
        content=body,
        headers={
            "content-type": f"multipart/form-data; boundary={BOUNDARY}",
            "content-encoding": "gzip",
        },
    )
    refusal(reply)


def test_other_streams_are_not_disturbed(server: RunningServer) -> None:
    """A good stream among bad ones gives what it gives alone."""
    path = f"{STREAM}?output_format=pcm_24000"
    out = io.BytesIO()
    with wave.open(out, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(24_000)
        made.writeframes((tone(4.0, 24_000) * 20_000).astype("<i2").tobytes())

    def good() -> bytes:
        reply = server.client.post(path, files={"audio": out.getvalue()}, data={"seed": "7"})
        assert reply.status_code == 200
        return reply.content

    alone = good()
    stop = threading.Event()

    def disturb(offset: int) -> None:
        with httpx.Client(
            base_url=server.url, headers={"xi-api-key": server.api_key}, timeout=120
        ) as client:
            for name, data in list(REFUSED.items())[offset::3]:
                if stop.is_set():
                    return
                assert client.post(STREAM, files={"audio": data}).status_code < 500, name

    others = [threading.Thread(target=disturb, args=(offset,)) for offset in range(3)]
    for each in others:
        each.start()
    try:
        assert good() == alone
        assert good() == alone
    finally:
        stop.set()
        for each in others:
            each.join()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to weigh a process")
def test_refusals_leave_neither_memory_nor_files(server: RunningServer) -> None:
    def round_of_refusals() -> None:
        for data in REFUSED.values():
            refusal(post(server, STREAM, data))
        refusal(post(server, STREAM, bomb()))

    round_of_refusals()
    settled(server)
    before, files = resident(), stored(server)
    for _ in range(3):
        round_of_refusals()
    settled(server)
    assert resident() - before < 20 << 20
    assert stored(server) == files


def stored(server: RunningServer) -> set[Path]:
    """Return the files of the data folder, but for the database's own."""
    return {
        path
        for path in server.settings.data.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }
