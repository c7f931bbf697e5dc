"""Voices over HTTP, against a running server."""

import io
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest

from menura.voices.settings import OF_A_REQUEST, RANGES

from ..conftest import RunningServer

SPEECH = Path(__file__).parent.parent / "speech"
RECORDING = (SPEECH / "male_librispeech_1235.flac").read_bytes()
GEORGE = "JBFqnCBsd6RMkjVDRZzb"

VOICE_KEYS = {
    "voice_id", "name", "samples", "category", "fine_tuning", "labels", "description",
    "preview_url", "available_for_tiers", "settings", "sharing", "high_quality_base_model_ids",
    "verified_languages", "collection_ids", "safety_control", "voice_verification",
    "permission_on_resource", "is_owner", "is_legacy", "is_mixed", "favorited_at_unix",
    "created_at_unix", "is_bookmarked", "recording_quality", "labelling_status",
    "recording_quality_reason",
}  # fmt: skip
SAMPLE_KEYS = {
    "sample_id", "file_name", "mime_type", "size_bytes", "hash", "duration_secs",
    "remove_background_noise", "has_isolated_audio", "has_isolated_audio_preview",
    "speaker_separation", "trim_start", "trim_end",
}  # fmt: skip

Part = tuple[str, Any]


def text(name: str, value: str) -> Part:
    return (name, (None, value))


def file(data: bytes = RECORDING, name: str = "me.flac") -> Part:
    return ("files", (name, data, "application/octet-stream"))


def add(client: httpx.Client, *parts: Part) -> httpx.Response:
    return client.post("/v1/voices/add", files=list(parts))


def detail(response: httpx.Response) -> Any:
    return response.json()["detail"]


@pytest.fixture
def clone(shared_server: RunningServer) -> Iterator[str]:
    made = add(shared_server.client, text("name", "Mine"), file())
    assert made.status_code == 200, made.text
    voice_id = made.json()["voice_id"]
    yield voice_id
    shared_server.client.delete(f"/v1/voices/{voice_id}")


def test_every_voice_is_listed_whole(shared_server: RunningServer, clone: str) -> None:
    listed = shared_server.client.get("/v1/voices", params={"show_legacy": "true"})
    voices = listed.json()["voices"]
    assert voices[0]["voice_id"] == clone
    assert len(voices) >= 21
    for voice in voices:
        assert set(voice) == VOICE_KEYS
        assert all(isinstance(value, str) for value in voice["labels"].values())
        assert voice["preview_url"].startswith(shared_server.url)
        assert shared_server.client.get(f"/v1/voices/{voice['voice_id']}").json() == voice
    premade = voices[-1]
    assert (premade["samples"], premade["category"]) == (None, "premade")
    (sample,) = voices[0]["samples"]
    assert set(sample) == SAMPLE_KEYS


def test_search_pages_until_the_end(shared_server: RunningServer) -> None:
    names: list[str] = []
    token = None
    while True:
        parameters = {"page_size": 7, "sort": "name"} | (
            {"next_page_token": token} if token else {}
        )
        page = shared_server.client.get("/v2/voices", params=parameters).json()
        names += [voice["name"] for voice in page["voices"]]
        assert page["total_count"] >= 20
        token = page["next_page_token"]
        assert page["has_more"] is (token is not None)
        if token is None:
            break
    assert names == sorted(names, key=str.casefold)
    assert len(names) == page["total_count"]


