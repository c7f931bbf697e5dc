"""Concurrency leases: how many requests of an account run at once, over all processes.

    async with accounts.leases.acquire(principal) as lease:
        ...            # lease.current, lease.maximum for the headers

A lease is a row that expires unless its process renews it, so that a crashed process holds none
for longer than `LIFETIME`.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from menura.accounts.principal import Principal
from menura.errors import ConcurrencyExceeded, SystemBusy
from menura.ids import new_id
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.tables import Account, LeaseRow

LIFETIME = 30.0
"""Seconds after which a lease that was not renewed is void."""

HEARTBEAT = 10.0
"""Seconds between renewals."""

POLL = 0.1
"""Seconds between looks at the leases of other processes while waiting."""

log = logging.getLogger("menura.accounts")


@dataclass(frozen=True, slots=True)
class Lease:
    """A running request's place. current: requests of the account, this one included."""

    lease_id: str
    current: int
    maximum: int


class Leases:
    """The leases of this process, and a view of everybody's."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._process_id = new_id()
        self._running: Counter[str] = Counter()
        self._held: set[str] = set()
        self._freed = asyncio.Condition()
        self._heartbeat: asyncio.Task[None] | None = None

    async def open(self, *, alone: bool) -> None:
        """Start renewing. alone: no other process lives, so every lease found is a dead one's."""
        async with self._database.writing() as session:
            dead = delete(LeaseRow)
            await session.execute(dead if alone else dead.where(LeaseRow.expires_at <= time.time()))
        self._heartbeat = asyncio.create_task(self._renew_for_ever(), name="lease renewal")

    async def close(self) -> None:
        """Stop renewing and give up what this process still holds."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heartbeat
        async with self._database.writing() as session:
            await session.execute(delete(LeaseRow).where(LeaseRow.process_id == self._process_id))

    def running(self, account_id: str) -> int:
        """Return how many requests of an account run in this process."""
        return self._running[account_id]

    @asynccontextmanager
    async def acquire(self, principal: Principal) -> AsyncIterator[Lease]:
        """Hold a place while the block runs.

        Waits up to `queue_seconds` for one, then raises ConcurrencyExceeded, or SystemBusy when
        the whole process is at `max_streams`.
        """
        lease = await self._wait(principal)
        try:
            yield lease
        finally:
            # A cancelled request must give its place back all the same.
            await asyncio.shield(self._release(principal, lease))

    async def renew(self) -> None:
        """Prolong every lease that a request of this process holds, and remove void ones.

        By name, not by process: a row whose request was cancelled while it was being inserted
        has no holder and must expire.
        """
        now = time.time()
        async with self._database.writing() as session:
            await session.execute(
                update(LeaseRow)
                .where(LeaseRow.lease_id.in_(self._held))
                .values(expires_at=now + LIFETIME)
            )
            await session.execute(delete(LeaseRow).where(LeaseRow.expires_at <= now))

    async def _wait(self, principal: Principal) -> Lease:
        deadline = time.monotonic() + self._settings.queue_seconds
        while True:
            busy = self._running.total() >= self._settings.max_streams
            if not busy:
                # Counted before the first await, so that a burst cannot pass the check together.
                self._running[principal.account_id] += 1
                try:
                    lease = await self._try(principal)
                except BaseException:
                    self._forget(principal)
                    raise
                if lease is not None:
                    return lease
                self._forget(principal)
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._refusal(principal, busy)
            async with self._freed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), min(left, POLL))

    def _refusal(self, principal: Principal, busy: bool) -> ConcurrencyExceeded | SystemBusy:
        retry_after = max(1, math.ceil(self._settings.queue_seconds))
        if busy:
            return SystemBusy(
                f"The server is at its limit of {self._settings.max_streams} parallel requests.",
                retry_after=retry_after,
            )
        return ConcurrencyExceeded(
            f"Too many parallel requests: the tier {principal.tier_name} allows "
            f"{_limit(principal)}.",
            retry_after=retry_after,
        )

    async def _try(self, principal: Principal) -> Lease | None:
        now = time.time()
        lease_id = new_id()
        async with self._database.writing() as session:
            if not self._database.is_sqlite:
                # Whoever holds the account's row counts; SQLite has its one write lock.
                await session.execute(
                    select(Account.account_id)
                    .where(Account.account_id == principal.account_id)
                    .with_for_update()
                )
            rows = (
                await session.execute(
                    select(LeaseRow.key_id, func.count())
                    .where(LeaseRow.account_id == principal.account_id, LeaseRow.expires_at > now)
                    .group_by(LeaseRow.key_id)
                )
            ).all()
            held = {row[0]: row[1] for row in rows}
            current = sum(held.values())
            if current >= principal.concurrency:
                return None
            if (
                principal.key_concurrency is not None
                and held.get(principal.key_id, 0) >= principal.key_concurrency
            ):
                return None
            session.add(
                LeaseRow(
                    lease_id=lease_id,
                    account_id=principal.account_id,
                    key_id=principal.key_id,
                    process_id=self._process_id,
                    expires_at=now + LIFETIME,
                )
            )
        self._held.add(lease_id)
        return Lease(lease_id, current + 1, _limit(principal))

    async def _release(self, principal: Principal, lease: Lease) -> None:
        self._held.discard(lease.lease_id)
        try:
            async with self._database.writing() as session:
                await session.execute(delete(LeaseRow).where(LeaseRow.lease_id == lease.lease_id))
        finally:
            self._forget(principal)
            async with self._freed:
                self._freed.notify_all()

    def _forget(self, principal: Principal) -> None:
        self._running[principal.account_id] -= 1
        if not self._running[principal.account_id]:
            del self._running[principal.account_id]

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            if not self._held:
                continue
            try:
                await self.renew()
            except Exception:
                log.exception("Leases could not be renewed; trying again.")


def _limit(principal: Principal) -> int:
    if principal.key_concurrency is None:
        return principal.concurrency
    return min(principal.concurrency, principal.key_concurrency)
