"""The history over HTTP, as the official SDK reads it."""

import asyncio
import io
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from elevenlabs.types import GetSpeechHistoryResponse, SpeechHistoryItemResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message
from tests.conftest import RunningServer

from menura.accounts import Charge, Principal
from menura.api.ranges import StoredAudio
from menura.history import NewItem

from ..storage.full import no_file_beyond
from .wire import Wire


def caller(server: RunningServer) -> Principal:
    found: Principal = server.run(server.services.accounts.keys.authenticate(server.api_key))
    return found


async def add(server: RunningServer, who: Principal, audio: bytes, **changes: Any) -> str:
    recording = server.services.history.begin()
    recording.write(audio)
    item: dict[str, Any] = {
        "account_id": who.account_id,
        "request_id": recording.history_item_id[::-1],
        "voice_id": "JBFqnCBsd6RMkjVDRZzb",
        "voice_name": "George",
        "voice_category": "premade",
        "model_id": "eleven_english_sts_v2",
        "content_type": "audio/pcm",
        "output_format": "pcm_16000",
        "settings": {"stability": 0.5, "similarity_boost": 0.75},
    }
    item.update(changes)
    charge = Charge(who, item["request_id"], 5, 0.3, "speech_to_speech")
    row = await server.services.history.commit(recording, NewItem(**item), charge)
    return row.history_item_id


def put(server: RunningServer, audio: bytes = b"audio", **changes: Any) -> str:
    made: str = server.run(add(server, caller(server), audio, **changes))
    return made


def test_an_item_parses_with_the_official_type(shared_server: RunningServer) -> None:
    item_id = put(shared_server)
    answer = shared_server.client.get(f"/v1/history/{item_id}")
    assert answer.status_code == 200
    body = answer.json()
    parsed = SpeechHistoryItemResponse.model_validate(body)
    assert parsed.history_item_id == item_id
    assert parsed.source == "STS"
    assert parsed.state == "created"
    assert parsed.character_count_change_to - parsed.character_count_change_from == 5
    assert set(SpeechHistoryItemResponse.model_fields) <= set(body)
    assert body["settings"] == {"stability": 0.5, "similarity_boost": 0.75}


def test_a_voice_is_found_by_any_of_its_ids(shared_server: RunningServer) -> None:
    george = shared_server.client.get("/v1/voices/JBFqnCBsd6RMkjVDRZzb").json()
    listed = shared_server.client.get("/v1/voices").json()["voices"]
    own = next(voice for voice in listed if voice["name"] == george["name"])["voice_id"]
    assert own != george["voice_id"]
    made = {put(shared_server, voice_id=voice_id) for voice_id in (own, george["voice_id"])}
    for voice_id in (own, george["voice_id"]):
        found = shared_server.client.get(
            "/v1/history", params={"voice_id": voice_id, "page_size": 1000}
        )
        assert made <= {item["history_item_id"] for item in found.json()["history"]}


def test_lists_page_as_the_sdk_does(shared_server: RunningServer) -> None:
    made = [put(shared_server, voice_id="paged") for _ in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"page_size": 2, "voice_id": "paged", "source": "STS"}
    while True:
        answer = shared_server.client.get("/v1/history", params=query)
        page = GetSpeechHistoryResponse.model_validate(answer.json())
        seen += [item.history_item_id for item in page.history]
        if not page.has_more:
            break
        assert page.last_history_item_id == seen[-1]
        query["start_after_history_item_id"] = page.last_history_item_id
    assert seen == made[::-1]
    ascending = shared_server.client.get(
        "/v1/history", params={"voice_id": "paged", "sort_direction": "asc"}
    ).json()
    assert [item["history_item_id"] for item in ascending["history"]] == made


