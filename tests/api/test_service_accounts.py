"""Rotating keys through the official SDK, and the limits of a key that makes keys."""

import time
from typing import Any

import httpx
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from tests.conftest import RunningServer


@pytest.fixture
def holder(shared_server: RunningServer) -> str:
    answer = shared_server.client.post("/v1/service-accounts", json={"name": "robot"})
    made: str = answer.json()["service-account-user-id"]
    return made


def make(server: RunningServer, holder: str, **body: Any) -> httpx.Response:
    body = {"name": "key", "permissions": "all"} | body
    return server.client.post(f"/v1/service-accounts/{holder}/api-keys", json=body)


def works(server: RunningServer, key: str, path: str = "/v1/user") -> int:
    with server.anonymous(headers={"xi-api-key": key}) as client:
        return client.get(path).status_code


def test_rotation_through_the_official_sdk(shared_server: RunningServer) -> None:
    with httpx.Client(timeout=60) as client:
        sdk = ElevenLabs(
            api_key=shared_server.api_key, base_url=shared_server.url, httpx_client=client
        )
        made = sdk.service_accounts.create(name="sdk robot")
        holder = str(made.service_account_user_id)
        new = sdk.service_accounts.api_keys.create(holder, name="one", permissions=["user_read"])
        key = str(new.xi_api_key)
        assert works(shared_server, key) == 200
        assert works(shared_server, key, "/v1/models") == 401
        (listed,) = sdk.service_accounts.api_keys.list(holder).api_keys
        assert (listed.key_id, listed.name, listed.permissions) == (
            new.key_id,
            "one",
            ["user_read"],
        )
        assert key.startswith(listed.hint)
        assert listed.hashed_xi_api_key not in key
        sdk.service_accounts.api_keys.update(
            holder, str(new.key_id), is_enabled=True, name="two", permissions="all"
        )
        assert works(shared_server, key, "/v1/models") == 200
        sdk.service_accounts.api_keys.update(
            holder,
            str(new.key_id),
            name="three",
            is_enabled="no_update",
            permissions="no_update",
            character_limit="no_update",
            allowed_ips="no_update",
            tts_concurrency_limit="no_update",
            expires_at_unix="no_update",
        )
        assert works(shared_server, key, "/v1/models") == 200
        sdk.service_accounts.api_keys.update(
            holder,
            str(new.key_id),
            name="three",
            permissions=["text_to_speech", "dubbing_read", "models_read"],
        )
        (listed,) = sdk.service_accounts.api_keys.list(holder).api_keys
        assert listed.name == "three"
        assert set(listed.permissions) == {"text_to_speech", "dubbing_read", "models_read"}
        assert works(shared_server, key, "/v1/models") == 200
        assert works(shared_server, key) == 401
        sdk.service_accounts.api_keys.delete(holder, str(new.key_id))
        assert works(shared_server, key) == 401
        with pytest.raises(ApiError) as missing:
            sdk.service_accounts.api_keys.delete(holder, str(new.key_id))
        assert missing.value.status_code == 404
        found = sdk.service_accounts.list().service_accounts
        assert "sdk robot" in {one.name for one in found}


def test_the_accounts_own_keys_are_listed_under_its_id(shared_server: RunningServer) -> None:
    account_id = shared_server.client.get("/v1/user").json()["user_id"]
    body = shared_server.client.get(f"/v1/service-accounts/{account_id}/api-keys").json()
    assert "local" in {key["name"] for key in body["api-keys"]}
    assert shared_server.api_key not in str(body)


def test_disabling_stops_a_key_and_enabling_starts_it(
    shared_server: RunningServer, holder: str
) -> None:
    made = make(shared_server, holder).json()
    path = f"/v1/service-accounts/{holder}/api-keys/{made['key_id']}"
    assert shared_server.client.post(f"{path}/disable").json() == {"status": "ok"}
    assert works(shared_server, made["xi-api-key"]) == 401
    shared_server.client.patch(path, json={"is_enabled": True})
    assert works(shared_server, made["xi-api-key"]) == 200


