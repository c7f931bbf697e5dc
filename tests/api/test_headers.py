"""Every answer, whatever its kind, carries the contract's headers."""

import mimetypes
import re
from collections.abc import Callable

import httpx
import pytest
from tests.conftest import RunningServer

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "*",
    "access-control-allow-methods": "POST, PATCH, OPTIONS, DELETE, GET, PUT",
    "access-control-max-age": "600",
}


def check(answer: httpx.Response) -> None:
    headers = answer.headers
    assert re.fullmatch(r"[A-Za-z0-9]{20}", headers["request-id"])
    assert headers["x-request-id"] == headers["request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-trace-id"])
    assert headers["x-region"] == "local"
    assert headers["x-content-type-options"] == "nosniff"
    for name, value in CORS.items():
        assert headers[name] == value
    exposed = {name.strip() for name in headers["access-control-expose-headers"].split(",")}
    assert exposed >= {
        "request-id", "x-request-id", "x-trace-id", "history-item-id", "character-cost",
        "x-character-count", "current-concurrent-requests", "maximum-concurrent-requests",
        "tts-latency-ms", "x-region", "retry-after",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/v1/user", 200),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/history/unknown", 404),
        ("PUT", "/v1/user", 405),
        ("GET", "/v1/history?page_size=many", 422),
        ("GET", "/v1/history?page_size=0", 400),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
        ("HEAD", "/v1/user", 200),
    ],
)
def test_on_every_kind_of_answer(
    shared_server: RunningServer, method: str, path: str, status: int
) -> None:
    answer = shared_server.client.request(method, path)
    assert answer.status_code == status
    check(answer)
    if path.startswith("/v1"):
        assert answer.headers["current-concurrent-requests"] == "0"
        assert answer.headers["maximum-concurrent-requests"] == "64"


def test_a_key_with_a_limit_of_its_own_is_told_that(shared_server: RunningServer) -> None:
    accounts = shared_server.services.accounts
    account_id = shared_server.run(accounts.local_account()).account_id
    made = shared_server.run(accounts.keys.create(account_id, "one at once", concurrency_limit=1))
    with shared_server.anonymous(headers={"xi-api-key": made.secret}) as client:
        headers = client.get("/v1/models").headers
    assert headers["current-concurrent-requests"] == "0"
    assert headers["maximum-concurrent-requests"] == "1"


def test_without_a_key(shared_server: RunningServer) -> None:
    with shared_server.anonymous() as client:
        answer = client.get("/v1/user")
    assert answer.status_code == 401
    check(answer)
    assert answer.json()["detail"]["request_id"] == answer.headers["x-trace-id"]


def test_on_an_unexpected_failure_which_tells_nothing(
    server: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    started = server()

    def broken(*_: object) -> None:
        raise RuntimeError("the inside of the house")

    started.services.accounts.account = broken  # type: ignore[assignment]
    answer = started.client.get("/v1/user")
    assert answer.status_code == 500
    check(answer)
    detail = answer.json()["detail"]
    assert detail["code"] == detail["type"] == detail["status"] == "internal_error"
    assert "inside" not in answer.text
    told = [record for record in caplog.records if "inside of the house" in str(record.exc_info)]
    assert len(told) == 1
    assert detail["request_id"] in told[0].getMessage()
    assert started.client.get("/v1/models").status_code == 200


def test_no_cache_keeps_what_a_key_was_needed_for(shared_server: RunningServer) -> None:
    for path in ("/v1/voices", "/v1/history", "/v1/history/unknown/audio", "/v1/nothing"):
        assert shared_server.client.get(path).headers["cache-control"] == "no-store", path
    preview = shared_server.client.get("/v1/voices/21m00Tcm4TlvDq8ikWAM/preview")
    assert preview.headers["cache-control"] == "no-store"
    with shared_server.anonymous() as anybody:
        assert anybody.get("/").headers["cache-control"] == "no-cache"
        public = anybody.get("/static/previews/21m00Tcm4TlvDq8ikWAM.mp3")
        assert public.status_code == 200
        assert "cache-control" not in public.headers


def test_ids_differ_between_requests(shared_server: RunningServer) -> None:
    ids = {shared_server.client.get("/v1/user").headers["request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_a_browser_may_ask_first_without_a_key(shared_server: RunningServer) -> None:
    with shared_server.anonymous() as client:
        answer = client.options(
            "/v1/speech-to-speech/x/stream",
            headers={
                "origin": "https://example.org",
                "access-control-request-method": "POST",
                "access-control-request-headers": "xi-api-key, x-fern-language",
            },
        )
        assert answer.status_code == 200
        check(answer)
        assert client.options("/v1/user").status_code == 401


def test_the_region_is_a_setting(server: Callable[..., RunningServer]) -> None:
    # With blanks at its end it would be no header, and no request would get an answer.
    assert server(region="attic ").client.get("/health").headers["x-region"] == "attic"


def test_metrics_count_by_route_and_never_by_path(shared_server: RunningServer) -> None:
    shared_server.client.get("/v1/history/secret-name")
    shared_server.client.get("/static/style.css")
    text = shared_server.client.get("/metrics").text
    assert 'route="/v1/history/{history_item_id}",status="404"' in text
    assert 'route="page",status="200"' in text
    assert "secret-name" not in text


def test_what_the_system_calls_a_script_does_not_matter(shared_server: RunningServer) -> None:
    script = "/static/js/main.js"
    # As the registry of many a Windows has it; with nosniff no browser would run it.
    mimetypes.add_type("text/plain", ".js")
    try:
        answer = shared_server.client.get(script)
    finally:
        mimetypes.init()
    assert answer.headers["content-type"].startswith("text/javascript")
    etag = {"if-none-match": answer.headers["etag"]}
    assert shared_server.client.get(script, headers=etag).status_code == 304


@pytest.mark.parametrize("path", ["/", "/static/style.css"])
def test_the_page_may_talk_to_this_server_alone(shared_server: RunningServer, path: str) -> None:
    with shared_server.anonymous() as client:
        headers = client.get(path).headers
    rules = headers["content-security-policy"].split(";")
    policy = dict(rule.strip().split(" ", 1) for rule in rules)
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
