"""The OpenAPI document is complete, and what it says of every route is true."""

from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig

from menura.api.app import ROUTERS

from ..conftest import RunningServer
from ..sounds import tone, wav
from .wire import CONVERT, VOICE

OFF = {"enabled": False}


@pytest.fixture(scope="module")
def document(shared_server: RunningServer) -> Any:
    reply = shared_server.client.post(CONVERT, files={"audio": wav(tone(0.3))})
    known = {"voice_id": VOICE, "history_item_id": reply.headers["history-item-id"]}
    config = {
        "seed": 1,
        "headers": {"xi-api-key": shared_server.api_key},
        "parameters": known,
        "checks": {
            # A schema cannot say that a file must hold sound, or that a time must lie ahead.
            "positive_data_acceptance": OFF,
            # The contract ignores what is empty or unknown.
            "negative_data_rejection": OFF,
            # `/v1/voices/add` is also a `/v1/voices/{voice_id}`.
            "allow_header_conformance": OFF,
        },
    }
    return schemathesis.openapi.from_url(
        f"{shared_server.url}/openapi.json",
        headers={"xi-api-key": shared_server.api_key},
        config=SchemathesisConfig.from_dict(config),
    )


# The server's threads draw random numbers while hypothesis builds a case, which is then blamed.
@pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_route_answers_as_the_document_says(
    document: Any, mode: GenerationMode, subtests: pytest.Subtests
) -> None:
    for result in document.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not (list(operation.query) or list(operation.body)):
            continue

        @settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers(case: Case) -> None:
            if isinstance(case.body, dict) and "audio" in case.body:
                case.body["audio"] = wav(tone(0.2))
            case.call_and_validate()

        # Some schemas have nothing that does not fit them.
        with subtests.test(operation.label), suppress(Unsatisfiable):
            answers()


def test_every_route_is_in_the_document(shared_server: RunningServer) -> None:
    paths = shared_server.client.get("/openapi.json").json()["paths"]
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                assert {method.lower() for method in route.methods} <= set(paths[route.path])


def test_every_operation_is_described(shared_server: RunningServer) -> None:
    paths = shared_server.client.get("/openapi.json").json()["paths"]
    names = []
    for path, operations in paths.items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            # What is refused whatever is asked has no success to describe.
            usual = {"200", "404"} & operation["responses"].keys()
            assert operation["responses"][min(usual)]["description"], where
            if path.startswith("/v"):
                assert {"401", "503"} <= operation["responses"].keys(), where
            names.append(operation["operationId"])
    assert len(names) == len(set(names))


def test_no_operation_names_a_refusal_that_it_never_gives(shared_server: RunningServer) -> None:
    document = shared_server.client.get("/openapi.json").json()
    assert "422" not in document["paths"]["/v1/history/{history_item_id}"]["get"]["responses"]
    named = document["paths"]["/v1/single-use-token/{token_type}"]["post"]["responses"]["422"]
    schema = named["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ValidationBody"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_client_made_from_the_document_has_plain_names_and_whole_answers(
    shared_server: RunningServer,
) -> None:
    document = shared_server.client.get("/openapi.json").json()
    names = {
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    }
    assert {"get_voice", "list_history", "create_key", "voice_changer_stream"} <= names
    assert not [name for name in names if "_v1_" in name or "_v2_" in name]
    schemas = document["components"]["schemas"]
    for path in ("/v1/user", "/v1/user/subscription", "/v1/history", "/v2/voices"):
        answer = document["paths"][path]["get"]["responses"]["200"]
        name = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        sent = shared_server.client.get(path).json()
        assert sorted(schemas[name]["required"]) == sorted(sent), path
    voice = shared_server.client.get(f"/v1/voices/{VOICE}").json()
    assert sorted(schemas["VoiceModel"]["required"]) == sorted(voice)
