"""Leases: how many requests of an account run at once, and the credits they will cost.

    async with accounts.leases.acquire(principal, cost) as lease:
        ...            # lease.current, lease.maximum for the headers

A lease is a row that expires unless its process renews it, so that a crashed process holds neither
place nor credits for longer than `LIFETIME`. All processes on one database share them.
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
from sqlalchemy.ext.asyncio import AsyncSession

from menura.accounts.credits import Credits, affordable, can_run_out
from menura.accounts.principal import Principal
from menura.errors import ConcurrencyExceeded, SystemBusy, TooMany, Unavailable
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


@dataclass(slots=True)
class Lease:
    """A running request's place.

    current, maximum: requests at its start, itself included, and their limit: of the account or of
    the key, whichever is nearer to its own. reserved: credits it holds.
    """

    lease_id: str
    current: int
    maximum: int
    reserved: int


class Leases:
    """The leases of this process, and a view of everybody's."""

    def __init__(self, settings: Settings, database: Database, counters: Credits) -> None:
        self._settings = settings
        self._credits = counters
        self._database = database
        self._process_id = new_id()
        self._running: Counter[str] = Counter()
        self._running_of_key: Counter[str] = Counter()
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
        # Where the database is away they expire.
        with contextlib.suppress(Unavailable):
            async with self._database.writing() as session:
                mine = LeaseRow.process_id == self._process_id
                await session.execute(delete(LeaseRow).where(mine))

    def running(self, account_id: str) -> int:
        """Return how many requests of an account run in this process."""
        return self._running[account_id]

    def load(self, principal: Principal) -> tuple[int, int]:
        """Return how many requests run in this process, and their limit, as in a `Lease`."""
        of_key = self._running_of_key[principal.key_id]
        return _nearer(principal, self.running(principal.account_id), of_key)

    @asynccontextmanager
    async def acquire(
        self, principal: Principal, needed: int = 0, wanted: int = 0
    ) -> AsyncIterator[Lease]:
        """Hold a place, and credits, while the block runs.

        needed, wanted: as in `reserve`. Raises InsufficientCredits. Waits up to `queue_seconds` for
        a place, then raises ConcurrencyExceeded, or SystemBusy when the whole process is at
        `max_streams`.
        """
        lease = await self._wait(principal, needed, max(needed, wanted))
        try:
            yield lease
        finally:
            # A cancelled request must give its place back all the same.
            await asyncio.shield(self._release(principal, lease))

    async def reserve(
        self, principal: Principal, lease: Lease, needed: int, wanted: int = 0
    ) -> None:
        """Have a lease hold `needed` credits in all, unless it does.

        wanted: hold as many up to that as account and key can pay, so that later calls are free.
        Raises InsufficientCredits; the lease then holds what it did.
        """
        if lease.reserved >= needed:
            return
        wanted = max(needed, wanted)
        if not can_run_out(principal):
            lease.reserved = wanted
            return
        async with self._database.writing() as session:
            await self._lock(session, principal)
            # Another task of the same request may have been first.
            if lease.reserved < needed:
                granted = await affordable(session, principal, needed, wanted, lease.lease_id)
                await session.execute(
                    update(LeaseRow)
                    .where(LeaseRow.lease_id == lease.lease_id)
                    .values(reserved=granted)
                )
                lease.reserved = granted

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

    async def _wait(self, principal: Principal, needed: int, wanted: int) -> Lease:
        deadline = time.monotonic() + self._settings.queue_seconds
        while True:
            try:
                return await self._try(principal, needed, wanted)
            except TooMany:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
            async with self._freed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), min(left, POLL))

    async def _try(self, principal: Principal, needed: int, wanted: int) -> Lease:
        if self._running.total() >= self._settings.max_streams:
            # Who cannot pay is told that first, and does not come back for it.
            await self._credits.check(principal, needed)
            raise SystemBusy(
                f"The server already runs {self._settings.max_streams} requests, its limit; "
                "try again soon.",
                retry_after=self._retry_after,
            )
        # Counted before the first await, so that a burst cannot pass the check together.
        self._count(principal, 1)
        try:
            return await self._insert(principal, needed, wanted)
        except BaseException:
            self._count(principal, -1)
            raise

    @property
    def _retry_after(self) -> int:
        return max(1, math.ceil(self._settings.queue_seconds))

    async def _lock(self, session: AsyncSession, principal: Principal) -> None:
        if not self._database.is_sqlite:
            # Whoever holds the account's row counts; SQLite has its one write lock. Charges, which
            # only refer to the account, do not wait: they may hold a lease that is wanted here.
            await session.execute(
                select(Account.account_id)
                .where(Account.account_id == principal.account_id)
                .with_for_update(key_share=True)
            )

    async def _insert(self, principal: Principal, needed: int, wanted: int) -> Lease:
        now = time.time()
        lease_id = new_id()
        async with self._database.writing() as session:
            await self._lock(session, principal)
            granted = await affordable(session, principal, needed, wanted)
            rows = (
                await session.execute(
                    select(LeaseRow.key_id, func.count())
                    .where(LeaseRow.account_id == principal.account_id, LeaseRow.expires_at > now)
                    .group_by(LeaseRow.key_id)
                )
            ).all()
            held = {row[0]: row[1] for row in rows}
            of_account, of_key = sum(held.values()), held.get(principal.key_id, 0)
            if of_account >= principal.tier.concurrency:
                raise ConcurrencyExceeded(
                    f"Too many parallel requests: the tier {principal.tier_name} allows "
                    f"{principal.tier.concurrency}.",
                    retry_after=self._retry_after,
                )
            if principal.key_concurrency is not None and of_key >= principal.key_concurrency:
                raise ConcurrencyExceeded(
                    f"Too many parallel requests: this API key allows {principal.key_concurrency}.",
                    retry_after=self._retry_after,
                )
            session.add(
                LeaseRow(
                    lease_id=lease_id,
                    account_id=principal.account_id,
                    key_id=principal.key_id,
                    process_id=self._process_id,
                    expires_at=now + LIFETIME,
                    reserved=granted,
                )
            )
        self._held.add(lease_id)
        current, maximum = _nearer(principal, of_account + 1, of_key + 1)
        return Lease(lease_id, current, maximum, granted)

    async def _release(self, principal: Principal, lease: Lease) -> None:
        self._held.discard(lease.lease_id)
        try:
            # What ran is done, and must not be called a failure: clients would have it done again.
            # Where the database is away, or full, the row expires.
            with contextlib.suppress(Unavailable):
                async with self._database.writing() as session:
                    mine = LeaseRow.lease_id == lease.lease_id
                    await session.execute(delete(LeaseRow).where(mine))
        finally:
            self._count(principal, -1)
            async with self._freed:
                self._freed.notify_all()

    def _count(self, principal: Principal, change: int) -> None:
        for counter, owner_id in (
            (self._running, principal.account_id),
            (self._running_of_key, principal.key_id),
        ):
            counter[owner_id] += change
            if not counter[owner_id]:
                del counter[owner_id]

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            if not self._held:
                continue
            try:
                await self.renew()
            except Exception:
                log.exception("Leases could not be renewed; trying again.")


def _nearer(principal: Principal, of_account: int, of_key: int) -> tuple[int, int]:
    """Return the count and the limit that leave fewest places, of the key or of the account."""
    account = of_account, principal.tier.concurrency
    if principal.key_concurrency is None:
        return account
    return min((of_key, principal.key_concurrency), account, key=lambda pair: pair[1] - pair[0])
