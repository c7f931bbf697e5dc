"""Models and the empty voice library, as the official SDK reads them."""

from elevenlabs.types import GetLibraryVoicesResponse, Model
from tests.conftest import RunningServer


def test_models_parse_with_the_official_type(shared_server: RunningServer) -> None:
    body = shared_server.client.get("/v1/models").json()
    parsed = [Model.model_validate(model) for model in body]
    ids = {model.model_id for model in parsed}
    assert {"eleven_multilingual_sts_v2", "eleven_english_sts_v2"} <= ids
    assert all(model.can_do_voice_conversion for model in parsed)
    by_id = {model["model_id"]: model for model in body}
    assert len(by_id["eleven_multilingual_sts_v2"]["languages"]) == 29
    assert by_id["eleven_multilingual_sts_v2"]["model_rates"]["character_cost_multiplier"] == 1.0


def test_the_voice_library_is_empty(shared_server: RunningServer) -> None:
    body = shared_server.client.get("/v1/shared-voices").json()
    parsed = GetLibraryVoicesResponse.model_validate(body)
    assert (parsed.voices, parsed.has_more) == ([], False)
