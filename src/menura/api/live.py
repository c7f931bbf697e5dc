"""WebSocket `/v1/speech-to-speech/{voice_id}/live`; the protocol is in `docs/live.md`."""

import asyncio
import contextlib
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from menura.api.auth import principal_of, services_of
from menura.api.live_connection import (
    CLOSE_DONE,
    CLOSE_TAKEN_OVER,
    Connection,
    answer_failure,
    feed,
    parse_object,
    pump,
)
from menura.api.live_start import (
    asked_settings,
    live_settings,
    read_start,
    refuse_unknown,
    typed,
)
from menura.engine.interface import SAMPLE_RATE
from menura.errors import InvalidParameters, MenuraError, shown
from menura.live.session import LiveSession

STATS_SECONDS = 1.0
CHANGE_FIELDS = ("type", "voice_id", "voice_settings")

router = APIRouter()


@router.websocket("/v1/speech-to-speech/{voice_id}/live")
@router.websocket("/v1/voice-changer/{voice_id}/live")
async def live(websocket: WebSocket, voice_id: str) -> None:
    """Convert speech while it is being spoken."""
    await websocket.accept()
    connection = Connection(websocket)
    try:
        hello = await connection.first()
        if hello.get("type") == "resume":
            conversation = _resumed(websocket, connection, hello)
        elif hello.get("type") == "start":
            conversation = await _started(websocket, connection, voice_id, hello)
        else:
            raise InvalidParameters(
                f"The first message must be start or resume, not {shown(hello.get('type'))}.",
                param="type",
            )
        await conversation.run()
    except WebSocketDisconnect:
        pass
    except Exception as error:
        await answer_failure(connection, error)


class Conversation:
    """One connection's part in a session."""

    def __init__(
        self,
        websocket: WebSocket,
        connection: Connection,
        session: LiveSession,
        greeting: dict[str, Any],
        offset: int,
    ) -> None:
        self._services = services_of(websocket.scope)
        self._connection = connection
        self._session = session
        self._greeting = greeting
        self._offset = offset
        self._told_all = False
        self._token = session.attach()

    async def run(self) -> None:
        """Serve until the session ends, the client leaves, or another connection takes over."""
        session = self._session
        may_return = False
        try:
            with contextlib.suppress(WebSocketDisconnect):
                await self._connection.tell(**self._greeting)
                await pump(self._hear, self._speak, self._report)
            if not session.listens(self._token):
                await self._connection.close(CLOSE_TAKEN_OVER, "Resumed on another connection.")
            else:
                # What was sent last may have been lost on the way, the end with it.
                may_return = self._told_all or not await self._connection.said_goodbye()
        finally:
            self._services.live.detach(session, self._token, may_return=may_return)

    async def _hear(self) -> None:
        session = self._session
        async for message in self._connection.messages():
            if not session.listens(self._token):
                return
            if isinstance(message, bytes):
                try:
                    await feed(session, message)
                except MenuraError as error:
                    session.fail(error)
                continue
            event = parse_object(message)
            kind = event.get("type")
            if kind == "change":
                await self._change(event)
            elif kind == "end":
                session.worker.end()
            else:
                raise InvalidParameters(f"There is no message of type {shown(kind)}.", param="type")

    async def _change(self, event: dict[str, Any]) -> None:
        session = self._session
        try:
            refuse_unknown(event, CHANGE_FIELDS)
            voice_id = typed(event, "voice_id", str, "") or session.voice_id
            voice = await self._services.voices.get(session.principal.account_id, voice_id)
            profile = await self._services.voices.profile(voice.own_id, session.request.engine)
            asked = asked_settings(event.get("voice_settings")).over(session.asked)
        except MenuraError as error:
            await self._connection.refuse(error, refused="change")
            return
        session.voice_id, session.asked = voice_id, asked
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        session.worker.change(
            profile,
            live_settings(asked, voice.effective_settings),
            lambda: loop.call_soon_threadsafe(changed.set),
        )
        await changed.wait()
        await self._connection.tell(type="changed", voice_id=voice_id)

    async def _speak(self) -> None:
        session = self._session
        while True:
            self._offset, data = await session.output(self._token, self._offset)
            if not data:
                break
            await self._connection.send(data)
        if not session.listens(self._token):
            return
        await session.computed
        # Whoever waits here may be cancelled, and who resumes waits for the same.
        totals = await asyncio.shield(session.ended)
        await self._connection.tell(
            type="ended",
            seconds_in=round(totals.seconds_in, 6),
            seconds_out=round(totals.seconds_out, 6),
            dropped_ms=round(1000 * totals.dropped, 3),
            character_cost=totals.character_cost,
            history_item_id=totals.history_item_id,
        )
        self._told_all = True
        await self._connection.close(CLOSE_DONE)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(STATS_SECONDS)
            stats = self._session.worker.stats()
            await self._connection.tell(
                type="stats",
                processing_ms=round(stats.processing, 3),
                processing_p95_ms=round(stats.processing_p95, 3),
                queue_ms=round(stats.queue, 1),
                rtf=round(stats.rtf, 4),
                input_level_dbfs=round(stats.input_level_dbfs, 1),
                dropped_ms=round(stats.dropped, 1),
                seconds_in=round(stats.seconds_in, 3),
                seconds_out=round(stats.seconds_out, 3),
            )


async def _started(
    websocket: WebSocket, connection: Connection, voice_id: str, hello: dict[str, Any]
) -> Conversation:
    services = services_of(websocket.scope)
    principal = principal_of(websocket.scope)
    request_id = websocket.scope["state"]["request_id"]
    request, item, logged = await read_start(services, principal, request_id, voice_id, hello)
    session = await services.live.open(principal, request, item, logged=logged)
    greeting = {
        "type": "started",
        "session_id": session.session_id,
        "delay_ms": round(1000 * session.worker.chain.delay, 2),
        "chunk_ms": 1000 * request.latency.chunk / SAMPLE_RATE,
        "output_format": request.output_format.name,
        "request_id": request_id,
        "voice_id": voice_id,
    }
    return Conversation(websocket, connection, session, greeting, 0)


def _resumed(websocket: WebSocket, connection: Connection, hello: dict[str, Any]) -> Conversation:
    services = services_of(websocket.scope)
    principal = principal_of(websocket.scope)
    principal.require("speech_to_speech")
    session = services.live.resume(principal, typed(hello, "session_id", str, ""))
    received = hello.get("received")
    if isinstance(received, bool) or not isinstance(received, int):
        raise InvalidParameters("received must be a whole number of bytes.", param="received")
    if not session.oldest <= received <= session.produced:
        raise InvalidParameters(
            f"received must be from {session.oldest} to {session.produced}, the counts from which "
            f"this session can go on, not {received}.",
            param="received",
        )
    greeting = {
        "type": "resumed",
        "session_id": session.session_id,
        "expected": session.received,
        "voice_id": session.voice_id,
    }
    return Conversation(websocket, connection, session, greeting, received)
