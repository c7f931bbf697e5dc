"""The forms that make and change voices, read while they arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from menura.accounts import Principal
from menura.api.auth import services_of
from menura.api.bounded import read_small_body
from menura.api.multipart import (
    Field,
    FileData,
    FileEnd,
    FileStart,
    FormLimits,
    read_form,
)
from menura.api.values import boolean, media_type, missing, repeated
from menura.errors import BadRequest, InvalidParameters
from menura.storage.objects import ObjectWriter
from menura.voices.card import Card, parse_labels
from menura.voices.store import Upload

_WRITE_SIZE = 1 << 20
_MOST_FIELDS = 128

VOICE_FORM: dict[str, Any] = {
    "name": {"type": "string", "description": "1 to 100 characters."},
    "files": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "Recordings of the voice; 10 to 60 seconds of speech in all, best 30 to 60.",
    },
    "remove_background_noise": {
        "type": "boolean",
        "default": False,
        "description": "Remove noise from these recordings before the voice is measured.",
    },
    "description": {"type": "string"},
    "labels": {
        "type": "string",
        "description": "A JSON object of strings, for example "
        '{"language": "en", "accent": "scottish", "gender": "female", "age": "young"}.',
    },
    "consent": {
        "type": "string",
        "description": "How the speaker has agreed to the clone. Kept with the voice.",
    },
}
"""Properties of the form, for the OpenAPI document."""


@dataclass(slots=True)
class VoiceForm:
    """What a form says."""

    texts: dict[str, str] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)

    def take(self, name: str, value: str) -> None:
        """Add a text field. Raises SchemaViolation for one that came before."""
        if name in self.texts and name in VOICE_FORM:
            raise repeated(("body", name))
        self.texts[name] = value

    def card(self) -> Card:
        """Return what the form says of the voice. Raises SchemaViolation, InvalidParameters."""
        name = self.texts.get("name", "")
        if not name.strip():
            raise missing(("body", "name"))
        return Card(
            name=name,
            description=self.texts.get("description", "").strip() or None,
            labels=parse_labels(self.texts.get("labels", "")),
            consent=self.texts.get("consent", "").strip() or None,
        )

    def flag(self, name: str) -> bool:
        """Return a boolean field, false when absent. Raises SchemaViolation."""
        text = self.texts.get(name, "").strip()
        return boolean(("body", name), text) if text else False


@asynccontextmanager
async def voice_form(request: Request, caller: Principal) -> AsyncIterator[VoiceForm]:
    """Read a form to its end and lend it; recordings that nobody has kept by then are forgotten.

    From its first recording on the form holds one of the places of the caller's account, since
    recordings take room and are measured. Raises what `read_form` and `Leases.acquire` raise, and
    InvalidParameters for too many recordings.
    """
    form = VoiceForm()
    async with AsyncExitStack() as place:
        try:
            if _is_urlencoded(request):
                await _read_urlencoded(request, form)
            else:
                await _read(request, caller, form, place)
            yield form
        finally:
            for upload in form.uploads:
                upload.writer.abandon()


def _is_urlencoded(request: Request) -> bool:
    """Tell whether the body is an ordinary form, as older SDKs send one without a file."""
    return media_type(request) == "application/x-www-form-urlencoded"


async def _read_urlencoded(request: Request, form: VoiceForm) -> None:
    body = await read_small_body(request)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise BadRequest(f"The form is not UTF-8 or has more than {_MOST_FIELDS} fields.") from None
    for name, value in pairs:
        form.take(name, value)


async def _read(
    request: Request, caller: Principal, form: VoiceForm, place: AsyncExitStack
) -> None:
    services = services_of(request.scope)
    settings = services.settings
    limits = FormLimits.of(settings)
    waiting = bytearray()
    has_place = False
    async for event in read_form(request.scope, request.receive, limits, {"files"}, VOICE_FORM):
        match event:
            case Field():
                form.take(event.name, event.value)
            case FileStart():
                if not has_place:
                    await place.enter_async_context(services.accounts.leases.acquire(caller))
                    has_place = True
                if len(form.uploads) >= settings.max_voice_files:
                    raise InvalidParameters(
                        f"A voice may have at most {settings.max_voice_files} recordings; "
                        "more were sent.",
                        param="files",
                    )
                form.uploads.append(Upload(event.filename, services.voices.receive()))
            case FileData():
                waiting += event.data
                if len(waiting) >= _WRITE_SIZE:
                    await _write(form.uploads[-1].writer, waiting)
            case FileEnd():
                await _write(form.uploads[-1].writer, waiting)
                # A browser sends an empty part for a file that nobody chose.
                if not form.uploads[-1].file_name and not form.uploads[-1].writer.size:
                    form.uploads.pop().writer.abandon()


async def _write(writer: ObjectWriter, waiting: bytearray) -> None:
    data = bytes(waiting)
    waiting.clear()
    await asyncio.to_thread(writer.write, data)
