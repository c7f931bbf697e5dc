"""How a voice is applied: a request's `voice_settings`, else the voice's own, else the defaults."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from menura.engine.interface import ConversionSettings
from menura.errors import InvalidVoiceSettings, shown

RANGES: dict[str, tuple[float, float]] = {
    "stability": (0.0, 1.0),
    "similarity_boost": (0.0, 1.0),
    "style": (0.0, 1.0),
    "speed": (0.7, 1.2),
}
"""Allowed values of the numbers, both ends included."""


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """Settings of which any may be undecided (None)."""

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: float | None = None

    def over(self, other: "VoiceSettings") -> "VoiceSettings":
        """Return these settings with `other` where they are undecided."""
        return VoiceSettings(**{**other.given(), **self.given()})

    def decided(self) -> ConversionSettings:
        """Return these settings with the defaults where they are undecided."""
        return ConversionSettings(**self.given())

    def given(self) -> dict[str, Any]:
        """Return the decided settings by name, as JSON has them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


DEFAULTS = VoiceSettings(**asdict(ConversionSettings()))
"""What a voice without settings of its own uses, every key decided."""


def voice_settings(values: Mapping[str, Any]) -> VoiceSettings:
    """Read settings from a JSON object; null means not given, unknown keys are ignored.

    Raises InvalidVoiceSettings.
    """
    known = {name: values[name] for name in DEFAULTS.given() if values.get(name) is not None}
    for name, value in known.items():
        if name == "use_speaker_boost":
            if not isinstance(value, bool):
                raise _invalid(f"use_speaker_boost must be true or false, not {shown(value)}.")
            continue
        low, high = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _invalid(f"{name} must be a number, not {shown(value)}.")
        if not low <= value <= high:
            raise _invalid(f"{name} must be from {low:g} to {high:g}, not {shown(value)}.")
        known[name] = float(value)
    return VoiceSettings(**known)


def parse_voice_settings(text: str | bytes) -> VoiceSettings:
    """Read settings from the text of a form field that holds a JSON object.

    Raises InvalidVoiceSettings.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid(f"voice_settings must be a JSON object, not {shown(text)}.") from None
    if values is None:
        return VoiceSettings()
    if not isinstance(values, dict):
        raise _invalid(f"voice_settings must be a JSON object, not {shown(text)}.")
    return voice_settings(values)


def _invalid(message: str) -> InvalidVoiceSettings:
    return InvalidVoiceSettings(message, param="voice_settings")
