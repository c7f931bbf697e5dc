"""Credits are counted once, only when charged, and bound what may run."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.accounts.house import SMALL_TIERS, House, house

from menura.accounts import Charge, Principal, credits_for
from menura.accounts.credits import month_of, next_reset
from menura.errors import InsufficientCredits
from menura.settings import Tier
from menura.storage.tables import CountedCredits, LeaseRow, UsageRecord

POOR = {"enterprise": Tier(concurrency=64), "poor": Tier(concurrency=64, credits=60)}


def charge(caller: Principal, request_id: str, amount: int, *, record: bool = True) -> Charge:
    return Charge(caller, request_id, amount, amount * 0.06, "speech_to_speech", record=record)


async def records(opened: House) -> int:
    async with opened.database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(UsageRecord)) or 0)


@pytest.mark.parametrize(
    ("seconds", "cost"),
    [(0.0, 1), (0.01, 1), (0.06, 1), (0.061, 2), (20.0, 334), (60.0, 1000), (60.001, 1001)],
)
def test_a_minute_costs_a_thousand_rounded_up(seconds: float, cost: int) -> None:
    assert credits_for(seconds) == cost


def test_months_are_calendar_months_in_utc() -> None:
    assert month_of(1_796_083_199) == "2026-11"
    assert month_of(1_796_083_200) == "2026-12"
    assert next_reset(1_796_083_199) == 1_796_083_200
    assert month_of(next_reset(1_796_083_200)) == "2027-01"


def test_a_charge_tells_the_counter_before_and_after(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            counters = opened.accounts.credits
            first = await counters.charge(charge(caller, "one", 10))
            second = await counters.charge(charge(caller, "two", 5))
            assert (first.before, first.after) == (0, 10)
            assert (second.before, second.after) == (10, 15)
            assert await counters.used(caller.account_id) == 15
            assert await counters.used(caller.key_id) == 15

    asyncio.run(work())


@pytest.mark.parametrize("record", [True, False])
def test_a_request_is_charged_once(tmp_path: Path, record: bool) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            counters = opened.accounts.credits
            for _ in range(3):
                await counters.charge(charge(caller, "same", 10, record=record))
            assert await counters.used(caller.account_id) == 10

    asyncio.run(work())


def test_charges_at_once_all_count(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            counters = opened.accounts.credits
            done = await asyncio.gather(
                *(counters.charge(charge(caller, f"r{number}", 3)) for number in range(30))
            )
            assert await counters.used(caller.account_id) == 90
            assert sorted(charged.after for charged in done) == list(range(3, 91, 3))

    asyncio.run(work())


def test_without_a_record_only_the_number_is_kept(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            await opened.accounts.credits.charge(charge(caller, "secret", 10, record=False))
            assert await opened.accounts.credits.used(caller.account_id) == 10
            assert await records(opened) == 0

    asyncio.run(work())
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.glob("menura.db*"))


def test_the_quota_of_the_tier_is_checked_before_the_run(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=SMALL_TIERS) as opened:
            caller = await opened.caller_of_tier("small")
            counters = opened.accounts.credits
            await counters.check(caller, 1000)
            await counters.charge(charge(caller, "one", 999))
            await counters.check(caller, 1)
            with pytest.raises(InsufficientCredits, match="1000 credits a month, 1 left, 2 needed"):
                await counters.check(caller, 2)

    asyncio.run(work())


def test_a_key_can_have_a_limit_of_its_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            limited = await opened.caller(character_limit=10)
            other = await opened.caller()
            await opened.accounts.credits.charge(charge(limited, "one", 8))
            with pytest.raises(InsufficientCredits, match="API key"):
                await opened.accounts.credits.check(limited, 3)
            await opened.accounts.credits.check(other, 1_000_000)
            nothing = await opened.caller(character_limit=0)
            with pytest.raises(InsufficientCredits, match="API key"):
                await opened.accounts.credits.check(nothing, 1)

    asyncio.run(work())


@asynccontextmanager
async def as_many_as_can_pay(
    cost: int, *callers: tuple[House, Principal]
) -> AsyncIterator[list[int]]:
    """Start a request of every caller at once; yield what each that runs has reserved."""
    async with AsyncExitStack() as running:

        async def start(opened: House, caller: Principal) -> int:
            leases = opened.accounts.leases
            return (await running.enter_async_context(leases.acquire(caller, cost))).reserved

        done = await asyncio.gather(*(start(*each) for each in callers), return_exceptions=True)
        assert all(isinstance(each, int | InsufficientCredits) for each in done)
        yield [each for each in done if isinstance(each, int)]


def test_requests_at_once_cannot_spend_the_same_credits(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            house(tmp_path, tiers=POOR) as one,
            house(tmp_path, tiers=POOR, alone=False) as other,
        ):
            caller = await one.caller_of_tier("poor")
            limited = await one.caller(character_limit=20)
            free = await one.caller()
            async with as_many_as_can_pay(20, *5 * [(one, caller), (other, caller)]) as running:
                assert running == [20, 20, 20]
                with pytest.raises(InsufficientCredits, match=r"0 left, 1 needed.* hold 60 more"):
                    await one.accounts.credits.check(caller, 1)
            async with as_many_as_can_pay(20, *5 * [(one, limited), (other, limited)]) as running:
                assert running == [20]
                async with as_many_as_can_pay(20, *5 * [(one, free)]) as others:
                    assert len(others) == 5
                    with pytest.raises(InsufficientCredits, match="0 left, 1 needed"):
                        await other.accounts.credits.check(limited, 1)
            async with as_many_as_can_pay(20, (one, free)):
                await other.accounts.credits.check(limited, 20)
            for each in (caller, limited):
                await other.accounts.credits.check(each, 20)

    asyncio.run(work())


def test_what_is_charged_is_no_longer_reserved(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=POOR) as opened:
            caller = await opened.caller_of_tier("poor")
            counters = opened.accounts.credits
            async with opened.accounts.leases.acquire(caller, 20) as lease:
                cost = Charge(caller, "one", 20, 1.2, "speech_to_speech", lease_id=lease.lease_id)
                await counters.charge(cost)
                await counters.check(caller, 40)
            with pytest.raises(InsufficientCredits, match="40 left, 41 needed"):
                await counters.check(caller, 41)

    asyncio.run(work())


def test_a_reservation_grows_as_far_as_there_are_credits(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=POOR) as opened:
            caller = await opened.caller_of_tier("poor")
            leases = opened.accounts.leases
            async with leases.acquire(caller, 1, 10) as first, leases.acquire(caller, 20):
                assert first.reserved == 10
                await leases.reserve(caller, first, 11, 30)
                assert first.reserved == 30
                await leases.reserve(caller, first, 31, 100)
                assert first.reserved == 40
                with pytest.raises(InsufficientCredits, match="40 left, 41 needed"):
                    await leases.reserve(caller, first, 41)
                assert first.reserved == 40
                with pytest.raises(InsufficientCredits):
                    await opened.accounts.credits.check(caller, 1)
            await opened.accounts.credits.check(caller, 60)

    asyncio.run(work())


def test_a_dead_process_s_reservation_ends_with_its_lease(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=POOR) as opened:
            caller = await opened.caller_of_tier("poor")
            await opened.hold(caller, "dead", "dead", reserved=60)
            with pytest.raises(InsufficientCredits):
                await opened.accounts.credits.check(caller, 1)
            async with opened.database.writing() as session:
                await session.execute(update(LeaseRow).values(expires_at=time.time() - 1))
            await opened.accounts.credits.check(caller, 60)

    asyncio.run(work())


def test_who_cannot_pay_is_told_so_even_by_a_busy_server(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=POOR, max_streams=1) as opened:
            caller = await opened.caller_of_tier("poor")
            leases = opened.accounts.leases
            async with leases.acquire(caller, 20):
                with pytest.raises(InsufficientCredits):
                    async with leases.acquire(caller, 41):
                        pass

    asyncio.run(work())


def test_what_was_used_in_an_earlier_month_does_not_count(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=SMALL_TIERS) as opened:
            caller = await opened.caller_of_tier("small")
            counters = opened.accounts.credits
            async with opened.database.writing() as session:
                for owner_id in (caller.account_id, caller.key_id):
                    session.add(CountedCredits(owner_id=owner_id, month="2020-01", used=1000))
            assert await counters.used(caller.account_id) == 0
            await counters.check(caller, 1000)
            charged = await counters.charge(charge(caller, "one", 10))
            assert (charged.before, charged.after) == (0, 10)

    asyncio.run(work())
