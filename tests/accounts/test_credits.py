"""Credits are counted once, only when charged, and bound what may run."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.accounts.house import SMALL_TIERS, House, house

from menura.accounts import Charge, Principal, credits_for
from menura.accounts.credits import month_of, next_reset
from menura.errors import InsufficientCredits
from menura.storage.tables import UsageRecord


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

    asyncio.run(work())
