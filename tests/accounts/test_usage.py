"""Usage adds up in every interval and breakdown, to the last credit."""

import asyncio
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounts.house import House, house

from menura.accounts import Charge, usage
from menura.accounts.usage import (
    MAX_POINTS,
    MAX_TIME,
    Breakdown,
    Interval,
    Metric,
    points,
)
from menura.errors import InvalidParameters
from menura.storage.tables import UsageRecord

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_793_491_200_000  # 2026-11-01, a Sunday
END = START + 30 * DAY - 1


async def fill(opened: House) -> None:
    caller = await opened.caller()
    async with opened.database.writing() as session:
        for number in range(100):
            session.add(
                UsageRecord(
                    request_id=f"r{number}",
                    account_id=caller.account_id,
                    key_id=caller.key_id,
                    at=START + number * 7 * HOUR,
                    credits=number,
                    seconds=number * 0.06,
                    product="audio_isolation" if number % 4 == 0 else "speech_to_speech",
                    model_id="m1" if number % 2 else "m2",
                    voice_id=f"v{number % 3}",
                    voice_name=f"Voice {number % 3}",
                    first_byte=number,
                    duration=1000,
                )
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("usage")

    async def work() -> None:
        async with house(path) as opened:
            await fill(opened)

    asyncio.run(work())
    return path


def test_every_interval_and_breakdown_adds_up(folder: Path) -> None:
    async def work() -> None:
        async with house(folder) as opened:
            caller = await opened.caller()
            for interval in get_args(Interval):
                for breakdown in get_args(Breakdown):
                    found = await opened.accounts.usage.statistics(
                        caller, START, END, interval=interval, breakdown=breakdown, workspace=True
                    )
                    assert all(len(series) == len(found.times) for series in found.usage.values())
                    total = sum(sum(series) for series in found.usage.values())
                    assert total == sum(range(100)), (interval, breakdown)

    asyncio.run(work())


def test_labels_and_metrics(folder: Path) -> None:
    async def work() -> None:
        async with house(folder) as opened:
            caller = await opened.caller()
            statistics = opened.accounts.usage.statistics

            async def one(metric: Metric, breakdown: str = "none") -> dict[str, list[float]]:
                found = await statistics(
                    caller, START, END, metric=metric, interval="cumulative", breakdown=breakdown
                )  # type: ignore[arg-type]
                return found.usage

            assert await one("request_count") == {"All": [100.0]}
            assert await one("minutes_used") == {"All": [pytest.approx(4950 * 0.06 / 60)]}
            assert await one("ttfb_avg") == {"All": [49.5]}
            assert await one("ttfb_p95") == {"All": [94.0]}
            assert await one("concurrency") == {"All": [1.0]}
            assert await one("fiat_units_spent") == {"All": [0.0]}
            assert set(await one("credits", "voice")) == {"Voice 0", "Voice 1", "Voice 2"}
            assert set(await one("credits", "model")) == {"m1", "m2"}
            assert (await one("request_count", "product_type"))["audio_isolation"] == [25.0]

    asyncio.run(work())


def test_nothing_used_is_a_line_of_zeros(folder: Path) -> None:
    async def work() -> None:
        async with house(folder) as opened:
            caller = await opened.caller()
            found = await opened.accounts.usage.statistics(caller, 0, 2 * DAY)
            assert found.times == [0, DAY, 2 * DAY]
            assert found.usage == {"All": [0.0, 0.0, 0.0]}

    asyncio.run(work())


def test_who_used_it_is_told_only_with_the_workspace_flag(folder: Path) -> None:
    async def work() -> None:
        async with house(folder) as opened:
            caller = await opened.caller()
            await opened.accounts.usage.statistics(caller, START, END, breakdown="user")

    with pytest.raises(InvalidParameters, match="include_workspace_metrics"):
        asyncio.run(work())


def test_what_is_charged_is_what_the_statistics_tell(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            charge = Charge(
                caller, "r", 10, 6.0, "speech_to_speech", "m", "v", "Voice", 250, DAY // 10
            )
            await opened.accounts.credits.charge(charge)
            now = int(time.time() * 1000)

            async def one(metric: Metric, breakdown: Breakdown) -> dict[str, list[float]]:
                found = await opened.accounts.usage.statistics(
                    caller,
                    now - DAY + 1,
                    now,
                    interval="cumulative",
                    metric=metric,
                    breakdown=breakdown,
                )
                return found.usage

            assert await one("credits", "model") == {"m": [10.0]}
            assert await one("minutes_used", "voice") == {"Voice": [0.1]}
            assert await one("ttfb_avg", "product_type") == {"speech_to_speech": [250.0]}
            assert await one("concurrency_average", "api_keys") == {"test": [0.1]}

    asyncio.run(work())


def test_both_ends_of_the_span_count(folder: Path) -> None:
    async def work() -> None:
        async with house(folder) as opened:
            caller = await opened.caller()
            found = await opened.accounts.usage.statistics(
                caller, START + 7 * HOUR, START + 14 * HOUR, interval="cumulative"
            )
            assert found.usage == {"All": [1.0 + 2.0]}

    asyncio.run(work())


def test_hours_and_buckets_begin_at_their_multiples() -> None:
    assert points(START + 5, START + 2 * HOUR, "hour", None) == [
        START,
        START + HOUR,
        START + 2 * HOUR,
    ]
    assert points(START + 650_000, START + 1_200_000, "day", 600) == [
        START + 600_000,
        START + 1_200_000,
    ]


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert points(START, START + DAY, "week", None) == [START - 6 * DAY, START + DAY]
    assert points(START + 5 * DAY, END + 1, "month", None) == [START, END + 1]


@given(
    st.integers(0, MAX_TIME),
    st.integers(0, MAX_TIME),
    st.sampled_from(get_args(Interval)),
    st.none() | st.integers(1, 100_000_000),
)
def test_points_cover_the_span_in_order_or_are_refused(
    one: int, two: int, interval: Interval, bucket: int | None
) -> None:
    start, end = sorted((one, two))
    try:
        found = points(start, end, interval, bucket)
    except InvalidParameters:
        return
    assert found[0] <= start
    assert found[-1] <= end
    assert found == sorted(set(found))
    assert len(found) <= MAX_POINTS


@pytest.mark.parametrize(("start", "end"), [(5, 4), (-1, 4), (0, 10**30)])
def test_impossible_spans_are_refused(start: int, end: int) -> None:
    with pytest.raises(InvalidParameters):
        points(start, end, "day", None)


def test_an_answer_that_would_be_too_large_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MAX_VALUES", 70)

    async def work() -> None:
        async with house(folder) as opened:
            caller = await opened.caller()
            await opened.accounts.usage.statistics(caller, START, END, breakdown="model")
            with pytest.raises(InvalidParameters, match="coarser"):
                await opened.accounts.usage.statistics(caller, START, END, breakdown="voice")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("spans", "most"),
    [([], 0), ([(1, 2)], 1), ([(1, 2), (3, 4)], 1), ([(1, 3), (3, 4)], 2), ([(1, 9)] * 3, 3)],
)
def test_overlapping_requests_are_counted(spans: list[tuple[int, int]], most: int) -> None:
    assert usage.most_at_once(spans) == most


def test_keys_of_one_name_are_told_apart(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            callers = [await opened.caller(), await opened.caller()]
            async with opened.database.writing() as session:
                for number, caller in enumerate(callers):
                    session.add(
                        UsageRecord(
                            request_id=f"r{number}",
                            account_id=caller.account_id,
                            key_id=caller.key_id,
                            at=START,
                            credits=10 + number,
                            seconds=1.0,
                            product="speech_to_speech",
                        )
                    )
            found = await opened.accounts.usage.statistics(
                callers[0], START, END, interval="cumulative", breakdown="all_api_keys"
            )
            assert sorted(found.usage.values()) == [[10.0], [11.0]]
            assert all(label.startswith("test (sk_") for label in found.usage)

    asyncio.run(work())


def test_voices_of_one_name_are_told_apart_and_a_renamed_one_is_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            used = [("v1", "Ann"), ("v1", "Bea"), ("v2", "Bea"), ("v3", "Cy"), (None, None)]
            async with opened.database.writing() as session:
                for number, (voice_id, name) in enumerate(used):
                    session.add(
                        UsageRecord(
                            request_id=f"r{number}",
                            account_id=caller.account_id,
                            key_id=caller.key_id,
                            at=START + number,
                            credits=2**number,
                            seconds=1.0,
                            product="speech_to_speech",
                            voice_id=voice_id,
                            voice_name=name,
                        )
                    )
            found = await opened.accounts.usage.statistics(
                caller, START, END, interval="cumulative", breakdown="voice"
            )
            wanted = {"Bea (v1)": [3.0], "Bea (v2)": [4.0], "Cy": [8.0], "none": [16.0]}
            assert found.usage == wanted

    asyncio.run(work())


def test_another_account_sees_none_of_it(folder: Path) -> None:
    async def work() -> None:
        async with house(folder) as opened:
            stranger = await opened.caller_of_tier("free")
            for breakdown in ("none", "voice", "api_keys"):
                found = await opened.accounts.usage.statistics(
                    stranger, START, END, interval="cumulative", breakdown=breakdown
                )
                assert sum(map(sum, found.usage.values())) == 0, breakdown

    asyncio.run(work())
