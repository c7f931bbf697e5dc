"""One upload turned into one answer of audio, from the request's first byte to the last byte sent.

The upload is decoded and analysed while it arrives. Once the form is complete, the request is
checked in a fixed order: schema, then what `_decide` checks, size and audio, credits, concurrency.
Only then is the head sent, with everything a client may want to know. What goes wrong later breaks
the connection.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from menura.accounts import Charge, Lease, credits_for
from menura.accounts.credits import AHEAD, Product
from menura.api.auth import principal_of, services_of
from menura.api.errors import shutting_down
from menura.api.exchange import AnswerReader, Exchange
from menura.api.multipart import (
    Event,
    Field,
    FileData,
    FileEnd,
    FileStart,
    FormLimits,
    read_form,
)
from menura.api.values import missing, repeated
from menura.conversion.job import Cancelled, Job
from menura.conversion.request import ConversionRequest, DurationLimits, SourcePlan
from menura.conversion.spool import SpoolAborted
from menura.errors import (
    InsufficientCredits,
    MenuraError,
    RequestTooLarge,
    SchemaViolation,
    TooMany,
)
from menura.history import NewItem, Recording
from menura.voices.premade import own_id

INTAKE_POLL = 0.05
"""Seconds between attempts to be taken in."""

ROUNDING = 0.001
"""Seconds by which the audio made may seem longer than the source."""

WHOLE_SECONDS = 30.0
"""How long an answer that is to be sent whole is waited for: then it is sent as it is made, since
clients and proxies give up where nothing comes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request turned out to ask for.

    product: for the usage statistics. item: for them and for the history; None for what has
    neither model nor voice, and is not kept.
    """

    request: ConversionRequest
    product: Product
    item: NewItem | None = None


class Converting(ABC):
    """One request. Subclasses know its fields and what they mean.

    streaming: send the answer while it is made, else when it is whole or WHOLE_SECONDS are over.
    duplex: even before the upload is complete. off_disk: leave no trace of it anywhere.
    """

    fields: frozenset[str]

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        form_limits: FormLimits,
        durations: DurationLimits,
        streaming: bool,
        duplex: bool = False,
        off_disk: bool = False,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._services = services_of(scope)
        self._principal = principal_of(scope)
        self._request_id: str = scope["state"]["request_id"]
        self._form_limits = form_limits
        self._durations = durations
        self._streaming = streaming
        self._is_duplex = duplex
        self._off_disk = off_disk
        self._job: Job | None = None
        self._too_large: RequestTooLarge | None = None
        self._exchange = Exchange(receive, send, self._services.settings.answer_stall_timeout)
        self._began = time.monotonic()
        self._uploaded = self._began
        self._first_byte: int | None = None

    @abstractmethod
    def _take_field(self, field: Field) -> None:
        """Take one of `fields` that has a value. Raises SchemaViolation."""

    @abstractmethod
    def _guess(self) -> SourcePlan:
        """Return the likeliest plan from the fields so far. Raises nothing."""

    @abstractmethod
    async def _decide(self) -> Decision:
        """Make every check that needs no audio. Raises MenuraError."""

    async def run(self) -> None:
        """Serve the request. Raises MenuraError before the head is sent."""
        events = read_form(self._scope, self._receive, self._form_limits, {"audio"}, self.fields)
        try:
            if self._is_duplex:
                await self._while_uploading(events)
            else:
                await self._after_upload(events)
        except ClientDisconnect:
            raise
        except Exception as error:
            trace_id = self._scope["state"]["trace_id"]
            if not self._exchange.started:
                if isinstance(error, Cancelled):
                    raise shutting_down() from None
                if isinstance(error, MenuraError) and error.http == 500:
                    # The job's thread told the cause, but knows of no request.
                    log.error("A conversion failed (trace %s).", trace_id)
                raise
            # Returning with the answer unfinished makes the server cut the connection.
            log.warning("An answer broke off (trace %s): %r", trace_id, error)
        finally:
            if self._job is not None:
                self._job.cancel()
            await self._exchange.close()
            await events.aclose()

    async def _after_upload(self, events: AsyncIterator[Event]) -> None:
        """Answer once the whole form is known, fields in any order."""
        try:
            async for event in events:
                await self._take(event)
        except RequestTooLarge as error:
            # The order of checks has other refusals first.
            self._too_large = error
        self._uploaded = time.monotonic()
        if self._job is None and self._too_large is None:
            raise missing(("body", "audio"))
        decision = await self._decide()
        if self._job is None or self._too_large is not None:
            raise self._too_large or missing(("body", "audio"))
        self._exchange.read()
        self._job.commit(decision.request)
        duration = await self._exchange.unless_gone(asyncio.wrap_future(self._job.measured))
        await self._answer(self._job, decision, credits_for(duration.seconds))

    async def _while_uploading(self, events: AsyncIterator[Event]) -> None:
        """Answer while the audio arrives; every field has come before it."""
        async for event in events:
            if isinstance(event, FileStart):
                break
            await self._take(event)
        else:
            raise missing(("body", "audio"))
        decision = await self._decide()
        job = self._job = await self._start(decision.request.source)
        job.commit(decision.request, measure=False)
        self._uploaded = time.monotonic()
        self._exchange.read(self._rest(events))
        await self._answer(job, decision, None)

    async def _rest(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, Field):
                raise SchemaViolation(
                    ("body", event.name),
                    "this field must come before audio when duplex is true",
                    "order",
                )
            await self._take(event)

    async def _take(self, event: Event) -> None:
        match event:
            case Field():
                if event.value.strip():
                    self._take_field(event)
            case FileStart():
                if self._job is not None:
                    raise repeated(("body", event.name))
                self._job = await self._start(self._guess())
            case FileData() if self._job is not None:
                self._job.upload.append(event.data)
            case FileEnd() if self._job is not None:
                self._job.upload.finish()

    async def _start(self, plan: SourcePlan) -> Job:
        """Start the job; over a limit, wait for that with the upload unread. Raises TooMany."""
        deadline = time.monotonic() + self._services.settings.queue_seconds
        while True:
            try:
                return self._services.conversion.start(
                    plan,
                    limits=self._durations,
                    owner=self._principal.account_id,
                    concurrency=self._principal.tier.concurrency,
                    off_disk=self._off_disk,
                    hold_answer=not self._streaming,
                )
            except TooMany:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
            await asyncio.sleep(min(left, INTAKE_POLL))

    async def _answer(self, job: Job, decision: Decision, cost: int | None) -> None:
        leases = self._services.accounts.leases
        needed, wanted = (1, AHEAD) if cost is None else (cost, cost)
        async with leases.acquire(self._principal, needed, wanted) as lease:
            self._scope["state"]["lease"] = lease
            kept = decision.item is not None and not self._off_disk
            recording = self._services.history.begin() if kept else None
            answer = AnswerReader(job, self._exchange)
            settling = asyncio.create_task(self._settle(job, decision, recording, lease))
            try:
                job.approve(recording.write if recording else None)
                headers = _headers(decision, cost, recording)

                async def pay() -> None:
                    # Settling pays to the last sample, which may have been rounded up here.
                    await self._reserve(lease, _made(job, decision) - ROUNDING)

                await self._send_answer(answer, settling, headers, pay)
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
        self,
        answer: AnswerReader,
        settling: asyncio.Task[None],
        headers: list[tuple[str, str]],
        pay: Callable[[], Awaitable[None]],
    ) -> None:
        await answer.begun()
        await pay()
        if not self._streaming:
            waiting = asyncio.wait({settling}, timeout=WHOLE_SECONDS)
            await self._exchange.unless_gone(waiting)
            if settling.done():
                await settling
                headers.append(("content-length", str(answer.size)))
        headers.append(("tts-latency-ms", str(self._milliseconds_to_first_byte())))
        await self._exchange.start(200, headers)
        while data := await answer.read():
            await pay()
            await self._exchange.body(data)
            # What has been made already is sent without a wait: let a client that goes be heard.
            await asyncio.sleep(0)
        # Whoever has read the end finds the history item.
        await asyncio.shield(settling)
        await self._exchange.body(b"", more=False)

    def _milliseconds_to_first_byte(self) -> int:
        """Return the time from the end of the upload until the answer began, told once."""
        if self._first_byte is None:
            self._first_byte = round((time.monotonic() - self._uploaded) * 1000)
        return self._first_byte

    async def _reserve(self, lease: Lease, seconds: float) -> None:
        """Hold credits for so much audio of an upload that was not measured before the answer."""
        if self._is_duplex:
            cost = credits_for(seconds)
            leases = self._services.accounts.leases
            await leases.reserve(self._principal, lease, cost, cost + AHEAD)

    async def _settle(
        self, job: Job, decision: Decision, recording: Recording | None, lease: Lease
    ) -> None:
        """Charge, and store the history item, once the audio is whole."""
        accounts = self._services.accounts
        try:
            produced = await asyncio.wrap_future(job.done)
            self._milliseconds_to_first_byte()
            await self._reserve(lease, produced.duration.seconds)
            charge = self._charge(decision, produced.duration.seconds, lease)
            if recording is not None and decision.item is not None:
                await self._services.history.commit(recording, decision.item, charge)
            else:
                await accounts.credits.charge(charge)
        except Exception as error:
            # What the client has heard is paid, unless it ended by a failure of ours.
            refused = isinstance(error, MenuraError) and error.http < 500 and self._exchange.started
            # By the client that left, or by a shutdown after it had a part; before that it is free.
            stopped = isinstance(error, Cancelled) and (
                self._exchange.started or self._exchange.over
            )
            if refused or stopped or isinstance(error, InsufficientCredits):
                await self._charge_part(_made(job, decision), decision, lease)
            raise
        finally:
            if recording is not None:
                recording.abandon()

    async def _charge_part(self, made: float, decision: Decision, lease: Lease) -> None:
        """Charge what was made of an answer that broke off, as far as it can be paid."""
        try:
            await self._reserve(lease, made)
        except InsufficientCredits:
            if not self._exchange.started:
                # The client is told so and gets nothing.
                return
        if made:
            await self._services.accounts.credits.charge(self._charge(decision, made, lease))

    def _charge(self, decision: Decision, seconds: float, lease: Lease) -> Charge:
        """Return what so much audio costs, which is never more than was reserved."""
        item = decision.item
        return Charge(
            principal=self._principal,
            request_id=self._request_id,
            credits=min(credits_for(seconds), lease.reserved),
            seconds=seconds,
            product=decision.product,
            model_id=item.model_id if item else None,
            voice_id=own_id(item.voice_id) if item else None,
            voice_name=item.voice_name if item else None,
            first_byte=self._first_byte,
            duration=round((time.monotonic() - self._began) * 1000),
            record=not self._off_disk,
            lease_id=lease.lease_id,
        )


class ConvertingResponse(Response):
    """A route's answer that serves the whole exchange itself, since nothing is known beforehand.

    opening: makes the request out of the connection.
    """

    def __init__(self, opening: Callable[[Scope, Receive, Send], Converting]) -> None:
        super().__init__()
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._opening(scope, receive, send).run()


def _made(job: Job, decision: Decision) -> float:
    """Return the seconds of the source that are in the answer so far."""
    return job.rendered_seconds * decision.request.settings.speed


def _headers(
    decision: Decision, cost: int | None, recording: Recording | None
) -> list[tuple[str, str]]:
    headers = [("content-type", decision.request.output_format.media_type)]
    if cost is not None:
        headers += [("character-cost", str(cost)), ("x-character-count", str(cost))]
    if recording is not None:
        headers.append(("history-item-id", recording.history_item_id))
    return headers
