"""All live sessions of this process: opened, resumed, charged, kept in the history."""

import asyncio
import contextlib
import logging
import time
from contextlib import AsyncExitStack
from typing import Any

from menura.accounts import Accounts, Lease, Principal
from menura.accounts.credits import Charge, can_run_out, credits_for, seconds_for
from menura.conversion.lanes import Lanes
from menura.errors import InsufficientCredits, MenuraError, NotFound, Unavailable
from menura.history import History, NewItem
from menura.live.chain import LiveRequest
from menura.live.session import LiveSession, Totals
from menura.voices.premade import own_id

GRACE = 30.0
"""Seconds a session waits for its client to come back."""

WATCH_SECONDS = 5.0
"""Seconds between looks at whether key and credits still hold."""

log = logging.getLogger("menura.live")


class LiveService:
    """The sessions by id, and the tasks that see each to its end."""

    def __init__(self, lanes: Lanes, accounts: Accounts, history: History) -> None:
        self._lanes = lanes
        self._accounts = accounts
        self._history = history
        self._sessions: dict[str, LiveSession] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(
        self,
        principal: Principal,
        request: LiveRequest,
        item: NewItem,
        *,
        logged: bool,
    ) -> LiveSession:
        """Start a stream under a lease of the account.

        item: what the history and the statistics are told of it.
        logged: false leaves no history item and no usage record beyond the counted credits.
        Raises InsufficientCredits, ConcurrencyExceeded, SystemBusy.
        """
        async with AsyncExitStack() as stack:
            lease = await stack.enter_async_context(
                self._accounts.leases.acquire(principal, 1, credits_for(WATCH_SECONDS))
            )
            recording = self._history.begin() if logged else None
            if recording is not None:
                stack.callback(recording.abandon)
            seat = self._lanes.seat(request.engine)
            # What is said while a process starts would be late, and dropped.
            seated = asyncio.ensure_future(asyncio.to_thread(seat.lane))
            stack.callback(seated.add_done_callback, lambda _: seat.leave())
            await asyncio.shield(seated)
            session = LiveSession(principal, request, item, seat, recording)
            self._sessions[session.session_id] = session
            self._allow(session, lease)
            holding = stack.pop_all()
        task = asyncio.create_task(self._see_through(session, lease, holding))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return session

    def resume(self, principal: Principal, session_id: str) -> LiveSession:
        """Return a session of the same account that has not ended. Raises NotFound."""
        session = self._sessions.get(session_id)
        if (
            session is None
            or session.given_up
            or session.principal.account_id != principal.account_id
        ):
            raise NotFound(f"There is no live session {session_id[:64]!r}; it may have ended.")
        return session

    def detach(self, session: LiveSession, token: object, *, may_return: bool) -> None:
        """Take note that a connection is over. Its session waits `GRACE` seconds for another one if
        the client may return, then ends; so does one whose stream has ended already, since the
        client may not have heard all of it."""

        def give_up() -> None:
            if session.left_by(token):
                session.give_up()
                self._forget_if_over(session)

        if session.detach(token):
            asyncio.get_running_loop().call_later(GRACE if may_return else 0.0, give_up)

    async def close(self) -> None:
        """End every session, keeping what was converted."""
        for session in tuple(self._sessions.values()):
            session.worker.end()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _see_through(
        self, session: LiveSession, lease: Lease, holding: AsyncExitStack
    ) -> None:
        started = time.monotonic()
        try:
            async with holding:
                await self._watch(session, lease)
                try:
                    totals = await self._settle(session, lease, started)
                except Exception as error:
                    log.exception("A live stream could not be stored.")
                    session.ended.set_exception(error)
                    session.ended.exception()
                else:
                    session.ended.set_result(totals)
        finally:
            self._forget_if_over(session)

    def _forget_if_over(self, session: LiveSession) -> None:
        if session.given_up and session.ended.done():
            self._sessions.pop(session.session_id, None)

    async def _settle(self, session: LiveSession, lease: Lease, started: float) -> Totals:
        failure = session.computed.exception()
        ours = failure is not None and getattr(failure, "http", 500) >= 500
        if ours and not isinstance(failure, MenuraError):
            log.error("A live stream failed.", exc_info=failure)
        stats = session.worker.stats()
        # A failure of the server costs nothing.
        paid_for = 0.0 if ours else stats.seconds_out
        cost = await self._cost(session, lease, paid_for) if paid_for else 0
        history_item_id = None
        if cost:
            charge = Charge(
                session.principal,
                session.item.request_id,
                cost,
                stats.seconds_out,
                "speech_to_speech",
                model_id=session.item.model_id,
                voice_id=own_id(session.item.voice_id),
                voice_name=session.item.voice_name,
                duration=round(1000 * (time.monotonic() - started)),
                record=session.recording is not None,
                lease_id=lease.lease_id,
            )
            if session.recording is not None and not session.unkept and failure is None:
                try:
                    row = await self._history.commit(session.recording, session.item, charge)
                    history_item_id = row.history_item_id
                except (OSError, Unavailable):
                    log.exception("The audio of a live stream could not be stored.")
            if history_item_id is None:
                await self._accounts.credits.charge(charge)
        return Totals(
            stats.seconds_in, stats.seconds_out, stats.dropped / 1000, cost, history_item_id
        )

    async def _cost(self, session: LiveSession, lease: Lease, seconds: float) -> int:
        """Return what a stream costs, as far as it can be paid: more may have been made since
        `_watch` looked last than there are credits left."""
        cost = credits_for(seconds)
        if cost > lease.reserved:
            with contextlib.suppress(InsufficientCredits):
                await self._accounts.leases.reserve(
                    session.principal, lease, lease.reserved + 1, cost
                )
        return min(cost, lease.reserved)

    def _allow(self, session: LiveSession, lease: Lease) -> None:
        """Let a stream make what its lease pays."""
        if can_run_out(session.principal):
            session.worker.allow(seconds_for(lease.reserved))

    async def _watch(self, session: LiveSession, lease: Lease) -> None:
        """Wait for the end of a stream, and bring it when the key or its credits no longer hold."""
        while not session.computed.done():
            held = asyncio.ensure_future(session.held.wait())
            news: set[asyncio.Future[Any]] = {session.computed, held}
            await asyncio.wait(news, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            held.cancel()
            if session.computed.done():
                return
            made = session.worker.chain.seconds
            ahead = credits_for(made + WATCH_SECONDS)
            # Input faster than real time goes on until no credit is left; in real time a stream
            # ends while there is still enough for what is being said.
            needed = lease.reserved + 1 if session.held.is_set() else ahead
            session.held.clear()
            try:
                await self._accounts.keys.recheck(session.principal, "speech_to_speech")
                await self._accounts.leases.reserve(session.principal, lease, needed, ahead)
                self._allow(session, lease)
            except Unavailable:
                # What keeps us from looking is no reason to end a conversation.
                log.warning("The key of a live stream could not be looked at.")
            except MenuraError as error:
                session.fail(error)
                await asyncio.wait({session.computed})
            except Exception:
                log.exception("The key of a live stream could not be looked at.")
