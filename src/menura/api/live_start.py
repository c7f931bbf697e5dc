"""The `start` of a live stream, checked and turned into a request; shared by all live routes."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from menura.accounts import Principal
from menura.audio.formats import STREAM_FORMATS, find_format
from menura.audio.live import FIXED_RATES, open_live_decoder
from menura.conversion.request import MAX_SEED
from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE, ConversionSettings
from menura.engine.registry import canonical, engine_for
from menura.errors import (
    InvalidVoiceSettings,
    SchemaViolation,
    shown,
)
from menura.history import NewItem
from menura.live.chain import LiveRequest
from menura.services import Services
from menura.voices.settings import VoiceSettings, as_json, voice_settings

LATE_MS = (100, 60_000)
REQUEST_FIELDS = (
    "model_id",
    "voice_settings",
    "seed",
    "remove_background_noise",
    "optimize_streaming_latency",
    "enable_logging",
)
"""What every live stream may ask for, as a request of the HTTP API may."""
START_FIELDS = ("type", "input", "output_format", *REQUEST_FIELDS, "drop_late_ms")
INPUT_FIELDS = ("encoding", "sample_rate")
KINDS = {
    dict: "an object",
    str: "a string",
    int: "a whole number",
    bool: "true or false",
}


def _wrong(field: str, message: str) -> SchemaViolation:
    return SchemaViolation(["body", *field.split(".")], message, "value_error")


def typed(message: Mapping[str, Any], name: str, kind: type, default: Any, within: str = "") -> Any:
    """Return a field of a message, the default where it is null or not there.

    Raises SchemaViolation.
    """
    value = message.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(within + name, f"{name} must be {KINDS[kind]}, not {shown(value)}")
    return value


def refuse_unknown(message: Mapping[str, Any], known: Sequence[str], within: str = "") -> None:
    """Refuse a field that does not exist: audio of two channels, or of a rate named elsewhere,
    would be heard as noise, or too slow. Raises SchemaViolation."""
    for name in message:
        if name not in known:
            raise _wrong(within + name[:60], f"{shown(name)} is not one of {', '.join(known)}")


def _drop_late(message: Mapping[str, Any]) -> float | None:
    """Return the seconds after which late audio is dropped, None for never."""
    value = message.get("drop_late_ms", 500)
    if value is None:
        return None
    low, high = LATE_MS
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong("drop_late_ms", f"drop_late_ms must be null or a number from {low} to {high}")
    return value / 1000


def asked_settings(value: Any) -> VoiceSettings:
    """Return a message's `voice_settings`. Raises InvalidVoiceSettings."""
    if value is not None and not isinstance(value, dict):
        raise InvalidVoiceSettings(
            f"voice_settings must be a JSON object, not {shown(value)}.",
            param="voice_settings",
        )
    asked = voice_settings(value or {})
    if asked.speed not in (None, 1.0):
        raise InvalidVoiceSettings(
            f"speed must be 1 in a live stream, not {asked.speed:g}: "
            "there time passes as fast as it is spoken.",
            param="voice_settings",
        )
    return asked


def live_settings(asked: VoiceSettings, stored: VoiceSettings) -> ConversionSettings:
    """Return what a client asks for over a voice's own settings, at the one speed there is."""
    return VoiceSettings(speed=1.0).over(asked).over(stored).decided()


async def read_start(
    services: Services,
    principal: Principal,
    request_id: str,
    voice_id: str,
    message: Mapping[str, Any],
) -> tuple[LiveRequest, NewItem, bool]:
    """Return what a `start` asks for, what the history tells of it, and whether it is logged.

    Checks in the order of the HTTP API. Raises MenuraError.
    """
    principal.require("speech_to_speech")
    refuse_unknown(message, START_FIELDS)
    given = typed(message, "input", dict, {})
    refuse_unknown(given, INPUT_FIELDS, "input.")
    encoding = typed(given, "encoding", str, "s16le", "input.")
    rate = typed(given, "sample_rate", int, FIXED_RATES.get(encoding, SAMPLE_RATE), "input.")
    decoder = open_live_decoder(encoding, rate)
    name = typed(message, "output_format", str, "pcm_24000")
    output_format = find_format(name)
    if output_format is None or output_format not in STREAM_FORMATS:
        raise _wrong("output_format", f"{name[:60]!r} is not a format of a stream")
    level = typed(message, "optimize_streaming_latency", int, 3)
    if not 0 <= level < len(LATENCY_PROFILES):
        raise _wrong("optimize_streaming_latency", f"the level must be 0 to 4, not {level}")
    seed = typed(message, "seed", int, secrets.randbelow(MAX_SEED + 1))
    if not 0 <= seed <= MAX_SEED:
        raise _wrong("seed", f"seed must be 0 to {MAX_SEED}, not {seed}")
    denoise = typed(message, "remove_background_noise", bool, False)
    logged = typed(message, "enable_logging", bool, True)
    drop_late = _drop_late(message)

    voice = await services.voices.get(principal.account_id, voice_id)
    model_id = typed(message, "model_id", str, "") or services.settings.default_model
    engine = engine_for(model_id)
    asked = asked_settings(message.get("voice_settings"))
    if not logged:
        principal.require_zero_retention()
    principal.require_format(name)
    request = LiveRequest(
        engine=engine,
        voice=await services.voices.profile(voice.own_id, engine),
        output_format=output_format,
        decoder=decoder,
        settings=live_settings(asked, voice.effective_settings),
        asked=asked,
        seed=seed,
        denoise=denoise,
        latency=LATENCY_PROFILES[level],
        drop_late=drop_late,
    )
    item = NewItem(
        account_id=principal.account_id,
        request_id=request_id,
        voice_id=voice.voice_id,
        voice_name=voice.name,
        voice_category=voice.category,
        model_id=canonical(model_id),
        content_type=output_format.media_type,
        output_format=output_format.name,
        settings=as_json(request.settings),
    )
    return request, item, logged
