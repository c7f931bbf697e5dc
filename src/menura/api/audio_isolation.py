"""Audio isolation: `POST /v1/audio-isolation` and `/stream` take the noise out of a recording.

Works like the voice changer, with an engine that leaves the voice as it is. Results are sent and
not kept, so the list of earlier ones is always empty.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from menura.accounts import Principal
from menura.api.answer import Answer
from menura.api.auth import permitted, services_of
from menura.api.converting import Converting, ConvertingResponse, Decision
from menura.api.errors import refusals
from menura.api.multipart import Field, FormLimits, form_document
from menura.api.values import choice, repeated
from menura.audio.decode import FILE_FORMATS
from menura.audio.formats import DEFAULT_FORMAT, find_format
from menura.conversion.passthrough import PassThrough, SameVoice
from menura.conversion.request import ConversionRequest, DurationLimits, SourcePlan
from menura.history import unknown_item
from menura.history.service import MAX_PAGE, check_page_size

SAMPLE_RATE = 48_000

_ENGINE = PassThrough()

router = APIRouter(prefix="/v1/audio-isolation", tags=["audio-isolation"])

Caller = Annotated[Principal, permitted("audio_isolation")]


class Isolation(Converting):
    """One request to take the noise out of a recording."""

    fields = frozenset({"file_format"})

    def __init__(self, scope: Scope, receive: Receive, send: Send, streaming: bool) -> None:
        settings = services_of(scope).settings
        super().__init__(
            scope,
            receive,
            send,
            form_limits=FormLimits.of(settings, settings.max_isolation_upload_bytes),
            durations=DurationLimits(settings.min_seconds, settings.max_isolation_seconds),
            streaming=streaming,
        )
        self._file_format: str | None = None

    def _take_field(self, field: Field) -> None:
        location = ("body", field.name)
        if self._file_format is not None:
            raise repeated(location)
        self._file_format = choice(location, field.value, FILE_FORMATS)

    def _guess(self) -> SourcePlan:
        return SourcePlan(
            engine=_ENGINE,
            file_format=self._file_format or FILE_FORMATS[0],
            denoise=True,
            sample_rate=SAMPLE_RATE,
        )

    async def _decide(self) -> Decision:
        output_format = find_format(DEFAULT_FORMAT)
        assert output_format is not None
        request = ConversionRequest(self._guess(), SameVoice(), output_format)
        return Decision(request, "audio_isolation")


class IsolationItems(Answer):
    """A page of earlier isolations."""

    items: tuple[None, ...] = ()
    has_more: bool = False


_FORM: dict[str, Any] = {
    "audio": {
        "type": "string",
        "format": "binary",
        "description": "Any audio file, or a video file with sound.",
    },
    "file_format": {
        "type": "string",
        "enum": list(FILE_FORMATS),
        "default": FILE_FORMATS[0],
        "description": "`pcm_s16le_16`: headerless signed 16-bit little-endian samples, 16 kHz, "
        "mono.",
    },
    "preview_b64": {"type": "string", "description": "Ignored."},
}

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The recording without its noise, as mono MP3 at 44.1 kHz and 128 kbit/s.",
        "content": {"audio/mpeg": {"schema": {"type": "string", "format": "binary"}}},
    },
    **refusals(400, 422, 429),
}


def _endpoint(streaming: bool) -> Callable[..., Awaitable[Response]]:
    async def isolate(caller: Caller) -> Response:
        """Take the noise out of a recording. This costs 1,000 credits a minute of audio."""
        return ConvertingResponse(partial(Isolation, streaming=streaming))

    return isolate


for _suffix, _summary in (
    ("", "Take the noise out of a recording"),
    ("/stream", "Take the noise out of a recording, answered as it is made"),
):
    router.add_api_route(
        _suffix,
        _endpoint(bool(_suffix)),
        methods=["POST"],
        operation_id=f"audio_isolation{_suffix}".replace("/", "_"),
        summary=_summary,
        response_class=Response,
        responses=_ANSWERS,
        openapi_extra=form_document(_FORM, ["audio"]),
    )


@router.get("/history", responses=refusals(400, 422), summary="Earlier isolations")
async def list_isolations(
    caller: Caller,
    page_size: Annotated[int, Query(description=f"1 to {MAX_PAGE}.")] = 100,
    page: Annotated[int, Query(ge=0)] = 0,
    search: str | None = None,
) -> IsolationItems:
    """Return an empty list, because results are not kept."""
    check_page_size(page_size)
    return IsolationItems()


@router.delete(
    "/history/{history_item_id}",
    status_code=404,
    responses=refusals(404),
    summary="Delete an earlier isolation",
)
async def delete_isolation(history_item_id: str, caller: Caller) -> None:
    """Refuse with 404, because results are not kept."""
    raise unknown_item(history_item_id)
