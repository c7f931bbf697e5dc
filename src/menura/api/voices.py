"""Voices: list, search, make, change, delete; their settings, samples and previews."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from menura.accounts import Principal
from menura.api.answer import Answer, Done
from menura.api.auth import permitted, services_of
from menura.api.bounded import BoundedRoute
from menura.api.errors import not_json, refusals
from menura.api.multipart import form_document
from menura.api.ranges import ranged
from menura.api.values import missing
from menura.api.voice_forms import VOICE_FORM, voice_form
from menura.engine.registry import MODELS
from menura.errors import (
    InvalidVoiceSettings,
    NotFound,
    VoiceNotFound,
    shown,
)
from menura.voices.premade import find_premade, premade_file
from menura.voices.preview import PREVIEW_FORMAT
from menura.voices.search import VoiceQuery
from menura.voices.settings import DEFAULTS, OF_A_REQUEST, RANGES, voice_settings
from menura.voices.store import Maker
from menura.voices.voice import Sample, Voice

router = APIRouter(tags=["voices"], route_class=BoundedRoute)

Reader = Annotated[Principal, permitted("voices_read")]
Writer = Annotated[Principal, permitted("voices_write")]
Anyone = Annotated[Principal, permitted()]
VoiceId = Annotated[str, Path(description="Id of a voice, or a well-known id that stands for one.")]
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The part that the header Range asks for."},
    416: refusals(416)[416],
}


class SettingsModel(Answer):
    """How a voice is applied when a request says nothing else."""

    stability: float
    use_speaker_boost: bool
    similarity_boost: float
    style: float
    speed: float


class FineTuning(Answer):
    """Fine-tuning does not exist here; clients expect the object."""

    is_allowed_to_fine_tune: bool = False
    state: dict[str, str] = Field(default_factory=dict)
    verification_failures: tuple[str, ...] = ()
    verification_attempts_count: int = 0
    manual_verification_requested: bool = False


class SampleModel(Answer):
    """A recording a voice was made from. `hash` is the SHA-256 of the file."""

    sample_id: str
    file_name: str
    mime_type: str
    size_bytes: int
    hash: str
    duration_secs: float | None
    remove_background_noise: bool
    has_isolated_audio: bool = False
    has_isolated_audio_preview: bool = False
    speaker_separation: None = None
    trim_start: None = None
    trim_end: None = None


class VoiceModel(Answer):
    """A voice. `settings` is null where the default settings apply."""

    voice_id: str
    name: str
    samples: list[SampleModel] | None
    category: str
    fine_tuning: FineTuning = FineTuning()
    labels: dict[str, str]
    description: str | None
    preview_url: str
    available_for_tiers: tuple[str, ...] = ()
    settings: SettingsModel | None
    sharing: None = None
    high_quality_base_model_ids: list[str]
    verified_languages: tuple[dict[str, str], ...] = ()
    collection_ids: tuple[str, ...] = ()
    safety_control: None = None
    voice_verification: None = None
    permission_on_resource: str | None
    is_owner: bool
    is_legacy: bool = False
    is_mixed: bool = False
    favorited_at_unix: None = None
    created_at_unix: int | None
    is_bookmarked: None = None
    recording_quality: str | None
    labelling_status: None = None
    recording_quality_reason: str | None


class VoiceList(Answer):
    """Every voice the account sees."""

    voices: list[VoiceModel]


class VoicePageModel(Answer):
    """One page of voices. `next_page_token`, sent back, gives the next; it is null on the last."""

    voices: list[VoiceModel]
    has_more: bool
    total_count: int
    next_page_token: str | None


class Made(Answer):
    """A voice was made and can be used at once."""

    voice_id: str
    requires_verification: bool = False
    library_voice_match: None = None


@router.get("/v1/voices", summary="List all voices", responses=refusals(422))
async def list_voices(
    request: Request,
    caller: Reader,
    show_legacy: Annotated[bool, Query(description="Without effect.")] = False,
) -> VoiceList:
    """Return every voice: the account's own, newest first, then the premade ones."""
    voices = await services_of(request.scope).voices.all(caller.account_id)
    return VoiceList(voices=[voice_model(request, voice) for voice in voices])


