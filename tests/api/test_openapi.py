"""The OpenAPI document is complete and true: what it promises is what the server does."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from menura.api.app import create_app
from menura.settings import Settings

from ..conftest import RunningServer

CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def _operations() -> list[Any]:
    document = create_app(Settings()).openapi()
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


@pytest.mark.parametrize("operation", _operations(), ids=lambda operation: operation.label)
def test_every_operation_keeps_its_promises(operation: Any, shared_server: RunningServer) -> None:
    @settings(
        max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy())
    def keeps(case: Any) -> None:
        response = case.call(
            base_url=shared_server.url, headers={"xi-api-key": shared_server.api_key}, timeout=60
        )
        case.validate_response(response, checks=CHECKS)

    keeps()


def test_every_route_is_in_the_document(shared_server: RunningServer) -> None:
    document = shared_server.client.get("/openapi.json").json()
    for path in (
        "/v1/speech-to-speech/{voice_id}",
        "/v1/speech-to-speech/{voice_id}/stream",
        "/v1/voice-changer/{voice_id}",
        "/v1/voice-changer/{voice_id}/stream",
        "/v1/voices",
        "/v2/voices",
        "/v1/voices/add",
        "/v1/voices/{voice_id}",
        "/v1/voices/{voice_id}/edit",
        "/v1/voices/settings/default",
        "/v1/voices/{voice_id}/settings",
        "/v1/voices/{voice_id}/settings/edit",
        "/v1/voices/{voice_id}/samples/{sample_id}",
        "/v1/voices/{voice_id}/samples/{sample_id}/audio",
        "/v1/models",
        "/v1/history",
        "/v1/history/{history_item_id}",
        "/v1/history/{history_item_id}/audio",
        "/v1/history/download",
        "/v1/user",
        "/v1/user/subscription",
        "/v1/usage/character-stats",
        "/v1/audio-isolation",
        "/v1/audio-isolation/stream",
        "/v1/audio-isolation/history",
        "/v1/single-use-token/{token_type}",
    ):
        assert path in document["paths"], path
    operations = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(operations)) == len(operations)
