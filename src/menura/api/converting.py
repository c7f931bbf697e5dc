"""One voice change over HTTP, from the request's first byte to the answer's last.

The upload is decoded and analysed while it arrives. Once the form is complete, the request is
checked in a fixed order: schema, voice, model, voice settings, zero retention, output format,
size and audio, credits, concurrency. Only then the head is sent, with everything a client may
want to know; what goes wrong later breaks the connection.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from menura.accounts import Charge, credits_for
from menura.api.auth import principal_of, services_of
from menura.api.exchange import Answer, Exchange
from menura.api.multipart import (
    ClientGone,
    Event,
    Field,
    FileData,
    FileEnd,
    FileStart,
    FormLimits,
    read_form,
)
from menura.api.values import boolean, choice, integer, query_boolean, query_of, repeated
from menura.audio.decode import FILE_FORMATS
from menura.audio.formats import (
    DEFAULT_FORMAT,
    FORMATS,
    STREAM_FORMATS,
    OutputFormat,
    find_format,
)
from menura.conversion.job import Cancelled, Job
from menura.conversion.request import ConversionRequest, SourcePlan
from menura.conversion.spool import SpoolAborted
from menura.engine.interface import LATENCY_PROFILES, Engine, LatencyProfile
from menura.engine.registry import engine_for
from menura.errors import (
    FeatureNotAvailable,
    MenuraError,
    OutputFormatNotAllowed,
    RequestTooLarge,
    SchemaViolation,
)
from menura.history import NewItem, Recording
from menura.services import Services
from menura.voices.settings import parse_voice_settings
from menura.voices.voice import Voice

MAX_SEED = 4_294_967_295
PRODUCT = "speech_to_speech"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """The query of a request, every value decided."""

    output_format: OutputFormat
    enable_logging: bool
    latency: LatencyProfile
    duplex: bool

    @classmethod
    def of(cls, scope: Scope, streaming: bool) -> "Query":
        """Read the query. Raises SchemaViolation."""
        names = {"output_format", "enable_logging", "optimize_streaming_latency"}
        query = query_of(scope, names | {"duplex"} if streaming else names)
        offered = [known.name for known in (STREAM_FORMATS if streaming else FORMATS)]
        name = choice(
            ("query", "output_format"), query.get("output_format", DEFAULT_FORMAT), offered
        )
        output_format = find_format(name)
        assert output_format is not None
        latency = query.get("optimize_streaming_latency", "0")
        return cls(
            output_format=output_format,
            enable_logging=query_boolean(query, "enable_logging", True),
            latency=LATENCY_PROFILES[
                integer(("query", "optimize_streaming_latency"), latency, 0, 4)
            ],
            duplex=query_boolean(query, "duplex", False),
        )


class Form:
    """The text fields of a request, checked as they arrive."""

    NAMES = ("model_id", "voice_settings", "seed", "remove_background_noise", "file_format")

    def __init__(self) -> None:
        self._given: set[str] = set()
        self.model_id: str | None = None
        self.voice_settings: str | None = None
        self.seed: int | None = None
        self.denoise = False
        self.file_format = FILE_FORMATS[0]

    def take(self, field: Field) -> None:
        """Take a field; unknown and empty ones are ignored. Raises SchemaViolation."""
        if field.name not in self.NAMES or not field.value.strip():
            return
        location = ("body", field.name)
        if field.name in self._given:
            raise repeated(location)
        self._given.add(field.name)
        match field.name:
            case "model_id":
                self.model_id = field.value.strip()
            case "voice_settings":
                self.voice_settings = field.value
            case "seed":
                self.seed = integer(location, field.value, 0, MAX_SEED)
            case "remove_background_noise":
                self.denoise = boolean(location, field.value)
            case "file_format":
                self.file_format = choice(location, field.value, FILE_FORMATS)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request turned out to ask for."""

    voice: Voice
    model_id: str
    request: ConversionRequest


