"""Whatever arrives, the refusal has the contract's shape and names what is wrong."""

import json

import pytest
from tests.conftest import RunningServer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from menura.api import bounded

from .wire import Wire


def test_an_unknown_path_gets_the_frameworks_words(shared_server: RunningServer) -> None:
    answer = shared_server.client.get("/v1/nothing")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    assert shared_server.client.get("/v1/user/").status_code == 404


@pytest.mark.parametrize("path", ["v1/nothing", "v1/voices", "v1/text-to-speech/x/stream-input"])
def test_a_websocket_that_there_is_not_is_not_found(
    shared_server: RunningServer, path: str
) -> None:
    address = f"{shared_server.url.replace('http', 'ws')}/{path}"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, additional_headers={"xi-api-key": shared_server.api_key})
    answer = refused.value.response
    assert answer.status_code == 404
    assert json.loads(answer.body) == {"detail": "Not Found"}
    assert answer.headers["request-id"]
    with pytest.raises(InvalidStatus) as refused:
        connect(address)
    assert refused.value.response.status_code == 401


def test_a_wrong_method_says_which_are_right(shared_server: RunningServer) -> None:
    answer = shared_server.client.patch("/v1/user")
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == "GET, HEAD"
    answer = shared_server.client.put("/v1/service-accounts")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    answer = shared_server.client.get("/v1/single-use-token/tts_websocket")
    assert answer.headers["allow"] == "POST"
    answer = shared_server.client.put("/static/page.js")
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_schema_violation_is_a_list_that_names_the_value(shared_server: RunningServer) -> None:
    answer = shared_server.client.get("/v1/history", params={"page_size": "many"})
    assert answer.status_code == 422
    (item,) = answer.json()["detail"]
    assert item["loc"] == ["query", "page_size"]
    assert set(item) == {"loc", "msg", "type"}
    assert item["msg"].endswith(": 'many'")


def test_a_schema_violation_repeats_no_key_and_nothing_long(shared_server: RunningServer) -> None:
    answer = shared_server.client.get("/v1/history", params={"page_size": "my sk_many"})
    assert answer.status_code == 422
    assert "sk_many" not in answer.text
    answer = shared_server.client.get("/v1/history", params={"page_size": "y" * 1_000})
    assert len(answer.text) < 300
    answer = shared_server.client.post("/v1/history/download", json={"history_item_ids": [10**50]})
    assert answer.status_code == 422
    assert len(answer.text) < 300


def test_what_is_nested_deeply_is_refused_in_words(shared_server: RunningServer) -> None:
    path = "/v1/voices/21m00Tcm4TlvDq8ikWAM/settings/edit"
    # Some are too deep to be written again, though they could be read.
    for depth in range(850, 1000):
        answer = shared_server.client.post(
            path,
            content=b"[" * depth + b"]" * depth,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 400, depth


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b"\xff\xfe", "application/json", 400, "malformed_json"),
        (b"[" * 100_000, "application/json", 400, "malformed_json"),
        (b"a=1", "application/x-www-form-urlencoded", 400, "invalid_content_type"),
        (b'{"history_item_ids": ["a"]}', "text/plain", 400, "invalid_content_type"),
        (b'{"history_item_ids": ["a"]}', "", 400, "invalid_content_type"),
        (b"", "", 422, None),
        (b'{"x": "' + b"y" * 1_100_000 + b'"}', "application/json", 400, "request_too_large"),
        (b"", "application/json", 422, None),
        (b"null", "application/json", 422, None),
        (b"[]", "application/json", 422, None),
        (b'{"history_item_ids": []}', "application/json", 422, None),
        (b'{"history_item_ids": "a"}', "application/json", 422, None),
        (b'{"history_item_ids": [1]}', "application/json", 422, None),
        (b'{"history_item_ids": ["\\ud800"]}', "application/json", None, None),
        (b'{"history_item_ids": ["a\\u0000"]}', "application/json", 404, "history_item_not_found"),
    ],
)
def test_bad_bodies(
    shared_server: RunningServer,
    content: bytes,
    content_type: str,
    status: int | None,
    code: str | None,
) -> None:
    answer = shared_server.client.post(
        "/v1/history/download", content=content, headers={"content-type": content_type}
    )
    if status is None:
        assert answer.status_code in (400, 404, 422)
        return
    assert answer.status_code == status, answer.text
    if code is None:
        assert isinstance(answer.json()["detail"], list)
    else:
        assert answer.json()["detail"]["code"] == code


@pytest.mark.parametrize(
    "path",
    [
        "/v1/history?start_after_history_item_id=%00",
        "/v1/history?date_after_unix=99999999999999999999999999",
        "/v1/history?search=%FF%FE&source=STS",
        "/v1/history?voice_id=" + "x" * 10_000,
        "/v1/history/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/history/%00",
        "/v1/history/" + "x" * 10_000,
        "/v1/usage/character-stats?start_unix=-1&end_unix=1",
        "/v1/usage/character-stats?start_unix=0&end_unix=9223372036854775808",
        "/v1/usage/character-stats?start_unix=0&end_unix=1&aggregation_bucket_size=0",
        "/v1/usage/character-stats?start_unix=0&end_unix=1700000000000&aggregation_interval=hour",
        "/v1/service-accounts/%F0%9F%92%A9/api-keys",
    ],
)
def test_absurd_questions_get_an_answer(shared_server: RunningServer, path: str) -> None:
    answer = shared_server.client.get(path)
    assert answer.status_code < 500, answer.text
    json.loads(answer.text)


def test_odd_request_lines_do_not_disturb_the_server(shared_server: RunningServer) -> None:
    client = shared_server.client
    for headers in (
        {"x-long": "y" * 10_000},
        {"accept": "nothing/at-all"},
        {"range": "bytes=9-1"},
        {"content-length": "0"},
    ):
        assert client.get("/v1/user", headers=headers).status_code == 200


def test_a_json_body_that_does_not_come_is_given_up(
    shared_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_SECONDS", 0.2)
    with Wire(shared_server.url, "", timeout=10) as wire:
        wire.send(
            f"POST /v1/history/download HTTP/1.1\r\nHost: x\r\nxi-api-key: {shared_server.api_key}"
            "\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{".encode()
        )
        reply = wire.reply()
    assert reply.status == 400
    assert "did not arrive" in reply.json()["detail"]["message"]
