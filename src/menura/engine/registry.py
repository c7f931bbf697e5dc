"""Which model ids exist, what the contract says of them, and which engine answers for each.

An engine is built once per process, on first use, and shared by every stream.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any

from menura.engine.interface import Engine
from menura.errors import ModelNotFound, UnsupportedModel

DEFAULT_MODEL = "eleven_english_sts_v2"
"""The model of a request that names none."""

SOURCE_FILTER_MODEL = "menura_source_filter_v1"
NEURAL_MODEL = "menura_neural_v2"

_ENGLISH = [("en", "English")]
_MULTILINGUAL = [
    ("en", "English"),
    ("ja", "Japanese"),
    ("zh", "Chinese"),
    ("de", "German"),
    ("hi", "Hindi"),
    ("fr", "French"),
    ("ko", "Korean"),
    ("pt", "Portuguese"),
    ("it", "Italian"),
    ("es", "Spanish"),
    ("id", "Indonesian"),
    ("nl", "Dutch"),
    ("tr", "Turkish"),
    ("fil", "Filipino"),
    ("pl", "Polish"),
    ("sv", "Swedish"),
    ("bg", "Bulgarian"),
    ("ro", "Romanian"),
    ("ar", "Arabic"),
    ("cs", "Czech"),
    ("el", "Greek"),
    ("fi", "Finnish"),
    ("hr", "Croatian"),
    ("ms", "Malay"),
    ("sk", "Slovak"),
    ("da", "Danish"),
    ("ta", "Tamil"),
    ("uk", "Ukrainian"),
    ("ru", "Russian"),
]


def _model(
    model_id: str, name: str, description: str, languages: list[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "model_id": model_id,
        "name": name,
        "can_be_finetuned": False,
        "can_do_text_to_speech": False,
        "can_do_voice_conversion": True,
        "can_use_style": True,
        "can_use_speaker_boost": True,
        "serves_pro_voices": False,
        "token_cost_factor": 1.0,
        "description": description,
        "requires_alpha_access": False,
        "max_characters_request_free_user": 10_000,
        "max_characters_request_subscribed_user": 10_000,
        "maximum_text_length_per_request": 10_000,
        "languages": [{"language_id": key, "name": label} for key, label in languages],
        "model_rates": {"character_cost_multiplier": 1.0, "cost_discount_multiplier": 1.0},
        "concurrency_group": "standard",
    }


MODELS: tuple[dict[str, Any], ...] = (
    _model(
        "eleven_multilingual_sts_v2",
        "Eleven Multilingual v2",
        "Menura's default engine under the id that multilingual clients send; any language.",
        _MULTILINGUAL,
    ),
    _model(
        "eleven_english_sts_v2",
        "Eleven English v2",
        "Menura's default engine under the id that English clients send.",
        _ENGLISH,
    ),
    _model(
        SOURCE_FILTER_MODEL,
        "Menura Source-Filter v1",
        "Signal processing alone: pitch, vocal-tract length, long-term spectrum and timbre classes "
        "moved to the target voice. Any language.",
        _MULTILINGUAL,
    ),
    _model(
        NEURAL_MODEL,
        "Menura Neural v2",
        "The source-filter engine with spectra formed by networks that this project trained: an "
        "unseen voice from a few seconds of reference. Any language; phones learned from English.",
        _MULTILINGUAL,
    ),
)
"""The contract's model objects, as `GET /v1/models` lists them."""

ALIASES = {"eleven_english_sts_v1": "eleven_english_sts_v2"}
"""Ids that are accepted but not listed."""

OTHER_MODELS = frozenset(
    {
        "eleven_v3",
        "eleven_v3_conversational",
        "eleven_v4",
        "eleven_v4_turbo",
        "eleven_ttv_v3",
        "eleven_multilingual_ttv_v2",
        "eleven_text_to_sound_v2",
        "eleven_text_to_sound_v3",
        "eleven_realtime_v1_mini",
        "eleven_realtime_v1_max",
        "eleven_multilingual_v1",
        "eleven_multilingual_v2",
        "eleven_monolingual_v1",
        "eleven_turbo_v2",
        "eleven_turbo_v2_5",
        "eleven_flash_v2",
        "eleven_flash_v2_5",
    }
)
_OTHER_KINDS = ("scribe_", "music_")
"""Ids that clients know, and how those of transcription and of music begin; none of them converts
speech."""


def canonical(model_id: str) -> str:
    """Return the id that a model is listed under."""
    return ALIASES.get(model_id, model_id)


def ids_of(model_id: str) -> list[str]:
    """Return all ids of a model."""
    listed = canonical(model_id)
    return [listed, *(alias for alias, of in ALIASES.items() if of == listed)]


def _source_filter() -> Engine:
    from menura.engine.source_filter import SourceFilterEngine  # noqa: PLC0415  built on first use

    return SourceFilterEngine()


def _neural() -> Engine:
    from menura.engine.neural import NeuralEngine  # noqa: PLC0415  built on first use

    return NeuralEngine()


_BUILDERS: dict[str, Callable[[], Engine]] = {
    "eleven_multilingual_sts_v2": _neural,
    "eleven_english_sts_v2": _neural,
    SOURCE_FILTER_MODEL: _source_filter,
    NEURAL_MODEL: _neural,
}


_building = Lock()
_built: dict[Callable[[], Engine], Engine] = {}


def engine_for(model_id: str = DEFAULT_MODEL) -> Engine:
    """Return the engine that runs a model; always the same object within a process.

    Raises UnsupportedModel for a model that does something else, ModelNotFound for an unknown id.
    """
    builder = _builder_of(model_id)
    with _building:
        return _built.get(builder) or _built.setdefault(builder, builder())


def require_model(model_id: str) -> None:
    """Raise what `engine_for` would for a model that no engine runs, without building one."""
    _builder_of(model_id)


def _builder_of(model_id: str) -> Callable[[], Engine]:
    known = canonical(model_id)
    if known in _BUILDERS:
        return _BUILDERS[known]
    if model_id in OTHER_MODELS or model_id.startswith(_OTHER_KINDS):
        raise UnsupportedModel(
            f"Model {model_id[:64]!r} cannot convert speech; use one of {', '.join(_BUILDERS)}.",
            param="model_id",
        )
    raise ModelNotFound(
        f"A model with id {model_id[:64]!r} was not found; use one of {', '.join(_BUILDERS)}.",
        param="model_id",
    )


def model_of(engine: Engine) -> str | None:
    """Return an id under which `engine_for` gives such an engine in any process; null for an engine
    that was made otherwise."""
    listed = [model["model_id"] for model in MODELS]
    return next((known for known in listed if _built.get(_BUILDERS[known]) is engine), None)