def test_an_empty_list_is_valid(shared_server: RunningServer) -> None:
    body = shared_server.client.get("/v1/history", params={"voice_id": "never used"}).json()
    assert body == {
        "history": [],
        "has_more": False,
        "last_history_item_id": None,
        "scanned_until": None,
    }


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("page_size=0", 400, "invalid_page_size"),
        ("page_size=1001", 400, "invalid_page_size"),
        ("search=x", 400, "missing_required_field"),
        ("start_after_history_item_id=x", 400, "invalid_cursor"),
        ("sort_direction=up", 422, None),
        ("source=Radio", 422, None),
        ("date_after_unix=soon", 422, None),
    ],
)
def test_bad_questions(
    shared_server: RunningServer, query: str, status: int, code: str | None
) -> None:
    answer = shared_server.client.get(f"/v1/history?{query}")
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["detail"]["code"] == code


def test_audio_comes_as_it_was_made(shared_server: RunningServer) -> None:
    audio = bytes(range(256)) * 1000
    item_id = put(shared_server, audio)
    answer = shared_server.client.get(f"/v1/history/{item_id}/audio")
    assert answer.content == audio
    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.headers["content-length"] == str(len(audio))


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=995-", 206, slice(995, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=-2000", 206, slice(None)),
        ("bytes=990-99999", 206, slice(990, None)),
        ("bytes=1000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("items=0-1", 200, slice(None)),
        ("bytes=0-" + "9" * 40, 200, slice(None)),
    ],
)
def test_a_part_of_the_audio(
    shared_server: RunningServer, header: str, status: int, part: slice | None
) -> None:
    audio = bytes(range(250)) * 4
    item_id = put(shared_server, audio)
    answer = shared_server.client.get(f"/v1/history/{item_id}/audio", headers={"range": header})
    assert answer.status_code == status
    if part is not None:
        assert answer.content == audio[part]
        assert answer.headers["content-length"] == str(len(audio[part]))
        assert answer.headers["content-type"] == "audio/pcm"
        start, stop, _ = part.indices(1000)
        told = f"bytes {start}-{stop - 1}/1000" if status == 206 else None
        assert answer.headers.get("content-range") == told
    else:
        assert answer.headers["content-range"] == "bytes */1000"
        assert answer.json()["detail"]["code"] == "range_not_satisfiable"