class Conversion:
    """One request, from its first byte to the last byte of its answer."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, voice_id: str, streaming: bool
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._services: Services = services_of(scope)
        self._principal = principal_of(scope)
        self._request_id: str = scope["state"]["request_id"]
        self._voice_id = voice_id
        self._streaming = streaming
        self._query = Query.of(scope, streaming)
        self._form = Form()
        self._job: Job | None = None
        self._too_large: RequestTooLarge | None = None
        self._exchange = Exchange(receive, send, self._services.settings.answer_stall_timeout)
        self._began = time.monotonic()
        self._uploaded = self._began
        self._first_byte: int | None = None

    async def run(self) -> None:
        """Serve the request. Raises MenuraError before the head is sent."""
        voice = asyncio.create_task(self._find_voice())
        events = read_form(
            self._scope,
            self._receive,
            FormLimits.of(self._services.settings),
            {"audio"},
        )
        try:
            if self._query.duplex:
                await self._duplex(events, voice)
            else:
                await self._after_upload(events, voice)
        except ClientGone:
            raise ClientDisconnect from None
        except Cancelled:
            if not self._exchange.started:
                raise
        except Exception:
            if not self._exchange.started:
                raise
            # Returning with the answer unfinished makes the server cut the connection.
            log.warning("An answer broke off (request %s).", self._request_id, exc_info=True)
        finally:
            if self._job is not None:
                self._job.cancel()
            await self._exchange.close()
            voice.cancel()
            await asyncio.wait({voice})
            if not voice.cancelled():
                voice.exception()

    async def _find_voice(self) -> Voice:
        return await self._services.voices.get(self._principal.account_id, self._voice_id)

    async def _after_upload(self, events: AsyncIterator[Event], voice: asyncio.Task[Voice]) -> None:
        """Answer once the whole form is known, fields in any order."""
        try:
            async for event in events:
                self._take(event)
        except RequestTooLarge as error:
            # The order of checks has other refusals first.
            self._too_large = error
        self._uploaded = time.monotonic()
        if self._job is None and self._too_large is None:
            raise SchemaViolation(("body", "audio"), "Field required", "missing")
        decision = await self._decide(voice)
        if self._job is None or self._too_large is not None:
            raise self._too_large or AssertionError
        self._exchange.read()
        self._job.commit(decision.request)
        duration = await self._exchange.unless_gone(asyncio.wrap_future(self._job.measured))
        cost = credits_for(duration.seconds)
        await self._services.accounts.credits.check(self._principal, cost)
        await self._answer(self._job, decision, cost)

    async def _duplex(self, events: AsyncIterator[Event], voice: asyncio.Task[Voice]) -> None:
        """Answer while the audio arrives; every field has come before it."""
        async for event in events:
            if isinstance(event, FileStart):
                break
            self._take(event)
        else:
            raise SchemaViolation(("body", "audio"), "Field required", "missing")
        decision = await self._decide(voice)
        await self._services.accounts.credits.check(self._principal, 1)
        job = self._job = self._start(decision.request.source)
        job.commit(decision.request, measure=False)
        self._uploaded = time.monotonic()
        self._exchange.read(self._rest(events))
        await self._answer(job, decision, None)

    async def _rest(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, Field) and event.name in Form.NAMES:
                raise SchemaViolation(
                    ("body", event.name), "must come before audio when duplex is true", "order"
                )
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Field():
                self._form.take(event)
            case FileStart():
                if self._job is not None:
                    raise repeated(("body", event.name))
                self._job = self._start(self._guess())
            case FileData() if self._job is not None:
                self._job.upload.append(event.data)
            case FileEnd() if self._job is not None:
                self._job.upload.finish()

    def _start(self, plan: SourcePlan) -> Job:
        return self._services.conversion.start(
            plan,
            off_disk=not self._query.enable_logging,
            hold_answer=not self._streaming,
        )

    def _guess(self) -> SourcePlan:
        try:
            engine = self._engine()
        except MenuraError:
            engine = engine_for(self._services.settings.default_model)
        return self._plan(engine)

    def _engine(self) -> Engine:
        return engine_for(self._form.model_id or self._services.settings.default_model)

    def _plan(self, engine: Engine) -> SourcePlan:
        return SourcePlan(
            engine=engine,
            file_format=self._form.file_format,
            denoise=self._form.denoise,
            latency=self._query.latency,
        )

    async def _decide(self, finding: asyncio.Task[Voice]) -> Decision:
        """Make every check that needs no audio, in the contract's order."""
        voice = await finding
        engine = self._engine()
        settings = voice.effective_settings
        if self._form.voice_settings is not None:
            settings = parse_voice_settings(self._form.voice_settings).over(settings)
        tier, tier_name = self._principal.tier, self._principal.tier_name
        if not self._query.enable_logging and not tier.zero_retention:
            raise FeatureNotAvailable(
                f"enable_logging=false (zero retention) is not part of the tier {tier_name}.",
                param="enable_logging",
            )
        output_format = self._query.output_format
        if output_format.name in tier.formats_denied:
            raise OutputFormatNotAllowed(
                f"The output format {output_format.name} is not part of the tier {tier_name}.",
                param="output_format",
            )
        if self._too_large is not None:
            raise self._too_large
        seed = self._form.seed
        request = ConversionRequest(
            source=self._plan(engine),
            voice=await self._services.voices.profile(voice.own_id, engine),
            output_format=output_format,
            settings=settings.decided(),
            seed=secrets.randbelow(MAX_SEED + 1) if seed is None else seed,
        )
        model_id = self._form.model_id or self._services.settings.default_model
        return Decision(voice, model_id, request)

    async def _answer(self, job: Job, decision: Decision, cost: int | None) -> None:
        async with self._services.accounts.leases.acquire(self._principal) as lease:
            self._scope["state"]["lease"] = lease
            recording = self._services.history.begin() if self._query.enable_logging else None
            answer = Answer(job, self._exchange)
            settling = asyncio.create_task(self._settle(job, decision, recording))
            try:
                job.approve(recording.write if recording else None)
                headers = self._headers(decision, cost, recording)
                await self._send_answer(answer, settling, headers)
            except SpoolAborted:
                # The job has failed; settling knows why.
                await settling
                raise
            finally:
                if not job.done.done():
                    job.cancel()
                # What was produced is charged and kept even if this request is cancelled.
                with suppress(Exception):
                    await asyncio.shield(settling)

    async def _send_answer(
        self, answer: Answer, settling: asyncio.Task[None], headers: list[tuple[str, str]]
    ) -> None:
        await answer.begun()
        self._first_byte = round((time.monotonic() - self._uploaded) * 1000)
        headers.append(("tts-latency-ms", str(self._first_byte)))
        if not self._streaming:
            await self._exchange.unless_gone(asyncio.shield(settling))
            headers.append(("content-length", str(answer.size)))
        await self._exchange.start(200, headers)
        while data := await answer.read():
            await self._exchange.body(data)
        # Whoever has read the end finds the history item.
        await asyncio.shield(settling)
        await self._exchange.body(b"", more=False)

    def _headers(
        self, decision: Decision, cost: int | None, recording: Recording | None
    ) -> list[tuple[str, str]]:
        headers = [("content-type", decision.request.output_format.media_type)]
        if cost is not None:
            headers += [("character-cost", str(cost)), ("x-character-count", str(cost))]
        if recording is not None:
            headers.append(("history-item-id", recording.history_item_id))
        return headers

    async def _settle(self, job: Job, decision: Decision, recording: Recording | None) -> None:
        """Charge, and store the history item, once the audio is whole."""
        try:
            produced = await asyncio.wrap_future(job.done)
            charge = self._charge(decision, produced.duration.seconds)
            if recording is None:
                await self._services.accounts.credits.charge(charge)
            else:
                await self._services.history.commit(recording, self._item(decision), charge)
        except Cancelled:
            made = job.rendered_seconds * decision.request.settings.speed
            if made:
                await self._services.accounts.credits.charge(self._charge(decision, made))
            raise
        finally:
            if recording is not None:
                recording.abandon()

    def _charge(self, decision: Decision, seconds: float) -> Charge:
        return Charge(
            principal=self._principal,
            request_id=self._request_id,
            credits=credits_for(seconds),
            seconds=seconds,
            product=PRODUCT,
            model_id=decision.model_id,
            voice_id=decision.voice.voice_id,
            voice_name=decision.voice.name,
            first_byte=self._first_byte,
            duration=round((time.monotonic() - self._began) * 1000),
            record=self._query.enable_logging,
        )

    def _item(self, decision: Decision) -> NewItem:
        request = decision.request
        settings = request.settings
        return NewItem(
            account_id=self._principal.account_id,
            request_id=self._request_id,
            voice_id=decision.voice.voice_id,
            voice_name=decision.voice.name,
            voice_category=decision.voice.category,
            model_id=decision.model_id,
            content_type=request.output_format.media_type,
            output_format=request.output_format.name,
            settings={
                "stability": settings.stability,
                "similarity_boost": settings.similarity_boost,
                "style": settings.style,
                "use_speaker_boost": settings.use_speaker_boost,
                "speed": settings.speed,
            },
        )
