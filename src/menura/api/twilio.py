"""WebSocket `/v1/speech-to-speech/{voice_id}/twilio`: Twilio's media streams, see `docs/live.md`.

Twilio can send neither headers nor a query, so this is the one route that is opened without a key.
The key must come as a parameter of the `start` message; nothing is done before.
"""

import asyncio
import base64
import binascii
import json
import logging
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from menura.accounts import Principal
from menura.api.auth import services_of
from menura.api.live_connection import (
    CLOSE_DONE,
    Connection,
    answer_failure,
    feed,
    in_time_for_hello,
    parse_object,
    pump,
)
from menura.api.live_start import REQUEST_FIELDS, read_start, typed
from menura.api.values import boolean
from menura.errors import (
    BadRequest,
    InvalidAudio,
    InvalidParameters,
    MenuraError,
    MissingApiKey,
    shown,
)
from menura.live.session import LiveSession

FRAME_BYTES = 160
"""20 ms of mu-law at 8 kHz, as Twilio itself sends."""

INBOUND = "inbound"
"""The track that is converted: the caller. The other is what is being said to the caller."""

MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}

HELLO_EVENTS, HELLO_CHARACTERS = 2, 16_384
"""Events, and characters of each, that are read before anybody has shown a key."""

MARK_CHARACTERS = 1_000
"""Of the name of a mark."""

log = logging.getLogger("menura.live")

router = APIRouter()


@router.websocket("/v1/speech-to-speech/{voice_id}/twilio")
@router.websocket("/v1/voice-changer/{voice_id}/twilio")
async def twilio(websocket: WebSocket, voice_id: str) -> None:
    """Convert a phone call."""
    await websocket.accept()
    connection = Connection(websocket)
    start = None
    try:
        start = await _first_start(connection)
        call = await _open(websocket, connection, voice_id, start)
        await call.run()
    except WebSocketDisconnect:
        pass
    except Exception as error:
        if start is not None and isinstance(error, MenuraError):
            # Twilio shows nobody what a stream was told; it names the server's log.
            trace = websocket.scope["state"]["trace_id"]
            log.warning("A phone call was refused (trace %s): %r", trace, error)
        # Twilio takes any event but media, mark and clear for a fault of the protocol.
        await answer_failure(connection, error, event=False)


class Call:
    """One phone call."""

    def __init__(
        self, websocket: WebSocket, connection: Connection, session: LiveSession, stream_sid: str
    ) -> None:
        self._live = services_of(websocket.scope).live
        self._connection = connection
        self._session = session
        self._stream_sid = stream_sid
        self._token = session.attach()
        self._offset = 0

    async def run(self) -> None:
        """Serve until the call ends."""
        try:
            await pump(self._hear, self._speak)
        finally:
            self._live.detach(self._session, self._token, may_return=False)

    async def _hear(self) -> None:
        async for message in self._connection.messages():
            event = parse_object(_text(message))
            kind = event.get("event")
            if kind == "media":
                payload = _payload(event)
                if event["media"].get("track", INBOUND) == INBOUND:
                    await feed(self._session, payload)
            elif kind == "mark":
                self._session.mark(_name_of(event))
            elif kind == "clear":
                self._offset = self._session.produced
                await self._connection.tell(event="clear", streamSid=self._stream_sid)
            elif kind == "stop":
                self._session.worker.end()
            elif kind not in ("connected", "start", "dtmf"):
                raise InvalidParameters(
                    f"Twilio's media streams have no event {shown(kind)}.", param="event"
                )

    async def _speak(self) -> None:
        session = self._session
        while True:
            offset, data = await session.output(self._token, self._offset)
            at = begin = offset - len(data)
            # `clear` may come at any time, also while the output is waited for.
            while (at := max(at, self._offset)) < offset:
                frame = data[at - begin : at - begin + FRAME_BYTES]
                payload = base64.b64encode(frame).decode()
                await self._connection.tell(
                    event="media", streamSid=self._stream_sid, media={"payload": payload}
                )
                at += len(frame)
            self._offset = max(offset, self._offset)
            marks = session.passed(self._offset)
            for name in marks:
                await self._connection.tell(
                    event="mark", streamSid=self._stream_sid, mark={"name": name}
                )
            if not data and not marks:
                break
        await session.computed
        # Whoever waits here may be cancelled, and others wait for the same.
        await asyncio.shield(session.ended)
        await self._connection.close(CLOSE_DONE)


async def _first_start(connection: Connection) -> dict[str, Any]:
    async with in_time_for_hello():
        for _ in range(HELLO_EVENTS):
            text = _text(await connection.receive())
            if len(text) > HELLO_CHARACTERS:
                raise BadRequest(
                    f"A message before the key may have at most {HELLO_CHARACTERS} characters, "
                    f"not {len(text)}."
                )
            event = parse_object(text)
            kind = event.get("event")
            if kind == "start":
                break
            if kind != "connected":
                raise InvalidParameters(
                    f"The event start must come before {shown(kind)}.", param="event"
                )
        else:
            raise InvalidParameters(
                "The event start must follow the first connected.", param="event"
            )
    start = event.get("start")
    if not isinstance(start, dict):
        raise InvalidParameters("The event start must hold an object named start.", param="start")
    return start


async def _open(
    websocket: WebSocket, connection: Connection, voice_id: str, start: dict[str, Any]
) -> Call:
    services = services_of(websocket.scope)
    parameters = start.get("customParameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidParameters("customParameters must be an object.", param="customParameters")
    principal = websocket.scope["state"].get("principal")
    if not isinstance(principal, Principal):
        key = parameters.get("xi-api-key")
        if not isinstance(key, str) or not key:
            raise MissingApiKey("No API key was sent: it belongs in the parameter xi-api-key.")
        host = websocket.client.host if websocket.client else None
        principal = await services.accounts.keys.authenticate(key, host)
    media = start.get("mediaFormat") or {}
    if not isinstance(media, dict) or any(
        media.get(name, value) != value for name, value in MEDIA_FORMAT.items()
    ):
        raise InvalidParameters(
            "mediaFormat must be audio/x-mulaw at 8000 with one channel.", param="mediaFormat"
        )
    wanted = {
        name: _decoded(name, parameters[name]) for name in REQUEST_FIELDS if parameters.get(name)
    }
    request, item, logged = await read_start(
        services,
        principal,
        websocket.scope["state"]["request_id"],
        voice_id,
        {**wanted, "input": {"encoding": "ulaw"}, "output_format": "ulaw_8000"},
    )
    stream_sid = typed(start, "streamSid", str, "")[:64]
    session = await services.live.open(principal, request, item, logged=logged)
    return Call(websocket, connection, session, stream_sid)


def _decoded(name: str, text: Any) -> Any:
    """Return a parameter's value; Twilio sends every one as text."""
    if not isinstance(text, str):
        return text
    if name in ("remove_background_noise", "enable_logging"):
        return boolean(("start", name), text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _text(message: str | bytes) -> str:
    if isinstance(message, bytes):
        raise BadRequest("Twilio's messages are JSON text, this one is binary.")
    return message


def _payload(event: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(event["media"]["payload"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise InvalidAudio(
            "media.payload must be mu-law audio in base64.", param="media.payload"
        ) from None


def _name_of(event: dict[str, Any]) -> str:
    mark = event.get("mark")
    name = mark.get("name") if isinstance(mark, dict) else None
    if not isinstance(name, str) or len(name) > MARK_CHARACTERS:
        raise InvalidParameters(
            f"The event mark must have a name of at most {MARK_CHARACTERS} characters, not "
            f"{shown(name)}.",
            param="mark",
        )
    return name
