"""The models that can convert voices, and an empty voice library."""

from typing import Annotated

from fastapi import APIRouter

from menura.accounts import Principal
from menura.api.answer import Answer
from menura.api.auth import permitted
from menura.api.errors import refusals
from menura.engine.registry import MODELS

router = APIRouter(prefix="/v1", tags=["models"])


class Language(Answer):
    """A language a model takes."""

    language_id: str
    name: str


class ModelRates(Answer):
    """What a model costs relative to the base price."""

    character_cost_multiplier: float
    cost_discount_multiplier: float


class Model(Answer):
    """A model as the contract describes it."""

    model_id: str
    name: str
    can_be_finetuned: bool
    can_do_text_to_speech: bool
    can_do_voice_conversion: bool
    can_use_style: bool
    can_use_speaker_boost: bool
    serves_pro_voices: bool
    token_cost_factor: float
    description: str
    requires_alpha_access: bool
    max_characters_request_free_user: int
    max_characters_request_subscribed_user: int
    maximum_text_length_per_request: int
    languages: list[Language]
    model_rates: ModelRates
    concurrency_group: str


class SharedVoices(Answer):
    """A page of the shared voice library."""

    voices: tuple[None, ...] = ()
    has_more: bool = False
    last_sort_id: str | None = None
    total_count: int = 0


@router.get("/models", responses=refusals(), summary="List the models")
async def list_models(caller: Annotated[Principal, permitted("models_read")]) -> list[Model]:
    """Return every model of this server."""
    return [Model.model_validate(model) for model in MODELS]


@router.get("/shared-voices", responses=refusals(), summary="The shared voice library")
async def shared_voices(
    caller: Annotated[Principal, permitted("voices_read")],
) -> SharedVoices:
    """Return an empty list, because this server has no shared library."""
    return SharedVoices()
