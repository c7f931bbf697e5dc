"""No route answers without a key, and no secret reaches a log."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Mount, WebSocketRoute
from tests.conftest import RunningServer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from menura.accounts import PERMISSIONS
from menura.api.auth import PUBLIC_PATHS, PUBLIC_PREFIXES

PARTS = {"{voice_id}": "JBFqnCBsd6RMkjVDRZzb", "{path:path}": "app.js"}


def filled(path: str) -> str:
    for part, value in PARTS.items():
        path = path.replace(part, value)
    while "{" in path:
        path = path[: path.index("{")] + "x" + path[path.index("}") + 1 :]
    return path


def routes(server: RunningServer) -> Iterator[tuple[str, str]]:
    """Yield the method and path of every route; WEBSOCKET for sockets."""
    for context in iter_route_contexts(server.app.routes):
        route = context.original_route
        if isinstance(route, Mount):
            continue
        path = filled(str(context.path))
        if isinstance(route, WebSocketRoute) or not getattr(route, "methods", None):
            yield "WEBSOCKET", path
        else:
            for method in route.methods or ():
                yield method, path


def is_public(method: str, path: str) -> bool:
    return method in ("GET", "HEAD") and (path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES))


def test_every_route_refuses_without_a_key(shared_server: RunningServer) -> None:
    guarded = 0
    with shared_server.anonymous() as client:
        for method, path in routes(shared_server):
            if method == "WEBSOCKET":
                if path.endswith("/twilio"):
                    continue
                with pytest.raises(InvalidStatus) as refused:
                    connect(shared_server.url.replace("http", "ws") + path)
                assert refused.value.response.status_code == 401, path
            elif is_public(method, path):
                continue
            else:
                answer = client.request(method, path)
                assert answer.status_code == 401, (method, path)
                if method != "HEAD":
                    assert answer.json()["detail"]["code"] == "missing_api_key", path
            guarded += 1
    assert guarded > 30


def test_what_is_public_is_named_here(shared_server: RunningServer) -> None:
    public = {path for method, path in routes(shared_server) if is_public(method, path)}
    assert {path for path in public if not path.startswith(PUBLIC_PREFIXES)} <= {
        "/",
        "/health",
        "/ready",
        "/favicon.ico",
    }
    with shared_server.anonymous() as client:
        assert client.get("/health").json()["status"] == "ok"
        assert client.get("/ready").json()["status"] == "ok"
        assert client.get("/openapi.json").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("GET", "/nothing"), ("DELETE", "/health"), ("TRACE", "/v1/user")],
)
def test_what_does_not_exist_needs_a_key_too(
    shared_server: RunningServer, method: str, path: str
) -> None:
    with shared_server.anonymous() as client:
        assert client.request(method, path).status_code == 401


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"xi-api-key": "sk_wrong"}, "invalid_api_key"),
        ({"xi-api-key": "x" * 5000}, "invalid_api_key"),
        ({"xi-api-key": b"\xff\xfe"}, "invalid_api_key"),
        ({"xi-api-key": ""}, "missing_api_key"),
        ({"authorization": "Basic abc"}, "invalid_authorization_header"),
        ({"authorization": "Bearer"}, "invalid_authorization_header"),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
    ],
)
def test_bad_keys_are_told_apart(
    shared_server: RunningServer, headers: dict[str, str], code: str
) -> None:
    with shared_server.anonymous() as client:
        answer = client.get("/v1/user", headers=headers)
    assert answer.status_code == 401
    detail = answer.json()["detail"]
    assert detail["code"] == code
    assert detail["type"] == "authentication_error"
    assert set(detail) == {"type", "code", "message", "status", "request_id"}


def test_a_bearer_token_is_as_good(shared_server: RunningServer) -> None:
    with shared_server.anonymous() as client:
        for kind in ("Bearer", "bearer"):
            headers = {"authorization": f"{kind} {shared_server.api_key}"}
            assert client.get("/v1/user", headers=headers).status_code == 200


def test_an_empty_token_is_none(shared_server: RunningServer) -> None:
    path = filled("/v1/speech-to-speech/{voice_id}/live?single_use_token=&token=%20")
    with pytest.raises(InvalidStatus) as refused:
        connect(shared_server.url.replace("http", "ws") + path)
    assert json.loads(refused.value.response.body)["detail"]["code"] == "missing_api_key"


def test_a_key_in_the_query_is_no_key(shared_server: RunningServer) -> None:
    with shared_server.anonymous() as client:
        made = shared_server.client.post("/v1/single-use-token/speech_to_speech_live").json()
        for query in ({"xi-api-key": shared_server.api_key}, {"single_use_token": made["token"]}):
            answer = client.get("/v1/voices/settings/default", params=query)
            assert answer.status_code == 401


def test_no_secret_reaches_a_log(
    server: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    started = server()
    # The line of a refused WebSocket holds its query.
    for logger in (None, "uvicorn.error"):
        caplog.set_level(logging.INFO, logger)
    accounts = started.services.accounts
    answer = started.client.post("/v1/single-use-token/speech_to_speech_live")
    token = answer.json()["token"]
    started.client.get("/v1/user")
    with started.anonymous() as client:
        client.get("/v1/user", params={"xi-api-key": started.api_key})
        client.get("/v1/user", params={"single_use_token": token})
        client.get("/v1/user", headers={"authorization": f"Bearer {started.api_key}x"})
    for name in ("xi-api-key", "xi_api_key", "API_KEY", "Authorization", "single_use_token"):
        secret = token if name == "single_use_token" else started.api_key
        with pytest.raises(InvalidStatus):
            connect(f"{started.url.replace('http', 'ws')}/nowhere?{name}={secret}")

    def broken(*_: object) -> None:
        raise RuntimeError("a failure inside")

    original = accounts.account
    accounts.account = broken  # type: ignore[assignment]
    assert started.client.get("/v1/user").status_code == 500
    accounts.account = original  # type: ignore[method-assign]
    started.stop()
    text = "\n".join(
        f"{record.getMessage()} {record.exc_text or ''}"
        for record in caplog.records
        if not record.name.startswith(("httpx", "httpcore", "websockets.client"))
    )
    assert "a failure inside" in text
    assert token not in text
    assert started.api_key not in text
    assert "/v1/user" in text
    assert '"WebSocket /nowhere' in text


def test_a_key_that_is_revoked_stops_at_once(shared_server: RunningServer) -> None:
    accounts = shared_server.services.accounts
    account = shared_server.run(accounts.local_account())
    made = shared_server.run(accounts.keys.create(account.account_id, "short"))
    with shared_server.anonymous(headers={"xi-api-key": made.secret}) as client:
        assert client.get("/v1/user").status_code == 200
        shared_server.run(accounts.keys.revoke(account.account_id, made.key_id))
        assert client.get("/v1/user").status_code == 401


def test_keys_are_checked_concurrently(shared_server: RunningServer) -> None:
    async def many() -> list[int]:
        headers = {"xi-api-key": shared_server.api_key}
        async with httpx.AsyncClient(base_url=shared_server.url, headers=headers) as client:
            answers = await asyncio.gather(*(client.get("/v1/user") for _ in range(40)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(many()) == [200] * 40


def test_the_openapi_document_names_the_key(shared_server: RunningServer) -> None:
    document = json.loads(shared_server.client.get("/openapi.json").text)
    scheme = document["components"]["securitySchemes"]["ApiKey"]
    assert scheme["in"] == "header"
    assert scheme["name"] == "xi-api-key"
    assert document["paths"]["/v1/user"]["get"]["security"] == [{"ApiKey": []}]


KEYS = "/v1/service-accounts/{service_account_user_id}/api-keys"
CONVERSIONS = [
    f"/v1/{family}/{{voice_id}}{suffix}"
    for family in ("speech-to-speech", "voice-changer")
    for suffix in ("", "/stream")
]
WANTED: dict[tuple[str, str], str | None] = {
    **{("POST", path): "speech_to_speech" for path in CONVERSIONS},
    ("POST", "/v1/audio-isolation"): "audio_isolation",
    ("POST", "/v1/audio-isolation/stream"): "audio_isolation",
    ("GET", "/v1/audio-isolation/history"): "audio_isolation",
    ("DELETE", "/v1/audio-isolation/history/{history_item_id}"): "audio_isolation",
    ("GET", "/v1/voices"): "voices_read",
    ("GET", "/v2/voices"): "voices_read",
    ("GET", "/v1/shared-voices"): "voices_read",
    ("GET", "/v1/voices/settings/default"): None,
    ("POST", "/v1/voices/add"): "voices_write",
    ("POST", "/v1/voices/pvc"): None,
    ("GET", "/v1/voices/{voice_id}"): "voices_read",
    ("DELETE", "/v1/voices/{voice_id}"): "voices_write",
    ("POST", "/v1/voices/{voice_id}/edit"): "voices_write",
    ("GET", "/v1/voices/{voice_id}/settings"): "voices_read",
    ("POST", "/v1/voices/{voice_id}/settings/edit"): "voices_write",
    ("GET", "/v1/voices/{voice_id}/preview"): "voices_read",
    ("GET", "/v1/voices/{voice_id}/samples/{sample_id}/audio"): "voices_read",
    ("DELETE", "/v1/voices/{voice_id}/samples/{sample_id}"): "voices_write",
    ("GET", "/v1/history"): "speech_history_read",
    ("POST", "/v1/history/download"): "speech_history_read",
    ("GET", "/v1/history/{history_item_id}"): "speech_history_read",
    ("GET", "/v1/history/{history_item_id}/audio"): "speech_history_read",
    ("DELETE", "/v1/history/{history_item_id}"): "speech_history_write",
    ("GET", "/v1/models"): "models_read",
    ("GET", "/v1/user"): "user_read",
    ("GET", "/v1/user/subscription"): "user_read",
    ("GET", "/v1/usage/character-stats"): "user_read",
    ("POST", "/v1/single-use-token/{token_type}"): None,
    ("GET", "/metrics"): "workspace_read",
    ("GET", "/v1/service-accounts"): "workspace_read",
    ("POST", "/v1/service-accounts"): "workspace_write",
    ("GET", KEYS): "workspace_read",
    ("POST", KEYS): "workspace_write",
    ("PATCH", KEYS + "/{key_id}"): "workspace_write",
    ("DELETE", KEYS + "/{key_id}"): "workspace_write",
    ("POST", KEYS + "/{key_id}/disable"): "workspace_write",
}
BESIDES = {"/v1/voices/add": {"create_instant_voice_clone"}}
"""Permissions of which any other one is enough, too."""


def test_every_route_asks_for_its_permission_and_no_other(shared_server: RunningServer) -> None:
    found = {
        (method, str(context.path))
        for context in iter_route_contexts(shared_server.app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.original_route.methods
        if not is_public(method, str(context.path))
    }
    assert found == WANTED.keys()
    accounts = shared_server.services.accounts
    account_id = shared_server.run(accounts.local_account()).account_id

    def key(*permissions: str) -> dict[str, str]:
        made = accounts.keys.create(account_id, "some", permissions=permissions)
        return {"xi-api-key": shared_server.run(made).secret}

    with shared_server.anonymous() as client:
        for (method, path), permission in WANTED.items():
            if permission is None:
                continue
            # Without a body, and with ids that name nothing: only who may call is asked here.
            enough = {permission} | BESIDES.get(path, set())
            others = key(*(each for each in PERMISSIONS if each not in enough))
            refused = client.request(method, filled(path), headers=others)
            assert refused.status_code == 401, (method, path)
            assert refused.json()["detail"]["code"] == "missing_permissions", path
            assert permission in refused.json()["detail"]["message"], path
            for each in enough:
                allowed = client.request(method, filled(path), headers=key(each))
                assert allowed.status_code not in {401, 500}, (method, path, allowed.text)


@pytest.mark.parametrize("body", [b"{", b"x" * 1_048_577])
def test_a_body_is_not_read_for_who_must_not_send_it(
    shared_server: RunningServer, body: bytes
) -> None:
    accounts = shared_server.services.accounts
    account_id = shared_server.run(accounts.local_account()).account_id
    made = accounts.keys.create(account_id, "little", permissions=["models_read"])
    headers = {
        "xi-api-key": shared_server.run(made).secret,
        "content-type": "application/json",
    }
    with shared_server.anonymous() as client:
        for method, path in (
            ("POST", "/v1/history/download"),
            ("POST", filled("/v1/voices/{voice_id}/settings/edit")),
            ("POST", "/v1/service-accounts"),
            ("POST", filled(KEYS)),
            ("PATCH", filled(KEYS + "/{key_id}")),
        ):
            refused = client.request(method, path, headers=headers, content=body)
            assert refused.status_code == 401, (path, refused.text)
            assert refused.json()["detail"]["code"] == "missing_permissions"