def test_search_reads_every_parameter(shared_server: RunningServer) -> None:
    def find(query: str) -> Any:
        found = shared_server.client.get(f"/v2/voices?{query}")
        assert found.status_code == 200, found.text
        return found.json()

    assert [voice["name"] for voice in find("search=bittern")["voices"]] == ["Bittern"]
    assert {voice["labels"]["language"] for voice in find("language=nl&language=de")["voices"]} == {
        "nl",
        "de",
    }
    assert [voice["voice_id"] for voice in find(f"voice_ids={GEORGE}")["voices"]] == [GEORGE]
    assert find("include_total_count=no&page_size=3")["total_count"] == 3
    assert find("page_size=&search=&voice_ids=&next_page_token=")["total_count"] >= 20
    assert find("high_quality=true&min_notice_period_days=3")["voices"] == []
    assert find("voice_type=nonsense&include_custom_rates=1")["total_count"] == 0
    assert find("gender=male&age=old&accent=american&use_cases=narrative_story")["total_count"] == 1


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("page_size=0", 400, "invalid_page_size"),
        ("page_size=101", 400, "invalid_page_size"),
        ("next_page_token=x", 400, "invalid_cursor"),
        ("next_page_token=W10", 400, "invalid_cursor"),
        ("&".join(f"voice_ids=v{number}" for number in range(101)), 400, "invalid_parameters"),
        ("page_size=many", 422, None),
        ("include_total_count=perhaps", 422, None),
    ],
)
def test_a_bad_search_is_refused(
    shared_server: RunningServer, query: str, status: int, code: str | None
) -> None:
    refused = shared_server.client.get(f"/v2/voices?{query}")
    assert refused.status_code == status
    assert code is None or detail(refused)["code"] == code


@pytest.mark.parametrize("order", ["python", "javascript"])
def test_both_orders_of_the_form(shared_server: RunningServer, order: str) -> None:
    name = text("name", "Ordered")
    rest = [
        text("remove_background_noise", "false"),
        text("description", "As sent"),
        text("labels", '{"accent": "scottish"}'),
        text("consent", "It is me."),
        text("unknown", "ignored"),
    ]
    files = [file(name="one.flac"), file(name="two.flac")]
    parts = [name, *rest, *files] if order == "python" else [name, *files, *rest]
    made = add(shared_server.client, *parts)
    assert made.json().keys() == {"voice_id", "requires_verification", "library_voice_match"}
    voice_id = made.json()["voice_id"]
    voice = shared_server.client.get(f"/v1/voices/{voice_id}").json()
    assert voice["description"] == "As sent"
    assert voice["labels"] == {"accent": "scottish"}
    assert [sample["file_name"] for sample in voice["samples"]] == ["one.flac", "two.flac"]
    assert voice["is_owner"] is True
    assert shared_server.client.delete(f"/v1/voices/{voice_id}").json() == {"status": "ok"}
    assert shared_server.client.get(f"/v1/voices/{voice_id}").status_code == 404


def test_labels_of_the_python_sdk(shared_server: RunningServer) -> None:
    made = add(shared_server.client, text("name", "N"), text("labels", "null"), file())
    voice = shared_server.client.get(f"/v1/voices/{made.json()['voice_id']}").json()
    assert voice["labels"] == {}
    assert voice["description"] is None
    shared_server.client.delete(f"/v1/voices/{voice['voice_id']}")


@pytest.mark.parametrize(
    ("parts", "status", "what"),
    [
        ([file()], 422, ["body", "name"]),
        ([text("name", ""), file()], 422, ["body", "name"]),
        ([text("name", "  "), file()], 422, ["body", "name"]),
        ([text("name", "x")], 422, ["body", "files"]),
        ([text("name", "x"), text("labels", "[1]")], 422, ["body", "files"]),
        (
            [
                text("name", "x"),
                text("labels", "[1]"),
                text("remove_background_noise", "?"),
                file(),
            ],
            422,
            ["body", "remove_background_noise"],
        ),
        ([text("name", "x"), ("files", ("", b"", "application/octet-stream"))], 422, None),
        ([text("name", "x"), text("remove_background_noise", "maybe"), file()], 422, None),
        ([text("name", "x"), text("name", "y"), file()], 422, ["body", "name"]),
        ([text("name", "x"), text("labels", "[1]"), file()], 400, "invalid_parameters"),
        ([text("name", "x"), text("labels", '{"a": 1}'), file()], 400, "invalid_parameters"),
        (
            [text("name", "x"), text("labels", '{"a": "\\ud800"}'), file()],
            400,
            "invalid_parameters",
        ),
        ([text("name", "x\x00y"), file()], 400, "invalid_parameters"),
        ([text("name", "x" * 101), file()], 400, "invalid_parameters"),
        ([text("name", "x"), file(b"")], 400, "invalid_audio"),
        ([text("name", "x"), file(b"words " * 99)], 400, "invalid_audio_format"),
        ([text("name", "x"), *[file(b"x")] * 26], 400, "invalid_parameters"),
    ],
)
def test_a_bad_form_is_refused(
    shared_server: RunningServer, parts: list[Part], status: int, what: Any
) -> None:
    before = shared_server.client.get("/v1/voices").json()
    refused = add(shared_server.client, *parts)
    assert refused.status_code == status, refused.text
    if status == 422:
        (item,) = detail(refused)
        assert what is None or item["loc"] == what
    else:
        assert detail(refused)["code"] == what
    assert shared_server.client.get("/v1/voices").json() == before
    assert list((shared_server.settings.data / "incoming").iterdir()) == []


