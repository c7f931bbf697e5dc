"""Credits: 1,000 a minute of audio, counted per calendar month (UTC), charged once a request.

A request reserves what it will cost together with its lease, so that requests which run at once
cannot spend the same credits, and charges it when its audio is whole:

    async with accounts.leases.acquire(principal, credits_for(seconds)) as lease:
        ...
        await accounts.credits.charge(Charge(principal, request_id, cost, ..., lease.lease_id))
"""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from menura.accounts.principal import Principal
from menura.errors import InsufficientCredits
from menura.settings import UNLIMITED
from menura.storage.database import Database
from menura.storage.tables import CountedCredits, LeaseRow, UsageRecord

CREDITS_PER_MINUTE = 1000
REMEMBERED = 10_000
"""Requests without a usage record that are remembered so as not to be charged twice."""


def credits_for(seconds: float) -> int:
    """Return what audio of this length costs: 1,000 a minute, rounded up, at least 1."""
    # 1e-9 keeps the error of binary fractions from costing a credit: 20 s are 334, 60 s 1,000.
    return max(1, math.ceil(seconds * CREDITS_PER_MINUTE / 60 - 1e-9))


def seconds_for(cost: int) -> float:
    """Return how much audio so many credits pay."""
    return cost * 60 / CREDITS_PER_MINUTE


AHEAD = credits_for(5.0)
"""Credits that a stream of unknown length reserves beyond what it has made, or all that are left if
those are fewer. So it writes to the database seldom, and who began first may finish."""


LONGEST_DURATION = 2**31 - 1
"""Milliseconds, 24 days, that the statistics keep of a request: PostgreSQL's column holds no more,
and a live stream may go on for longer."""


Product = Literal["speech_to_speech", "audio_isolation"]
"""What a request can be for, as the usage statistics call it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request costs, and what the usage statistics learn about it.

    seconds: of audio produced. first_byte, duration: milliseconds. voice_id: the voice's own, by
    whichever it was asked for, so that it is one voice in the statistics.
    record: false under zero retention; then only the credits are counted.
    lease_id: what has reserved them until now.
    """

    principal: Principal
    request_id: str
    credits: int
    seconds: float
    product: Product
    model_id: str | None = None
    voice_id: str | None = None
    voice_name: str | None = None
    first_byte: int | None = None
    duration: int | None = None
    record: bool = True
    lease_id: str | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """The account's counter around a charge."""

    before: int
    after: int


def month_of(moment: float) -> str:
    """Return the month a moment (Unix seconds) is counted in, `YYYY-MM`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m")


def next_reset(moment: float) -> int:
    """Return when the month of a moment ends, in Unix seconds."""
    day = datetime.fromtimestamp(moment, UTC)
    year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


class Credits:
    """The counters of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unrecorded: OrderedDict[str, Charged] = OrderedDict()

    async def used(self, owner_id: str) -> int:
        """Return the credits an account or a key has used this month."""
        async with self._database.reading() as session:
            return await _used(session, owner_id, month_of(time.time()))

    async def check(self, principal: Principal, needed: int) -> None:
        """Raise InsufficientCredits unless account and key can still pay `needed`."""
        async with self._database.reading() as session:
            await affordable(session, principal, needed, needed)

    async def charge(self, charge: Charge) -> Charged:
        """Charge a request. A second charge of the same request changes nothing."""
        async with self._database.writing() as session:
            charged = await self.charge_within(session, charge)
        self._remember(charge, charged)
        return charged

    async def charge_within(self, session: AsyncSession, charge: Charge) -> Charged:
        """Charge a request as part of the caller's writing session."""
        month = month_of(time.time())
        account_id = charge.principal.account_id
        if charge.request_id in self._unrecorded:
            return self._unrecorded[charge.request_id]
        if await session.get(UsageRecord, charge.request_id) is not None:
            used = await _used(session, account_id, month)
            return Charged(used, used)
        after = await _add(session, account_id, month, charge.credits)
        await _add(session, charge.principal.key_id, month, charge.credits)
        if charge.lease_id is not None:
            # Together with the charge: no request at any moment finds the credits twice, or free.
            await session.execute(
                update(LeaseRow).where(LeaseRow.lease_id == charge.lease_id).values(reserved=0)
            )
        if charge.record:
            session.add(
                UsageRecord(
                    request_id=charge.request_id,
                    account_id=account_id,
                    key_id=charge.principal.key_id,
                    at=int(time.time() * 1000),
                    credits=charge.credits,
                    seconds=charge.seconds,
                    product=charge.product,
                    model_id=charge.model_id,
                    voice_id=charge.voice_id,
                    voice_name=charge.voice_name,
                    first_byte=charge.first_byte,
                    duration=None
                    if charge.duration is None
                    else min(charge.duration, LONGEST_DURATION),
                )
            )
            await session.flush()
        return Charged(after - charge.credits, after)

    def _remember(self, charge: Charge, charged: Charged) -> None:
        if charge.record:
            return
        self._unrecorded[charge.request_id] = charged
        if len(self._unrecorded) > REMEMBERED:
            self._unrecorded.popitem(last=False)


