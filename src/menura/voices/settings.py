"""How a voice is applied: a request's `voice_settings`, else the voice's own, else the defaults."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from menura.engine.interface import ConversionSettings
from menura.errors import InvalidVoiceSettings, shown

RANGES: dict[str, tuple[float, float]] = {
    "stability": (0.0, 1.0),
    "similarity_boost": (0.0, 1.0),
    "style": (0.0, 1.0),
    "speed": (0.7, 1.2),
    "transpose": (-36.0, 36.0),
}
"""Allowed values of the numbers, both ends included."""

OF_A_REQUEST = "transpose"
"""The setting that is not stored with a voice: it depends on who speaks, too."""


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """Settings of which any may be undecided (None)."""

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: float | None = None
    transpose: float | Literal["auto"] | None = None

    def over(self, other: "VoiceSettings") -> "VoiceSettings":
        """Return these settings with `other` where they are undecided."""
        return VoiceSettings(**{**other.given(), **self.given()})

    def decided(self) -> ConversionSettings:
        """Return these settings with the defaults where they are undecided."""
        given = self.given()
        if self.transpose == "auto":
            del given["transpose"]
        return ConversionSettings(**given)

    def given(self) -> dict[str, Any]:
        """Return the decided settings by name, as JSON has them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


DEFAULTS = VoiceSettings(**asdict(ConversionSettings()))
"""What a voice without settings of its own uses, every key decided that may be stored."""


def as_json(settings: ConversionSettings) -> dict[str, Any]:
    """Return settings by name; `transpose` only where it is a number."""
    return VoiceSettings(**asdict(settings)).given()


def voice_settings(values: Mapping[str, Any]) -> VoiceSettings:
    """Read settings from a JSON object; null means not given, unknown keys are ignored.

    Raises InvalidVoiceSettings.
    """
    names = [field.name for field in fields(VoiceSettings)]
    known = {name: values[name] for name in names if values.get(name) is not None}
    for name, value in known.items():
        if name == "use_speaker_boost":
            if not isinstance(value, bool):
                raise _invalid(f"use_speaker_boost must be true or false, not {shown(value)}.")
            continue
        if name == "transpose" and value == "auto":
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