def test_another_body_than_a_form_is_refused(shared_server: RunningServer) -> None:
    refused = shared_server.client.post("/v1/voices/add", json={"name": "x"})
    assert refused.status_code == 400
    assert detail(refused)["code"] == "invalid_content_type"
    assert shared_server.client.post("/v1/voices/add").status_code == 422
    for body in (b"name=%ff", b"name=x&" * 200):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        refused = shared_server.client.post("/v1/voices/add", content=body, headers=headers)
        assert refused.status_code in {400, 422}


def test_editing_keeps_what_is_not_sent(shared_server: RunningServer, clone: str) -> None:
    client = shared_server.client

    def edit(*parts: Part) -> httpx.Response:
        return client.post(f"/v1/voices/{clone}/edit", files=list(parts))

    assert edit(text("name", "A"), text("labels", '{"age": "old"}')).json() == {"status": "ok"}
    assert edit(text("name", "B"), text("labels", "null"), text("description", "d")).is_success
    voice = client.get(f"/v1/voices/{clone}").json()
    assert (voice["name"], voice["labels"], voice["description"]) == ("B", {"age": "old"}, "d")
    assert edit(text("name", "C"), file(name="more.flac")).is_success
    samples = client.get(f"/v1/voices/{clone}").json()["samples"]
    assert [sample["file_name"] for sample in samples] == ["me.flac", "more.flac"]
    assert edit(text("description", "no name")).status_code == 422
    # As the first generation of the SDKs sends it.
    plain = client.post(f"/v1/voices/{clone}/edit", data={"name": "D", "labels": "null"})
    assert plain.json() == {"status": "ok"}
    assert client.get(f"/v1/voices/{clone}").json()["name"] == "D"

    audio = client.get(f"/v1/voices/{clone}/samples/{samples[0]['sample_id']}/audio")
    assert audio.content == RECORDING
    assert audio.headers["content-type"] == "audio/flac"
    gone = f"/v1/voices/{clone}/samples/{samples[0]['sample_id']}"
    part = client.get(f"{gone}/audio", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, RECORDING[10:20])
    assert client.delete(gone).json() == {"status": "ok"}
    again = client.get(f"{gone}/audio")
    assert (again.status_code, detail(again)["code"]) == (404, "sample_not_found")
    last = client.delete(f"/v1/voices/{clone}/samples/{samples[1]['sample_id']}")
    assert (last.status_code, detail(last)["code"]) == (400, "bad_request")