@router.get("/v2/voices", summary="Search voices", responses=refusals(400, 422))
async def search_voices(
    request: Request,
    caller: Reader,
    page_size: Annotated[int, Query(description="1 to 100.")] = 10,
    next_page_token: Annotated[str | None, Query(description="As the page before gave it.")] = None,
    search: Annotated[
        str | None,
        Query(description="Words that must all occur in name, description, labels or category."),
    ] = None,
    sort: Annotated[str | None, Query(description="`created_at_unix` or `name`.")] = None,
    sort_direction: Annotated[str | None, Query(description="`asc` or `desc`.")] = None,
    voice_type: Annotated[
        str | None,
        Query(
            description="`default`: premade voices. `personal`, `non-default`, `non-community` and "
            "`saved`: the account's own."
        ),
    ] = None,
    category: Annotated[str | None, Query(description="`premade` or `cloned`.")] = None,
    fine_tuning_state: str | None = None,
    collection_id: str | None = None,
    include_total_count: Annotated[
        bool, Query(description="If false, `total_count` counts only the voices of this page.")
    ] = True,
    voice_ids: Annotated[
        list[str] | None, Query(description="Only these voices, at most 100.")
    ] = None,
    gender: str | None = None,
    age: str | None = None,
    accent: str | None = None,
    language: Annotated[list[str] | None, Query(description="Any of these languages.")] = None,
    use_cases: Annotated[list[str] | None, Query(description="Any of these use cases.")] = None,
    min_notice_period_days: int | None = None,
    include_custom_rates: Annotated[bool | None, Query(description="Without effect.")] = None,
    include_live_moderated: Annotated[bool | None, Query(description="Without effect.")] = None,
    high_quality: Annotated[
        bool | None,
        Query(description="If true, nothing is found, because no voice is of that category."),
    ] = None,
) -> VoicePageModel:
    """Return one page of the voices that meet all the conditions given."""
    page = await services_of(request.scope).voices.search(
        caller.account_id,
        VoiceQuery(
            page_size=page_size,
            next_page_token=next_page_token or None,
            search=search,
            sort=sort,
            sort_direction=sort_direction,
            voice_type=voice_type,
            category=category,
            fine_tuning_state=fine_tuning_state,
            collection_id=collection_id,
            voice_ids=[voice_id for voice_id in voice_ids or () if voice_id],
            gender=gender,
            age=age,
            accent=accent,
            languages=language or (),
            use_cases=use_cases or (),
            min_notice_period_days=min_notice_period_days,
            high_quality=bool(high_quality),
        ),
    )
    return VoicePageModel(
        voices=[voice_model(request, voice) for voice in page.voices],
        has_more=page.next_page_token is not None,
        total_count=page.total if include_total_count else len(page.voices),
        next_page_token=page.next_page_token,
    )


@router.get("/v1/voices/settings/default", responses=refusals(), summary="Default settings")
async def default_settings(caller: Anyone) -> SettingsModel:
    """Return the settings of a voice that has none of its own."""
    return SettingsModel(**DEFAULTS.given())


@router.post(
    "/v1/voices/add",
    summary="Clone a voice",
    responses=refusals(400, 422, 429),
    openapi_extra=form_document(VOICE_FORM, ["name", "files"]),
)
async def add_voice(request: Request, caller: Anyone) -> Made:
    """Make a voice from recordings of it. The form's parts may come in any order."""
    if not caller.may("create_instant_voice_clone"):
        caller.require("voices_write")
    async with voice_form(request, caller) as form:
        clean = form.flag("remove_background_noise")
        if not form.uploads:
            raise missing(("body", "files"))
        voice = await services_of(request.scope).voices.create(
            _maker(caller), form.card(), form.uploads, remove_background_noise=clean
        )
    return Made(voice_id=voice.voice_id)