def can_run_out(principal: Principal) -> bool:
    """Tell whether account or key can run out of credits."""
    return bool(_limits(principal))


async def affordable(
    session: AsyncSession, principal: Principal, needed: int, wanted: int, besides: str = ""
) -> int:
    """Return how many of `wanted` credits account and key can pay, next to all that run.

    besides: the lease that asks; what it reserves itself does not count. Raises
    InsufficientCredits when they are fewer than `needed`.
    """
    now = time.time()
    running = (
        select(func.coalesce(func.sum(LeaseRow.reserved), 0))
        .where(LeaseRow.account_id == principal.account_id, LeaseRow.expires_at > now)
        .where(LeaseRow.lease_id != besides)
    )
    for owner, owner_id, limit, column in _limits(principal):
        # One statement sees one moment, where two could miss what is charged in between.
        used = _counted(owner_id, month_of(now)).scalar_subquery()
        held = running.where(column == owner_id).scalar_subquery()
        found = (await session.execute(select(used, held))).one()
        reserved = int(found[1])
        left = max(0, limit - (found[0] or 0) - reserved)
        if needed > left:
            others = f" Running requests hold {reserved} more." if reserved else ""
            raise InsufficientCredits(
                f"This request exceeds the quota of this {owner}: {limit} credits a month, "
                f"{left} left, {needed} needed.{others}"
            )
        wanted = min(wanted, left)
    return wanted


def _limits(principal: Principal) -> list[tuple[str, str, int, InstrumentedAttribute[str]]]:
    limits = (
        ("account", principal.account_id, principal.tier.credits, LeaseRow.account_id),
        ("API key", principal.key_id, principal.character_limit, LeaseRow.key_id),
    )
    return [
        (owner, owner_id, limit, column)
        for owner, owner_id, limit, column in limits
        if limit is not None and limit < UNLIMITED
    ]


def _counted(owner_id: str, month: str) -> Select[int]:
    return select(CountedCredits.used).where(
        CountedCredits.owner_id == owner_id, CountedCredits.month == month
    )


async def _used(session: AsyncSession, owner_id: str, month: str) -> int:
    return await session.scalar(_counted(owner_id, month)) or 0


async def _add(session: AsyncSession, owner_id: str, month: str, amount: int) -> int:
    """Count credits and return the counter's new value."""
    adding = (
        update(CountedCredits)
        .where(CountedCredits.owner_id == owner_id, CountedCredits.month == month)
        .values(used=CountedCredits.used + amount)
        .returning(CountedCredits.used)
    )
    used = await session.scalar(adding)
    if used is not None:
        return used
    try:
        async with session.begin_nested():
            session.add(CountedCredits(owner_id=owner_id, month=month, used=amount))
    except IntegrityError:
        # Another process made the month's row in between.
        return await session.scalar(adding) or amount
    return amount