def test_settings(shared_server: RunningServer, clone: str) -> None:
    client = shared_server.client
    default = client.get("/v1/voices/settings/default").json()
    assert default.keys() == {
        "stability",
        "use_speaker_boost",
        "similarity_boost",
        "style",
        "speed",
    }
    path = f"/v1/voices/{clone}/settings"
    assert client.get(path).json() == default
    assert client.get(f"/v1/voices/{clone}").json()["settings"] is None
    changes = {"stability": 0.2, "style": None, "clone_strength": 0.5, "nonsense": []}
    assert client.post(f"{path}/edit", json=changes).json() == {"status": "ok"}
    assert client.post(f"{path}/edit", json={"style": 1}).json() == {"status": "ok"}
    assert client.get(path).json() == default | {"stability": 0.2, "style": 1.0}
    assert client.get(f"/v1/voices/{clone}").json()["settings"] == client.get(path).json()
    for bad, named in (
        ({"speed": 3}, "not 3."),
        ({"use_speaker_boost": "yes"}, "not 'yes'."),
        ({"stability": True}, "not true."),
        ([], "not []."),
        ({"speed": [None]}, "not [null]."),
        ([5] * 99, f"not {str([5] * 99)[:60]}..."),
    ):
        refused = client.post(f"{path}/edit", json=bad)
        assert refused.status_code == 400, bad
        assert detail(refused)["code"] == "invalid_voice_settings"
        assert named in detail(refused)["message"]
    broken = client.post(f"{path}/edit", content=b"{", headers={"content-type": "application/json"})
    assert detail(broken)["code"] == "malformed_json"


def test_previews(shared_server: RunningServer, clone: str) -> None:
    george = shared_server.client.get(f"/v1/voices/{GEORGE}").json()
    assert george["voice_id"] == GEORGE
    with shared_server.anonymous() as anonymous:
        public = anonymous.get(george["preview_url"])
        assert public.headers["content-type"] == "audio/mpeg"
        head = anonymous.head(george["preview_url"])
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(public.content))
        part = anonymous.get(george["preview_url"], headers={"range": "bytes=-5"})
        assert (part.status_code, part.content) == (206, public.content[-5:])
        mine = shared_server.client.get(f"/v1/voices/{clone}").json()["preview_url"]
        assert anonymous.get(mine).status_code == 401
        assert anonymous.get(f"/static/previews/{clone}.mp3").status_code == 404
        assert anonymous.get("/static/previews/..%2fpremade.json.mp3").status_code == 404
    assert shared_server.client.get(f"/v1/voices/{GEORGE}/preview").content == public.content
    heard = shared_server.client.get(mine)
    assert heard.headers["content-type"] == "audio/mpeg"
    with av.open(io.BytesIO(heard.content)) as container:
        loud = [np.abs(frame.to_ndarray()).max() > 0.01 for frame in container.decode(audio=0)]
    assert sum(loud) * 1152 / 44_100 > 1.0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/voices/nobody", 404, "voice_not_found"),
        ("GET", "/v1/voices/nobody/settings", 404, "voice_not_found"),
        ("GET", "/v1/voices/nobody/preview", 404, "voice_not_found"),
        ("GET", "/v1/voices/nobody/samples/s/audio", 404, "voice_not_found"),
        ("GET", f"/v1/voices/{GEORGE}/samples/s/audio", 404, "sample_not_found"),
        ("GET", "/v1/voices/%2e%2e%5cpasswd", 404, "voice_not_found"),
        ("GET", "/v1/voices/" + "a" * 65, 404, "voice_not_found"),
        ("DELETE", "/v1/voices/nobody", 404, "voice_not_found"),
        ("DELETE", f"/v1/voices/{GEORGE}", 403, "voice_access_denied"),
        ("DELETE", f"/v1/voices/{GEORGE}/samples/s", 403, "voice_access_denied"),
    ],
)
def test_refusals(
    shared_server: RunningServer, method: str, path: str, status: int, code: str
) -> None:
    refused = shared_server.client.request(method, path)
    assert refused.status_code == status
    assert detail(refused)["code"] == detail(refused)["status"] == code


def test_a_premade_voice_cannot_be_edited(shared_server: RunningServer) -> None:
    parts = dict([text("name", "Mine")])
    refused = shared_server.client.post(f"/v1/voices/{GEORGE}/edit", files=parts)
    assert (refused.status_code, detail(refused)["code"]) == (403, "voice_access_denied")


