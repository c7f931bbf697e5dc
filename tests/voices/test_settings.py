import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from menura.engine.interface import ConversionSettings
from menura.errors import InvalidVoiceSettings
from menura.voices.settings import (
    DEFAULTS,
    RANGES,
    VoiceSettings,
    parse_voice_settings,
    voice_settings,
)


def test_the_defaults_are_the_contracts() -> None:
    assert DEFAULTS.given() == {
        "stability": 0.5,
        "similarity_boost": 0.75,
        "style": 0.0,
        "use_speaker_boost": True,
        "speed": 1.0,
    }
    assert DEFAULTS.decided() == ConversionSettings()


def test_a_request_wins_key_by_key() -> None:
    request = parse_voice_settings('{"stability": 0.1, "style": null, "unknown": [1]}')
    stored = VoiceSettings(stability=0.9, style=0.4, use_speaker_boost=False)
    decided = request.over(stored).decided()
    assert decided == ConversionSettings(stability=0.1, style=0.4, use_speaker_boost=False)


@pytest.mark.parametrize(
    "text", ["[object Object]", "", "[]", "3", '"x"', "{", "[" * 100_000, '{"stability": NaN}']
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidVoiceSettings) as refused:
        parse_voice_settings(text)
    assert refused.value.param == "voice_settings"
    assert len(refused.value.message) < 200


def test_null_is_nothing() -> None:
    assert parse_voice_settings("null") == VoiceSettings()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("stability", 0.0, 1.0),
        ("similarity_boost", 0.0, 1.0),
        ("style", 0.0, 1.0),
        ("speed", 0.7, 1.2),
        ("transpose", -36.0, 36.0),
    ],
)
def test_ranges_are_the_contract_s_and_include_their_ends(
    name: str, low: float, high: float
) -> None:
    assert getattr(voice_settings({name: low}), name) == low
    assert getattr(voice_settings({name: high}), name) == high
    for value in (low - 0.01, high + 0.01, 10**400, float("inf"), "0.5", True, [], {}):
        with pytest.raises(InvalidVoiceSettings, match=name):
            voice_settings({name: value})


def test_a_melody_that_was_transposed_can_be_left_to_the_voice_again() -> None:
    moved = voice_settings({"transpose": 5})
    assert moved.decided().transpose == 5.0
    assert voice_settings({"transpose": None}).over(moved).decided().transpose == 5.0
    assert voice_settings({"transpose": "auto"}).over(moved).decided() == ConversionSettings()


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from([*DEFAULTS.given(), "transpose", "x"]), inner
        ),
    )
)
def test_any_json_gives_settings_or_a_refusal(value: object) -> None:
    try:
        settings = parse_voice_settings(json.dumps(value))
    except InvalidVoiceSettings:
        return
    decided = settings.decided()
    for name, (low, high) in RANGES.items():
        value = getattr(decided, name)
        assert value is None or low <= value <= high