@router.post(
    "/v1/voices/pvc",
    summary="Refuse a professional clone",
    status_code=404,
    responses=refusals(404),
)
async def professional_clone(caller: Anyone) -> None:
    """Refuse: there are no professional clones here."""
    raise NotFound("There are no professional clones here; POST /v1/voices/add makes a voice.")


@router.get("/v1/voices/{voice_id}", summary="Read a voice", responses=refusals(404, 422))
async def get_voice(
    request: Request,
    caller: Reader,
    voice_id: VoiceId,
    with_settings: Annotated[
        bool, Query(description="Without effect: settings are always included.")
    ] = True,
) -> VoiceModel:
    """Return one voice."""
    voice = await services_of(request.scope).voices.get(caller.account_id, voice_id)
    return voice_model(request, voice)


@router.delete("/v1/voices/{voice_id}", summary="Delete a voice", responses=refusals(403, 404))
async def delete_voice(request: Request, caller: Writer, voice_id: VoiceId) -> Done:
    """Delete a clone and its recordings. History items keep the voice's name."""
    await services_of(request.scope).voices.delete(caller.account_id, voice_id)
    return Done()


@router.post(
    "/v1/voices/{voice_id}/edit",
    summary="Change a voice",
    responses=refusals(400, 403, 404, 409, 422, 429),
    openapi_extra=form_document(VOICE_FORM, ["name"]),
)
async def edit_voice(request: Request, caller: Writer, voice_id: VoiceId) -> Done:
    """Change a clone's card, and add recordings. What is not sent stays as it is."""
    async with voice_form(request, caller) as form:
        clean = form.flag("remove_background_noise")
        await services_of(request.scope).voices.edit(
            _maker(caller), voice_id, form.card(), form.uploads, remove_background_noise=clean
        )
    return Done()


@router.get("/v1/voices/{voice_id}/settings", summary="A voice's settings", responses=refusals(404))
async def get_voice_settings(request: Request, caller: Reader, voice_id: VoiceId) -> SettingsModel:
    """Return the settings that a conversion uses when its request gives none."""
    voice = await services_of(request.scope).voices.get(caller.account_id, voice_id)
    return SettingsModel(**voice.effective_settings.given())


@router.post(
    "/v1/voices/{voice_id}/settings/edit",
    summary="Change a voice's settings",
    responses=refusals(400, 404, 422),
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            **{
                                name: {"type": ["number", "null"], "minimum": low, "maximum": high}
                                for name, (low, high) in RANGES.items()
                                if name != OF_A_REQUEST
                            },
                            "use_speaker_boost": {"type": ["boolean", "null"]},
                        },
                    }
                }
            }
        }
    },
)
async def edit_voice_settings(
    request: Request, caller: Writer, voice_id: VoiceId, changes: Annotated[Any, Body()]
) -> Done:
    """Store settings with a voice. What is null or not sent stays as it is."""
    if isinstance(changes, bytes):
        raise not_json(request)
    if not isinstance(changes, dict):
        raise InvalidVoiceSettings(
            f"The settings must be a JSON object, not {shown(changes)}.",
            param="voice_settings",
        )
    if changes.get(OF_A_REQUEST) is not None:
        raise InvalidVoiceSettings(
            f"{OF_A_REQUEST} depends on who speaks: give it with a request. It is not stored.",
            param="voice_settings",
        )
    await services_of(request.scope).voices.edit_settings(
        caller.account_id, voice_id, voice_settings(changes)
    )
    return Done()


@router.get(
    "/v1/voices/{voice_id}/preview",
    summary="Hear a voice",
    response_class=Response,
    responses={**AUDIO, **refusals(404)},
)
async def preview_voice(request: Request, caller: Reader, voice_id: VoiceId) -> Response:
    """Return a short example spoken in the voice. A clone's is made when first asked for."""
    data = await services_of(request.scope).voices.preview(caller.account_id, voice_id)
    return _preview(request, data)


