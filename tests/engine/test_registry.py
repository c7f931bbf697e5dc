"""Models and the engines behind them."""

import pytest

from menura.engine.registry import DEFAULT_MODEL, MODELS, OTHER_MODELS, engine_for, require_model
from menura.errors import ModelNotFound, UnsupportedModel


def test_the_contracts_models_are_listed():
    listed = {model["model_id"]: model for model in MODELS}
    assert {"eleven_multilingual_sts_v2", "eleven_english_sts_v2"} <= set(listed)
    assert len(listed["eleven_multilingual_sts_v2"]["languages"]) == 29
    assert listed["eleven_english_sts_v2"]["languages"] == [
        {"language_id": "en", "name": "English"}
    ]
    assert all(model["can_do_voice_conversion"] for model in MODELS)
    assert not any(model["can_do_text_to_speech"] for model in MODELS)


def test_every_listed_model_has_one_engine_per_process():
    for model in MODELS:
        assert engine_for(model["model_id"]) is engine_for(model["model_id"])
    assert engine_for("eleven_english_sts_v1") is engine_for(DEFAULT_MODEL)


ASKED = pytest.mark.parametrize("asked", [engine_for, require_model])


@ASKED
@pytest.mark.parametrize("model_id", [*sorted(OTHER_MODELS), "scribe_v2", "music_v1"])
def test_models_of_other_kinds_exist_but_cannot_convert(asked, model_id):
    with pytest.raises(UnsupportedModel) as caught:
        asked(model_id)
    assert caught.value.param == "model_id"
    assert model_id in caught.value.message


@ASKED
@pytest.mark.parametrize("model_id", ["", "eleven", "ELEVEN_ENGLISH_STS_V2", "../../etc"])
def test_unknown_models_are_not_found(asked, model_id):
    with pytest.raises(ModelNotFound) as caught:
        asked(model_id)
    assert caught.value.param == "model_id"