def test_the_tier_limits_the_number_of_clones(server: Callable[..., RunningServer]) -> None:
    tiers = {"small": {"concurrency": 2, "voices": 1}}
    running = server(default_tier="small", tiers=tiers)
    assert add(running.client, text("name", "One"), file()).is_success
    refused = add(running.client, text("name", "Two"), file())
    assert (refused.status_code, detail(refused)["code"]) == (400, "voice_limit_reached")
    subscription = running.client.get("/v1/user/subscription").json()
    assert (subscription["voice_slots_used"], subscription["voice_limit"]) == (1, 1)


def test_no_recording_is_measured_for_a_clone_that_there_is_no_room_for(
    server: Callable[..., RunningServer],
) -> None:
    running = server(default_tier="small", tiers={"small": {"concurrency": 2, "voices": 0}})
    refused = add(running.client, text("name", "One"), file(b"no sound"))
    assert (refused.status_code, detail(refused)["code"]) == (400, "voice_limit_reached")


def test_recordings_take_one_of_the_accounts_places(
    server: Callable[..., RunningServer],
) -> None:
    tiers = {"one": {"concurrency": 1, "voices": 5}}
    running = server(default_tier="one", tiers=tiers, queue_seconds=0.05)
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port)) as slow:
        slow.sendall(
            b"POST /v1/voices/add HTTP/1.1\r\nhost: menura\r\ncontent-length: 100000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n"
            b"xi-api-key: " + running.api_key.encode() + b"\r\n\r\n"
            b'--b\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\nbegin'
        )
        deadline = time.monotonic() + 20
        while running.services.accounts.leases.running(_account(running)) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        refused = add(running.client, text("name", "Two"), file())
        assert (refused.status_code, detail(refused)["code"]) == (429, "concurrent_limit_exceeded")
        assert refused.headers["retry-after"] == "1"
    while running.services.accounts.leases.running(_account(running)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert add(running.client, text("name", "Two"), file()).is_success


def test_a_form_takes_one_place_though_its_first_file_was_not_chosen(
    server: Callable[..., RunningServer],
) -> None:
    tiers = {"one": {"concurrency": 1, "voices": 5}}
    running = server(default_tier="one", tiers=tiers, queue_seconds=0.05)
    not_chosen = ("files", ("", b"", "application/octet-stream"))
    made = add(running.client, text("name", "Mine"), not_chosen, file())
    assert made.status_code == 200, made.text


def _account(running: RunningServer) -> str:
    return str(running.client.get("/v1/user").json()["user_id"])


def test_permissions(shared_server: RunningServer) -> None:
    def key(*permissions: str) -> dict[str, str]:
        made = shared_server.run(
            shared_server.services.accounts.keys.create(
                shared_server.run(shared_server.services.accounts.local_account()).account_id,
                name="limited",
                permissions=list(permissions),
            )
        )
        return {"xi-api-key": made.secret}

    reader = key("voices_read")
    cloner = key("create_instant_voice_clone")
    with shared_server.anonymous() as client:
        assert client.get("/v1/voices", headers=reader).is_success
        refused = client.delete("/v1/voices/nobody", headers=reader)
        assert (refused.status_code, detail(refused)["code"]) == (401, "missing_permissions")
        assert "voices_write" in detail(refused)["message"]
        made = client.post("/v1/voices/add", headers=cloner, files=[text("name", "C"), file()])
        assert made.is_success
        assert client.get("/v1/voices", headers=cloner).status_code == 401
        assert client.post("/v1/voices/add", headers=reader).status_code == 401
    shared_server.client.delete(f"/v1/voices/{made.json()['voice_id']}")


def test_the_document_describes_the_form(shared_server: RunningServer) -> None:
    document = shared_server.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/voices/add"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(schema["required"]) == {"name", "files"}
    assert "labels" in schema["properties"]
    edit = document["paths"]["/v1/voices/{voice_id}/settings/edit"]["post"]["requestBody"]
    properties = edit["content"]["application/json"]["schema"]["properties"]
    assert {*RANGES, "use_speaker_boost"} - {OF_A_REQUEST} == properties.keys()


def test_what_depends_on_who_speaks_is_not_stored_with_a_voice(
    shared_server: RunningServer,
) -> None:
    path = f"/v1/voices/{GEORGE}/settings"
    before = shared_server.client.get(path).json()
    refused = shared_server.client.post(f"{path}/edit", json={"transpose": 5, "style": 0.1})
    assert refused.status_code == 400
    assert "transpose" in detail(refused)["message"]
    assert shared_server.client.post(f"{path}/edit", json={"transpose": None}).is_success
    assert shared_server.client.get(path).json() == before
    assert "transpose" not in before


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain"])
def test_settings_that_are_not_said_to_be_json(
    shared_server: RunningServer, media_type: str
) -> None:
    refused = shared_server.client.post(
        f"/v1/voices/{GEORGE}/settings/edit",
        content=b'{"style": 0.1}',
        headers={"content-type": media_type},
    )
    assert refused.status_code == 400
    assert detail(refused)["code"] == "invalid_content_type"
    assert media_type in detail(refused)["message"]


def test_professional_clones_do_not_exist(shared_server: RunningServer) -> None:
    for path in ("/v1/voices/pvc", "/v1/voices/pvc/x/samples"):
        assert shared_server.client.post(path, json={"name": "x"}).status_code == 404


def test_an_edit_that_changes_nothing_stores_nothing(shared_server: RunningServer) -> None:
    client = shared_server.client
    made = client.post("/v1/voices/add", files=[text("name", "Plain"), file()]).json()
    path = f"/v1/voices/{made['voice_id']}"
    assert client.post(f"{path}/settings/edit", json={"style": None}).is_success
    assert client.get(path).json()["settings"] is None
    client.delete(path)


def test_links_are_of_the_public_address(server: Callable[..., RunningServer]) -> None:
    running = server(base_url="https://voice.example.org/menura/")
    for voice in running.client.get("/v1/voices").json()["voices"]:
        assert voice["preview_url"].startswith("https://voice.example.org/menura/static/previews/")


def test_consent_is_kept_and_a_sample_is_no_page(shared_server: RunningServer) -> None:
    client, voices = shared_server.client, shared_server.services.voices
    made = add(client, text("name", "Mine"), text("consent", " It is me. "), file()).json()
    account = shared_server.run(shared_server.services.accounts.local_account())
    kept = shared_server.run(voices.get(account.account_id, made["voice_id"]))
    assert kept.consent == "It is me."
    (sample,) = kept.samples
    audio = client.get(f"/v1/voices/{kept.voice_id}/samples/{sample.sample_id}/audio")
    assert audio.content == RECORDING
    assert audio.headers["x-content-type-options"] == "nosniff"
    client.delete(f"/v1/voices/{kept.voice_id}")


def test_a_sample_that_was_deleted_meanwhile_is_not_cut_off(
    shared_server: RunningServer, clone: str
) -> None:
    (sample,) = shared_server.client.get(f"/v1/voices/{clone}").json()["samples"]
    path = f"/v1/voices/{clone}/samples/{sample['sample_id']}/audio"
    assert shared_server.client.get(path).content == RECORDING
    for stored in (shared_server.settings.data / "objects" / "samples").rglob("*"):
        if stored.is_file():
            stored.unlink()
    assert shared_server.client.get(path).status_code == 404


def test_an_upload_that_breaks_off_leaves_nothing(shared_server: RunningServer) -> None:
    before = shared_server.client.get("/v1/voices").json()
    incoming = shared_server.settings.data / "incoming"

    def wait_until(there: bool) -> None:
        deadline = time.monotonic() + 20
        while bool(list(incoming.iterdir())) is not there:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    parts = urlsplit(shared_server.url)
    head = (
        f"POST /v1/voices/add HTTP/1.1\r\nhost: x\r\nxi-api-key: {shared_server.api_key}\r\n"
        "content-type: multipart/form-data; boundary=b\r\ncontent-length: 100000\r\n\r\n"
        '--b\r\ncontent-disposition: form-data; name="name"\r\n\r\nGone\r\n'
        '--b\r\ncontent-disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    )
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(head.encode() + RECORDING[:5000])
        wait_until(there=True)
    wait_until(there=False)
    assert shared_server.client.get("/v1/voices").json() == before