@router.get(
    "/v1/voices/{voice_id}/samples/{sample_id}/audio",
    summary="Hear a sample",
    response_class=Response,
    responses={**AUDIO, **refusals(404)},
)
async def sample_audio(
    request: Request, caller: Reader, voice_id: VoiceId, sample_id: str
) -> Response:
    """Return the original file of a recording that the voice was made from."""
    voices = services_of(request.scope).voices
    sample = await voices.sample(caller.account_id, voice_id, sample_id)
    return ranged(
        request,
        sample.size,
        sample.mime_type,
        lambda start, end: voices.sample_audio(sample, start, end),
    )


@router.delete(
    "/v1/voices/{voice_id}/samples/{sample_id}",
    summary="Delete a sample",
    responses=refusals(400, 403, 404, 409, 429),
)
async def delete_sample(
    request: Request, caller: Writer, voice_id: VoiceId, sample_id: str
) -> Done:
    """Delete a recording; the voice is measured anew from the others."""
    services = services_of(request.scope)
    async with services.accounts.leases.acquire(caller):
        await services.voices.delete_sample(caller.account_id, voice_id, sample_id)
    return Done()


@router.get(
    "/static/previews/{voice_id}.mp3",
    summary="Hear a premade voice, without a key",
    response_class=Response,
    responses={**AUDIO, 404: refusals(404)[404]},
)
async def public_preview(request: Request, voice_id: VoiceId) -> Response:
    """Return a short example spoken in a premade voice."""
    premade = find_premade(voice_id)
    if premade is None:
        raise VoiceNotFound(f"There is no premade voice {voice_id[:64]!r}.", param="voice_id")
    data = await asyncio.to_thread(premade_file(premade.preview).read_bytes)
    return _preview(request, data)


def voice_model(request: Request, voice: Voice) -> VoiceModel:
    """Return a voice in the contract's shape."""
    stored = voice.settings is not None
    return VoiceModel(
        voice_id=voice.voice_id,
        name=voice.name,
        samples=None if voice.samples is None else [_sample_model(one) for one in voice.samples],
        category=voice.category,
        labels=dict(voice.labels),
        description=voice.description,
        preview_url=_base_url(request) + _preview_path(voice),
        settings=SettingsModel(**voice.effective_settings.given()) if stored else None,
        high_quality_base_model_ids=[model["model_id"] for model in MODELS],
        permission_on_resource=None if voice.is_premade else "admin",
        is_owner=not voice.is_premade,
        created_at_unix=voice.created_at,
        recording_quality=voice.recording_quality,
        recording_quality_reason=voice.recording_quality_reason,
    )


def _sample_model(sample: Sample) -> SampleModel:
    return SampleModel(
        sample_id=sample.sample_id,
        file_name=sample.file_name,
        mime_type=sample.mime_type,
        size_bytes=sample.size,
        hash=sample.sha256,
        duration_secs=sample.seconds,
        remove_background_noise=sample.remove_background_noise,
    )


def _preview(request: Request, data: bytes) -> Response:
    async def opened(start: int, end: int) -> AsyncIterator[bytes]:
        yield data[start:end]

    return ranged(request, len(data), PREVIEW_FORMAT.media_type, opened)


def _preview_path(voice: Voice) -> str:
    if voice.is_premade:
        return f"/static/previews/{voice.own_id}.mp3"
    return f"/v1/voices/{voice.voice_id}/preview"


def _base_url(request: Request) -> str:
    configured = services_of(request.scope).settings.base_url
    return (configured or str(request.base_url)).rstrip("/")


def _maker(caller: Principal) -> Maker:
    return Maker(caller.account_id, caller.key_id, caller.tier.voices)