def test_a_part_that_is_asked_for_if_nothing_changed_comes_whole(
    shared_server: RunningServer,
) -> None:
    item_id = put(shared_server, b"0123456789")
    headers = {"range": "bytes=2-3", "if-range": '"some-validator"'}
    answer = shared_server.client.get(f"/v1/history/{item_id}/audio", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_who_takes_nothing_is_given_up(server: Callable[..., RunningServer]) -> None:
    started = server(answer_stall_timeout=1)
    item_id = put(started, bytes(30_000_000))
    head = f"GET /v1/history/{item_id}/audio HTTP/1.1\r\nHost: x\r\nxi-api-key: {started.api_key}"
    with Wire(started.url, started.api_key) as wire:
        wire.send(f"{head}\r\n\r\n".encode())
        assert wire.reply_head()[0] == 200
        deadline = time.monotonic() + 20
        while "menura_requests_running 1.0" not in started.client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_head_tells_what_get_would_send(shared_server: RunningServer) -> None:
    item_id = put(shared_server, b"0123456789")
    answer = shared_server.client.head(f"/v1/history/{item_id}/audio")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "10"
    of_a_part = shared_server.client.head(
        f"/v1/history/{item_id}/audio", headers={"range": "bytes=2-3"}
    )
    assert (of_a_part.status_code, of_a_part.headers["content-length"]) == (200, "10")
    assert shared_server.client.head("/v1/history/nothing").status_code == 404
    with shared_server.anonymous() as client:
        assert client.head("/health").status_code == 200
        assert client.head("/v1/history").status_code == 401
    counted = shared_server.client.get("/metrics").text
    assert 'method="HEAD",route="/v1/history/{history_item_id}/audio",status="200"' in counted


def test_an_alias_finds_what_its_model_made(shared_server: RunningServer) -> None:
    item_id = put(shared_server, model_id="eleven_english_sts_v2", voice_id="of-the-alias")
    for model_id in ("eleven_english_sts_v1", "eleven_english_sts_v2"):
        query = {"voice_id": "of-the-alias", "model_id": model_id}
        (found,) = shared_server.client.get("/v1/history", params=query).json()["history"]
        assert found["history_item_id"] == item_id


def test_empty_audio_is_no_failure(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    item_id = put(shared_server, b"")
    answer = shared_server.client.get(f"/v1/history/{item_id}/audio")
    assert (answer.status_code, answer.content) == (200, b"")
    shared_server.client.delete(f"/v1/history/{item_id}")
    assert not caplog.records


def test_deleted_is_gone_at_once(shared_server: RunningServer) -> None:
    item_id = put(shared_server)
    answer = shared_server.client.delete(f"/v1/history/{item_id}")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    for method, path in (("GET", ""), ("GET", "/audio"), ("DELETE", "")):
        answer = shared_server.client.request(method, f"/v1/history/{item_id}{path}")
        assert answer.status_code == 404
        assert answer.json()["detail"]["code"] == "history_item_not_found"
        assert item_id in answer.json()["detail"]["message"]


def test_one_item_downloads_as_a_file(shared_server: RunningServer) -> None:
    item_id = put(shared_server, b"\x01\x02" * 100)
    for wanted, media_type, extension in (
        (None, "audio/pcm", "pcm"),
        ("default", "audio/pcm", "pcm"),
        ("wav", "audio/wav", "wav"),
    ):
        body = {"history_item_ids": [item_id]} | ({"output_format": wanted} if wanted else {})
        answer = shared_server.client.post("/v1/history/download", json=body)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-disposition"] == (
            f'attachment; filename="{item_id}.{extension}"'
        )
        assert answer.content.endswith(b"\x01\x02" * 100)
        assert answer.content.startswith(b"RIFF") == (wanted == "wav")


def test_several_items_download_as_a_zip(shared_server: RunningServer) -> None:
    ids = [put(shared_server, bytes([number]) * 2000) for number in range(3)]
    answer = shared_server.client.post("/v1/history/download", json={"history_item_ids": ids})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [f"{item_id}.pcm" for item_id in ids]
        assert archive.read(f"{ids[2]}.pcm") == b"\x02" * 2000


def test_a_bad_download_format_has_a_shape_of_its_own(shared_server: RunningServer) -> None:
    item_id = put(shared_server)
    body = {"history_item_ids": [item_id], "output_format": "flac"}
    answer = shared_server.client.post("/v1/history/download", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_output_format"
    assert "flac" in answer.json()["message"]


def test_downloading_what_does_not_exist(shared_server: RunningServer) -> None:
    body = {"history_item_ids": [put(shared_server), "unknown"]}
    answer = shared_server.client.post("/v1/history/download", json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"]["code"] == "history_item_not_found"


def test_what_cannot_be_read_is_refused_and_not_cut_off(shared_server: RunningServer) -> None:
    kept, lost = put(shared_server), put(shared_server)
    account_id = caller(shared_server).account_id
    row = shared_server.run(shared_server.services.history.get(account_id, lost))
    shared_server.run(shared_server.services.objects.delete(row.object_key))
    answer = shared_server.client.post(
        "/v1/history/download", json={"history_item_ids": [lost, kept]}
    )
    assert answer.status_code == 404, answer.text
    # As WAV it is written to the disk first.
    long = put(shared_server, bytes(200_000))
    with no_file_beyond(100_000):
        answer = shared_server.client.post(
            "/v1/history/download", json={"history_item_ids": [long], "output_format": "wav"}
        )
    assert answer.status_code == 503, answer.text
    assert "room" in answer.json()["detail"]["message"]


def test_what_a_vanished_client_has_not_taken_is_let_go_of_at_once(
    shared_server: RunningServer,
) -> None:
    let_go = []

    async def content() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"audio"
        finally:
            let_go.append(True)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError

    async def work() -> None:
        stream = content()
        scope = {"type": "http", "app": shared_server.app, "asgi": {"spec_version": "2.4"}}
        with pytest.raises(ClientDisconnect):
            await StoredAudio(stream)(scope, receive, send)
        assert let_go

    asyncio.run(work())
