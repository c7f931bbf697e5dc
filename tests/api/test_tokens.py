"""Single-use tokens over HTTP."""

import pytest
from elevenlabs.types import SingleUseTokenResponseModel
from tests.conftest import RunningServer


@pytest.mark.parametrize(
    "token_type", ["speech_to_speech_live", "realtime_scribe", "batch_scribe", "tts_websocket"]
)
def test_a_token_is_made_and_differs_each_time(
    shared_server: RunningServer, token_type: str
) -> None:
    path = f"/v1/single-use-token/{token_type}"
    tokens = {
        SingleUseTokenResponseModel.model_validate(shared_server.client.post(path).json()).token
        for _ in range(3)
    }
    assert len(tokens) == 3


def test_an_unknown_type_is_a_schema_violation(shared_server: RunningServer) -> None:
    answer = shared_server.client.post("/v1/single-use-token/sesame")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["path", "token_type"]
