"""The voice changer: `POST /v1/speech-to-speech/{voice_id}`, `/stream`, and the same under
`/v1/voice-changer`, as the older and the newer SDKs call it.

The routes and what the OpenAPI document says of them; `voice_change` does the work.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response

from menura.accounts import Principal
from menura.api.auth import permitted
from menura.api.converting import ConvertingResponse
from menura.api.errors import refusals
from menura.api.multipart import form_document
from menura.api.voice_change import VoiceChange
from menura.audio.decode import FILE_FORMATS
from menura.audio.formats import DEFAULT_FORMAT, FORMATS, STREAM_FORMATS, OutputFormat
from menura.conversion.request import MAX_SEED
from menura.engine.interface import LATENCY_PROFILES, RECORDING, SAMPLE_RATE

_SETTLING = RECORDING.settling // SAMPLE_RATE

router = APIRouter(prefix="/v1", tags=["speech-to-speech"])


VoiceId = Annotated[str, Path(description="A voice the account can use, see `GET /v1/voices`.")]
Caller = Annotated[Principal, permitted("speech_to_speech")]


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": description,
    }


_FORM: dict[str, Any] = {
    "audio": {
        "type": "string",
        "format": "binary",
        "description": "The speech whose words, timing and emotion drive the result: any "
        "audio file, or a video file with sound.",
    },
    "model_id": {
        "type": "string",
        "description": "A model that can convert voices, see `GET /v1/models`.",
    },
    "voice_settings": {
        "type": "string",
        "description": "A JSON object. Its keys replace those of the voice's settings for this "
        'request, for example {"stability": 0.5, "similarity_boost": 0.8}. Menura\'s own key '
        "transpose moves the pitch by so many semitones, from -36 to 36, and keeps the melody.",
    },
    "seed": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_SEED,
        "description": "The same seed and input give the same bytes. Random when absent.",
    },
    "remove_background_noise": {
        "type": "boolean",
        "default": False,
        "description": "Remove noise before the conversion, at no extra cost.",
    },
    "file_format": {
        "type": "string",
        "enum": list(FILE_FORMATS),
        "default": FILE_FORMATS[0],
        "description": "`other`: any file. `pcm_s16le_16`: headerless signed 16-bit "
        "little-endian samples, 16 kHz, mono, which saves time.",
    },
}

_HEADERS: dict[str, tuple[str, str]] = {
    "request-id": ("string", "Id of the request; the history item names it too."),
    "character-cost": (
        "integer",
        "Credits charged: 1,000 a minute of audio. Absent with `duplex`.",
    ),
    "x-character-count": ("integer", "The same as `character-cost`, under its older name."),
    "history-item-id": ("string", "Id of the history item; absent with `enable_logging=false`."),
    "tts-latency-ms": (
        "integer",
        "Milliseconds from the upload's last byte (with duplex, from the audio's first) to the "
        "first audio.",
    ),
    "current-concurrent-requests": (
        "integer",
        "Requests of the account that are running, this one included.",
    ),
    "maximum-concurrent-requests": ("integer", "Requests of the account that may run at once."),
}


def _answers(formats: tuple[OutputFormat, ...]) -> dict[int | str, dict[str, Any]]:
    media_types = sorted({known.media_type for known in formats})
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {
            "description": "The converted audio.",
            "content": dict.fromkeys(media_types, binary),
            "headers": {
                name: {"schema": {"type": kind}, "description": text}
                for name, (kind, text) in _HEADERS.items()
            },
        },
        **refusals(400, 403, 404, 422, 429),
    }


def _milliseconds(samples: int) -> int:
    return 1000 * samples // SAMPLE_RATE


def _document(streaming: bool) -> dict[str, Any]:
    formats = STREAM_FORMATS if streaming else FORMATS
    parameters = [
        _parameter(
            "output_format",
            {
                "type": "string",
                "enum": [known.name for known in formats],
                "default": DEFAULT_FORMAT,
            },
            "Codec, sample rate in Hz and, where it has one, bit rate in kbit/s. Always mono.",
        ),
        _parameter(
            "enable_logging",
            {"type": "boolean", "default": True},
            "`false` means zero retention: no history item is made and nothing is written to disk.",
        ),
        _parameter(
            "optimize_streaming_latency",
            {"type": "integer", "minimum": 0, "maximum": 4, "default": 0},
            "Higher levels work in smaller chunks and look less far ahead: "
            + "; ".join(
                f"{profile.level}: {_milliseconds(profile.chunk)} ms chunks, "
                f"{_milliseconds(profile.look_ahead)} ms look-ahead"
                for profile in LATENCY_PROFILES
            )
            + ("." if streaming else f". Level 0 hears {_SETTLING} s before it converts anything."),
        ),
    ]
    if streaming:
        parameters.append(
            _parameter(
                "duplex",
                {"type": "boolean", "default": False},
                "Answer while the audio is still being uploaded. `audio` must be the last part.",
            )
        )
    return {"parameters": parameters, **form_document(_FORM, ["audio"])}


def _endpoint(streaming: bool) -> Callable[..., Awaitable[Response]]:
    async def convert(voice_id: VoiceId, caller: Caller) -> Response:
        """Keep the words, the timing and the emotion of a recording and change who speaks."""
        return ConvertingResponse(partial(VoiceChange, voice_id=voice_id, streaming=streaming))

    return convert


for _prefix in ("speech-to-speech", "voice-changer"):
    for _suffix, _summary in (
        ("", "Change the voice of a recording"),
        ("/stream", "Change the voice of a recording, answered as it is made"),
    ):
        router.add_api_route(
            f"/{_prefix}/{{voice_id}}{_suffix}",
            _endpoint(bool(_suffix)),
            methods=["POST"],
            operation_id=f"{_prefix}{_suffix}".replace("-", "_").replace("/", "_"),
            summary=_summary,
            response_class=Response,
            responses=_answers(STREAM_FORMATS if _suffix else FORMATS),
            openapi_extra=_document(bool(_suffix)),
        )