def test_limits_are_set_and_cleared(shared_server: RunningServer, holder: str) -> None:
    soon = int(time.time()) + 3600
    limits: dict[str, Any] = {
        "character_limit": 5,
        "allowed_ips": ["10.1.2.3", "127.0.0.0/8"],
        "expires_at_unix": soon,
        "tts_concurrency_limit": 1,
    }
    made = make(shared_server, holder, **limits).json()
    path = f"/v1/service-accounts/{holder}/api-keys"
    (listed,) = shared_server.client.get(path).json()["api-keys"]
    assert listed["character_limit"] == 5
    assert listed["allowed_ips"] == limits["allowed_ips"]
    assert listed["expires_at_unix"] == soon
    assert listed["platform_limits"] == {"concurrency": {"limit": 1}}
    assert works(shared_server, made["xi-api-key"]) == 200
    shared_server.client.patch(f"{path}/{made['key_id']}", json={"allowed_ips": ["10.1.2.3"]})
    assert works(shared_server, made["xi-api-key"]) == 401
    cleared = dict.fromkeys(limits, "clear")
    answer = shared_server.client.patch(f"{path}/{made['key_id']}", json=cleared)
    assert answer.status_code == 200
    (listed,) = shared_server.client.get(path).json()["api-keys"]
    assert listed["character_limit"] is listed["allowed_ips"] is listed["expires_at_unix"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": ""}, 400),
        ({"name": "x" * 500}, 400),
        ({"name": None}, 422),
        ({"name": "nul \x00"}, 400),
        ({"permissions": ["fly"]}, 400),
        ({"permissions": "some"}, 422),
        ({"permissions": None}, 422),
        ({"character_limit": -1}, 422),
        ({"character_limit": 10**30}, 422),
        ({"allowed_ips": ["home"]}, 400),
        ({"allowed_ips": ["fe80::1%\0"]}, 400),
        ({"allowed_ips": ["fe80::1%" + "a" * 1_000]}, 400),
        # Whoever works out a list that comes out empty means no key that is open to all.
        ({"allowed_ips": []}, 422),
        ({"allowed_ips": ["10.0.0.0/8"] * 101}, 422),
        ({"permissions": ["user_read"] * 101}, 422),
        ({"expires_at_unix": 1}, 400),
        ({"expires_at_unix": int(time.time()) + 600}, 400),
        ({"expires_at_unix": 10**30}, 400),
        ({"expires_at_unix": 10**400}, 400),
        ({"expires_at_unix": -(10**400)}, 400),
        ({"expires_at_unix": int(time.time()) + 200 * 86_400}, 400),
        ({"tts_concurrency_limit": 0}, 422),
    ],
)
def test_what_cannot_be_is_refused(
    shared_server: RunningServer, holder: str, body: dict[str, Any], status: int
) -> None:
    answer = make(shared_server, holder, **body)
    assert answer.status_code == status, answer.text
    assert shared_server.client.get(f"/v1/service-accounts/{holder}/api-keys").json() == {
        "api-keys": []
    }


@pytest.mark.parametrize("field", ["permissions", "allowed_ips"])
def test_a_refusal_is_no_longer_than_what_is_refused(
    shared_server: RunningServer, holder: str, field: str
) -> None:
    answer = make(shared_server, holder, **{field: [1] * 30_000})
    assert answer.status_code == 422
    assert len(answer.content) < 60_000


@pytest.mark.parametrize(
    "limit",
    [
        {"character_limit": 0},
        {"allowed_ips": ["127.0.0.1"]},
        {"expires_at_unix": "in an hour"},
        {"tts_concurrency_limit": 1},
    ],
)
def test_a_limited_key_lifts_no_limit(
    shared_server: RunningServer, holder: str, limit: dict[str, Any]
) -> None:
    if "expires_at_unix" in limit:
        limit = {"expires_at_unix": int(time.time()) + 3600}
    made = make(shared_server, holder, permissions=["workspace_write"], **limit).json()
    path = f"/v1/service-accounts/{holder}/api-keys"
    with shared_server.anonymous(headers={"xi-api-key": made["xi-api-key"]}) as client:
        freed = client.patch(f"{path}/{made['key_id']}", json=dict.fromkeys(limit, "clear"))
        other = client.post(path, json={"name": "up", "permissions": ["workspace_write"]})
        for answer in (freed, other):
            assert answer.status_code == 401
            assert answer.json()["detail"]["code"] == "missing_permissions"
        named = client.patch(f"{path}/{made['key_id']}", json={"name": "still mine"})
        assert named.status_code == 200
    (listed,) = shared_server.client.get(path).json()["api-keys"]
    assert listed["name"] == "still mine"
    assert all(listed[name] is not None for name in limit if name in listed)


