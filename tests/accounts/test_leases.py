"""So many at once and no more, and nobody holds a place after death."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.accounts.house import SMALL_TIERS, House, house

from menura.accounts import leases as leases_module
from menura.accounts.leases import LIFETIME
from menura.errors import ConcurrencyExceeded, SystemBusy
from menura.settings import Tier
from menura.storage.tables import LeaseRow


async def held(opened: House) -> int:
    async with opened.database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(LeaseRow)) or 0)


def test_more_than_the_tier_allows_are_told_when_to_come_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=SMALL_TIERS) as opened:
            caller = await opened.caller_of_tier("small")
            leases = opened.accounts.leases
            async with leases.acquire(caller) as first, leases.acquire(caller) as second:
                assert (first.current, first.maximum) == (1, 2)
                assert (second.current, second.maximum) == (2, 2)
                assert leases.running(caller.account_id) == 2
                with pytest.raises(ConcurrencyExceeded, match="small allows 2") as caught:
                    async with leases.acquire(caller):
                        pass
                assert caught.value.retry_after is not None
                assert caught.value.retry_after >= 1
                assert leases.running(caller.account_id) == 2
            assert await held(opened) == 0
            assert leases.running(caller.account_id) == 0
            async with leases.acquire(caller) as again:
                assert again.current == 1

    asyncio.run(work())


def test_a_short_wait_is_enough_when_a_place_comes_free(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=SMALL_TIERS, queue_seconds=20.0) as opened:
            caller = await opened.caller_of_tier("small")
            leases = opened.accounts.leases
            running = most = 0

            async def one() -> None:
                nonlocal running, most
                async with leases.acquire(caller):
                    running += 1
                    most = max(most, running)
                    await asyncio.sleep(0)
                    running -= 1

            await asyncio.gather(*(one() for _ in range(12)))
            assert most <= 2
            assert await held(opened) == 0

    asyncio.run(work())


def test_a_key_can_have_a_limit_of_its_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller(concurrency_limit=1)
            other = await opened.caller()
            async with opened.accounts.leases.acquire(caller) as lease:
                assert lease.maximum == 1
                async with opened.accounts.leases.acquire(other) as second:
                    assert second.current == 2
                with pytest.raises(ConcurrencyExceeded, match="this API key allows 1"):
                    async with opened.accounts.leases.acquire(caller):
                        pass

    asyncio.run(work())


@pytest.mark.parametrize(
    ("of_key", "of_others", "told"),
    [(1, 0, (1, 1)), (1, 3, (1, 1)), (9, 0, (1, 4)), (3, 1, (1, 3)), (3, 2, (3, 4))],
)
def test_count_and_limit_are_those_of_whichever_is_nearer(
    tmp_path: Path, of_key: int, of_others: int, told: tuple[int, int]
) -> None:
    async def work() -> None:
        tiers = {"enterprise": Tier(concurrency=4)}
        async with house(tmp_path, tiers=tiers) as opened, AsyncExitStack() as running:
            caller = await opened.caller(concurrency_limit=of_key)
            other = await opened.caller()
            leases = opened.accounts.leases
            for _ in range(of_others):
                await running.enter_async_context(leases.acquire(other))
            before = leases.load(caller)
            async with leases.acquire(caller) as lease:
                assert (lease.current, lease.maximum) == leases.load(caller) == told
            assert leases.load(caller) == before

    asyncio.run(work())


def test_the_whole_process_has_a_limit_too(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, max_streams=1) as opened:
            caller = await opened.caller()
            async with opened.accounts.leases.acquire(caller):
                with pytest.raises(SystemBusy):
                    async with opened.accounts.leases.acquire(caller):
                        pass

    asyncio.run(work())


def test_places_count_over_all_processes(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            house(tmp_path, tiers=SMALL_TIERS) as one,
            house(tmp_path, tiers=SMALL_TIERS, alone=False) as other,
        ):
            caller = await one.caller_of_tier("small")
            async with (
                one.accounts.leases.acquire(caller) as first,
                other.accounts.leases.acquire(caller) as second,
            ):
                assert (first.current, second.current) == (1, 2)
                with pytest.raises(ConcurrencyExceeded):
                    async with one.accounts.leases.acquire(caller):
                        pass

    asyncio.run(work())


def test_a_dead_process_loses_its_places_in_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, tiers=SMALL_TIERS) as opened:
            caller = await opened.caller_of_tier("small")
            for number in range(2):
                await opened.hold(caller, f"dead{number}", "dead")
            with pytest.raises(ConcurrencyExceeded):
                async with opened.accounts.leases.acquire(caller):
                    pass
            async with opened.database.writing() as session:
                await session.execute(update(LeaseRow).values(expires_at=time.time() - 1))
            async with opened.accounts.leases.acquire(caller) as lease:
                assert lease.current == 1

    asyncio.run(work())


@pytest.mark.parametrize(("alone", "left"), [(True, 0), (False, 1)])
def test_a_start_clears_leases_only_when_no_other_process_lives(
    tmp_path: Path, alone: bool, left: int
) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            await opened.hold(await opened.caller(), "other", "other")
        async with house(tmp_path, alone=alone) as opened:
            assert await held(opened) == left

    asyncio.run(work())


def test_renewal_prolongs_what_is_held_and_removes_what_is_void(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            async with opened.accounts.leases.acquire(caller):
                await opened.hold(caller, "dead", "dead")
                # Of a request that was cancelled while its row was being inserted.
                await opened.hold(caller, "unheld", opened.accounts.leases._process_id)
                async with opened.database.writing() as session:
                    await session.execute(update(LeaseRow).values(expires_at=0.0))
                await opened.accounts.leases.renew()
                assert await held(opened) == 1
                async with opened.database.reading() as session:
                    expires_at = await session.scalar(select(LeaseRow.expires_at))
                assert expires_at is not None
                assert expires_at > time.time() + LIFETIME / 2

    asyncio.run(work())


def test_a_cancelled_request_gives_its_place_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            inside = asyncio.Event()

            async def hold() -> None:
                async with opened.accounts.leases.acquire(caller):
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(hold())
            await inside.wait()
            task.cancel()
            await asyncio.sleep(0)
            # Again while it gives its place back, as by a server that ends.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for _ in range(200):
                if opened.accounts.leases.running(caller.account_id) == 0:
                    break
                await asyncio.sleep(0.02)
            assert await held(opened) == 0

    asyncio.run(work())


def test_a_process_that_ends_gives_its_places_up_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as one:
            caller = await one.caller()
            async with house(tmp_path, alone=False) as other:
                await other.hold(caller, "running", other.accounts.leases._process_id)
                assert await held(one) == 1
            assert await held(one) == 0

    asyncio.run(work())


def test_a_long_request_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "HEARTBEAT", 0.02)

    async def expiry(opened: House) -> float:
        async with opened.database.reading() as session:
            return float(await session.scalar(select(LeaseRow.expires_at)) or 0.0)

    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            async with opened.accounts.leases.acquire(caller):
                async with opened.database.writing() as session:
                    await session.execute(update(LeaseRow).values(expires_at=time.time() + 5))
                for _ in range(500):
                    if await expiry(opened) > time.time() + 20:
                        break
                    await asyncio.sleep(0.01)
                assert await expiry(opened) > time.time() + 20

    asyncio.run(work())
