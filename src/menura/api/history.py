"""History of conversions: list, read, play, delete, download."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from menura.accounts import Principal
from menura.api.answer import Answer, Done
from menura.api.auth import permitted, services_of
from menura.api.bounded import BoundedRoute
from menura.api.errors import ErrorBody, refusals
from menura.api.ranges import StoredAudio, ranged
from menura.history import Direction, HistoryQuery
from menura.storage.tables import HistoryItem
from menura.voices.premade import ids_of

router = APIRouter(prefix="/v1/history", tags=["history"], route_class=BoundedRoute)

Reader = Annotated[Principal, permitted("speech_history_read")]
Writer = Annotated[Principal, permitted("speech_history_write")]


class Item(Answer):
    """One conversion."""

    history_item_id: str
    request_id: str | None
    voice_id: str | None
    model_id: str | None
    voice_name: str | None
    voice_category: str | None
    text: str | None = None
    date_unix: int
    character_count_change_from: int
    character_count_change_to: int
    content_type: str
    state: str = "created"
    settings: dict[str, Any] | None
    feedback: None = None
    share_link_id: str | None = None
    source: str | None
    alignments: None = None
    dialogue: None = None
    output_format: str | None


class ItemList(Answer):
    """One page of items. To get the next one, send `last_history_item_id` as
    `start_after_history_item_id`."""

    history: list[Item]
    last_history_item_id: str | None
    has_more: bool
    scanned_until: int | None


class Wanted(BaseModel):
    """Which items to download, and as what."""

    history_item_ids: Annotated[list[str], Field(min_length=1, max_length=1000)]
    output_format: Annotated[
        str | None, Field(description="`wav`, or `default` for the format it was made in.")
    ] = None


class BadFormat(Answer):
    """The refusal of an unknown `output_format`."""

    error: Literal["invalid_output_format"]
    message: str


def item_of(row: HistoryItem) -> Item:
    """Return an item in the contract's shape."""
    return Item(
        history_item_id=row.history_item_id,
        request_id=row.request_id,
        voice_id=row.voice_id,
        model_id=row.model_id,
        voice_name=row.voice_name,
        voice_category=row.voice_category,
        date_unix=row.created_at,
        character_count_change_from=row.characters_from,
        character_count_change_to=row.characters_to,
        content_type=row.content_type,
        settings=row.settings,
        source=row.source,
        output_format=row.output_format,
    )


@router.get("", responses=refusals(400, 422), summary="List the history")
async def list_history(
    request: Request,
    caller: Reader,
    page_size: Annotated[int, Query(description="1 to 1000.")] = 100,
    start_after_history_item_id: Annotated[
        str | None, Query(description="`last_history_item_id` of the page before.")
    ] = None,
    voice_id: str | None = None,
    model_id: str | None = None,
    date_before_unix: Annotated[
        int | None, Query(description="Only items made before this Unix second.")
    ] = None,
    date_after_unix: Annotated[
        int | None, Query(description="Only items made in this Unix second or after.")
    ] = None,
    sort_direction: Direction = "desc",
    search: Annotated[str | None, Query(description="Part of a voice's name.")] = None,
    source: Literal["TTS", "STS", "Flows"] | None = None,
) -> ItemList:
    """Return one page of the account's conversions, newest first unless asked otherwise."""
    page = await services_of(request.scope).history.list(
        caller.account_id,
        HistoryQuery(
            page_size=page_size,
            start_after=start_after_history_item_id or None,
            voice_ids=ids_of(voice_id) if voice_id else None,
            model_id=model_id or None,
            before=date_before_unix,
            after=date_after_unix,
            direction=sort_direction,
            search=search or None,
            source=source,
        ),
    )
    last = page.items[-1] if page.items else None
    return ItemList(
        history=[item_of(row) for row in page.items],
        last_history_item_id=last.history_item_id if last else None,
        has_more=page.has_more,
        scanned_until=last.created_at if last else None,
    )


@router.post(
    "/download",
    response_class=Response,
    responses={
        200: {
            "description": "For one id its audio, for several a zip with one file for each.",
            "content": {
                "audio/*": {"schema": {"type": "string", "format": "binary"}},
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **refusals(404, 422),
        400: {
            "model": BadFormat | ErrorBody,
            "description": "The format or the body cannot be used.",
        },
    },
    summary="Download items",
)
async def download_items(request: Request, wanted: Wanted, caller: Reader) -> Response:
    """Return the audio of one item, or a zip of several."""
    if wanted.output_format not in (None, "", "wav", "default"):
        # The contract gives this one refusal a shape of its own.
        refusal = BadFormat(
            error="invalid_output_format",
            message=f"output_format must be 'wav' or 'default', not {wanted.output_format[:50]!r}.",
        )
        return JSONResponse(refusal.model_dump(), status_code=400)
    found = await services_of(request.scope).history.download(
        caller.account_id, wanted.history_item_ids, as_wav=wanted.output_format == "wav"
    )
    return StoredAudio(
        found.content,
        media_type=found.media_type,
        headers={"content-disposition": f'attachment; filename="{found.file_name}"'},
    )


@router.get("/{history_item_id}", responses=refusals(404), summary="Read an item")
async def get_item(request: Request, history_item_id: str, caller: Reader) -> Item:
    """Return one conversion."""
    row = await services_of(request.scope).history.get(caller.account_id, history_item_id)
    return item_of(row)


@router.delete("/{history_item_id}", responses=refusals(404), summary="Delete an item")
async def delete_item(request: Request, history_item_id: str, caller: Writer) -> Done:
    """Delete one conversion and its audio, at once."""
    await services_of(request.scope).history.delete(caller.account_id, history_item_id)
    return Done()


@router.get(
    "/{history_item_id}/audio",
    response_class=Response,
    responses={
        200: {
            "description": "The audio in the format it was made in.",
            "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {"description": "The part that the header Range asks for."},
        **refusals(404, 416),
    },
    summary="Hear an item",
)
async def get_item_audio(request: Request, history_item_id: str, caller: Reader) -> Response:
    """Return one conversion's audio as it was made."""
    history = services_of(request.scope).history
    row = await history.get(caller.account_id, history_item_id)
    size = await history.size(row)
    return ranged(
        request, size, row.content_type, lambda start, end: history.audio(row, start, end)
    )