def test_a_limited_key_makes_no_other_stronger(shared_server: RunningServer, holder: str) -> None:
    limited = make(shared_server, holder, character_limit=5).json()
    other = make(shared_server, holder, permissions=["voices_read"]).json()
    path = f"/v1/service-accounts/{holder}/api-keys/{other['key_id']}"
    shared_server.client.patch(path, json={"is_enabled": False})
    with shared_server.anonymous(headers={"xi-api-key": limited["xi-api-key"]}) as client:
        for more in ({"permissions": "all"}, {"permissions": ["user_read"]}, {"is_enabled": True}):
            refused = client.patch(path, json=more)
            assert refused.status_code == 401
            assert refused.json()["detail"]["code"] == "missing_permissions"
        assert client.patch(path, json={"is_enabled": False}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"name": "\\ud800", "permissions": "all"}', "name"),
        # It would be kept, and no list of keys be readable any more.
        (b'{"name": "a", "permissions": "all", "allowed_ips": ["::1%\\ud800"]}', "allowed_ips"),
    ],
)
def test_half_a_character_is_no_name_and_no_address(
    shared_server: RunningServer, holder: str, body: bytes, param: str
) -> None:
    answer = shared_server.client.post(
        f"/v1/service-accounts/{holder}/api-keys",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["detail"]["param"] == param
    assert shared_server.client.get("/v1/service-accounts").status_code == 200


def test_no_key_makes_a_stronger_one(shared_server: RunningServer, holder: str) -> None:
    weak = make(shared_server, holder, permissions=["workspace_write"]).json()["xi-api-key"]
    path = f"/v1/service-accounts/{holder}/api-keys"
    with shared_server.anonymous(headers={"xi-api-key": weak}) as client:
        for permissions in ("all", ["user_read"]):
            answer = client.post(path, json={"name": "up", "permissions": permissions})
            assert answer.status_code == 401
            assert answer.json()["detail"]["code"] == "missing_permissions"
        same = client.post(path, json={"name": "same", "permissions": ["workspace_write"]})
        assert same.status_code == 200


@pytest.mark.parametrize(
    "more", [{"is_enabled": True}, {"character_limit": "clear"}, {"allowed_ips": "clear"}]
)
@pytest.mark.parametrize("permissions", ["all", ["workspace_write", "user_read"]])
def test_no_key_brings_back_a_stronger_one(
    shared_server: RunningServer, holder: str, permissions: Any, more: dict[str, Any]
) -> None:
    limits = {"character_limit": 5, "allowed_ips": ["192.0.2.1"]}
    weak = make(shared_server, holder, permissions=["workspace_write"]).json()["xi-api-key"]
    strong = make(shared_server, holder, permissions=permissions, **limits).json()
    path = f"/v1/service-accounts/{holder}/api-keys/{strong['key_id']}"
    shared_server.client.post(f"{path}/disable")
    with shared_server.anonymous(headers={"xi-api-key": weak}) as client:
        refused = client.patch(path, json={"name": "mine", **more})
        assert refused.status_code == 401
        assert refused.json()["detail"]["code"] == "missing_permissions"
        # To take away is another thing.
        assert client.patch(path, json={"is_enabled": False}).status_code == 200
    kept = shared_server.client.get(f"/v1/service-accounts/{holder}/api-keys").json()["api-keys"]
    (found,) = (key for key in kept if key["key_id"] == strong["key_id"])
    assert found["is_disabled"]
    assert found["name"] == "key"
    assert {name: found[name] for name in limits} == limits


def test_a_key_is_deleted_under_its_own_holder_alone(
    shared_server: RunningServer, holder: str
) -> None:
    account_id = shared_server.client.get("/v1/user").json()["user_id"]
    made = make(shared_server, holder).json()
    for path, status, left in ((account_id, 404, 200), (holder, 200, 401)):
        answer = shared_server.client.delete(
            f"/v1/service-accounts/{path}/api-keys/{made['key_id']}"
        )
        assert answer.status_code == status
        assert works(shared_server, made["xi-api-key"]) == left


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_holder_is_not_found(shared_server: RunningServer, method: str) -> None:
    path = "/v1/service-accounts/nobody/api-keys"
    body = {"name": "x", "permissions": "all"} if method == "POST" else None
    answer = shared_server.client.request(method, path, json=body)
    assert answer.status_code == 404
    assert "nobody" in answer.json()["detail"]["message"]


def test_no_key_makes_itself_or_another_stronger(shared_server: RunningServer, holder: str) -> None:
    weak = make(shared_server, holder, permissions=["workspace_write"]).json()
    other = make(shared_server, holder, permissions=["voices_read"]).json()
    path = f"/v1/service-accounts/{holder}/api-keys"
    with shared_server.anonymous(headers={"xi-api-key": weak["xi-api-key"]}) as client:
        for key_id in (weak["key_id"], other["key_id"]):
            for permissions in ("all", ["user_read"]):
                answer = client.patch(f"{path}/{key_id}", json={"permissions": permissions})
                assert answer.status_code == 401
                assert answer.json()["detail"]["code"] == "missing_permissions"
        same = {"permissions": ["workspace_write"]}
        assert client.patch(f"{path}/{weak['key_id']}", json=same).status_code == 200
    for key in (weak, other):
        assert works(shared_server, key["xi-api-key"]) == 401


@pytest.mark.parametrize(
    "changes", [{"name": " "}, {"allowed_ips": ["home"]}, {"expires_at_unix": 1}]
)
def test_a_change_to_what_cannot_be_is_refused(
    shared_server: RunningServer,
    holder: str,
    changes: dict[str, Any],
) -> None:
    made = make(shared_server, holder).json()
    path = f"/v1/service-accounts/{holder}/api-keys/{made['key_id']}"
    assert shared_server.client.patch(path, json=changes).status_code == 400
    assert works(shared_server, made["xi-api-key"]) == 200
