"""Usage statistics: charged requests, grouped by time and by one property."""

import calendar
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Row, select

from menura.accounts.principal import Principal
from menura.errors import InvalidParameters
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.tables import Account, ApiKey, UsageRecord

Breakdown = Literal[
    "none",
    "voice",
    "voice_multiplier",
    "user",
    "groups",
    "api_keys",
    "all_api_keys",
    "product_type",
    "model",
    "resource",
    "request_queue",
    "region",
    "subresource_id",
    "reporting_workspace_id",
    "has_api_key",
    "request_source",
]
Interval = Literal["hour", "day", "week", "month", "cumulative"]
Metric = Literal[
    "credits",
    "minutes_used",
    "request_count",
    "ttfb_avg",
    "ttfb_p95",
    "fiat_units_spent",
    "concurrency",
    "concurrency_average",
    "tts_characters",
]
BREAKDOWNS: tuple[Breakdown, ...] = get_args(Breakdown)

ALL = "All"
MAX_POINTS = 10_000
"""Points in time of one answer."""

MAX_TIME = 253_402_300_799_000
"""The last millisecond of the year 9999, the largest a date can hold."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """times: starts of the intervals in Unix milliseconds. usage: label to one value each."""

    times: list[int]
    usage: dict[str, list[float]]


class Usage:
    """Reads the usage records of one account."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def statistics(
        self,
        principal: Principal,
        start: int,
        end: int,
        *,
        breakdown: Breakdown = "none",
        interval: Interval = "day",
        bucket_seconds: int | None = None,
        metric: Metric = "credits",
        workspace: bool = False,
    ) -> Statistics:
        """Return usage between two moments (Unix milliseconds, both inclusive).

        bucket_seconds: overrides the interval. workspace: must be set for the breakdown `user`.
        Raises InvalidParameters for a time span that is reversed or needs too many points.
        """
        if breakdown == "user" and not workspace:
            raise InvalidParameters(
                "breakdown_type 'user' needs include_workspace_metrics=true.",
                param="breakdown_type",
            )
        times = points(start, end, interval, bucket_seconds)
        rows = await self._rows(principal.account_id, start, end)
        labels = await self._labels(principal, breakdown)
        grouped: dict[str, list[list[Row[*tuple[Any, ...]]]]] = {}
        position = 0
        for row in rows:
            while position + 1 < len(times) and times[position + 1] <= row.at:
                position += 1
            label = labels(row)
            if label not in grouped:
                grouped[label] = [[] for _ in times]
            grouped[label][position].append(row)
        if not grouped and breakdown == "none":
            grouped[ALL] = [[] for _ in times]
        edges = [*times[1:], end + 1]
        return Statistics(
            times,
            {
                label: [
                    measure(metric, bucket, begin, until)
                    for bucket, begin, until in zip(buckets, times, edges, strict=True)
                ]
                for label, buckets in grouped.items()
            },
        )

    async def _rows(self, account_id: str, start: int, end: int) -> Sequence[Row[*tuple[Any, ...]]]:
        async with self._database.reading() as session:
            found = await session.execute(
                select(
                    UsageRecord.at,
                    UsageRecord.credits,
                    UsageRecord.seconds,
                    UsageRecord.product,
                    UsageRecord.model_id,
                    UsageRecord.voice_id,
                    UsageRecord.voice_name,
                    UsageRecord.key_id,
                    UsageRecord.first_byte,
                    UsageRecord.duration,
                )
                .where(
                    UsageRecord.account_id == account_id,
                    UsageRecord.at >= start,
                    UsageRecord.at <= end,
                )
                .order_by(UsageRecord.at)
            )
            return found.all()

    async def _labels(self, principal: Principal, breakdown: Breakdown) -> Any:
        if breakdown in ("api_keys", "all_api_keys"):
            async with self._database.reading() as session:
                found = await session.execute(
                    select(ApiKey.key_id, ApiKey.name).where(
                        ApiKey.account_id == principal.account_id
                    )
                )
                names = {row[0]: row[1] for row in found}
            return lambda row: names.get(row.key_id, row.key_id)
        if breakdown == "user":
            async with self._database.reading() as session:
                name = (await session.get_one(Account, principal.account_id)).name
            return lambda _: name
        by_row = {
            "voice": lambda row: row.voice_name or row.voice_id or "none",
            "product_type": lambda row: row.product,
            "resource": lambda row: row.product,
            "model": lambda row: row.model_id or "none",
        }
        constant = {
            "voice_multiplier": "1.0",
            "groups": "default",
            "request_queue": "default",
            "region": self._settings.region,
            "reporting_workspace_id": principal.workspace_id,
            "has_api_key": "true",
            "request_source": "api",
        }
        return by_row.get(breakdown, lambda _: constant.get(breakdown, ALL))


def points(start: int, end: int, interval: Interval, bucket_seconds: int | None) -> list[int]:
    """Return where the intervals between two moments begin, all in Unix milliseconds."""
    if not 0 <= start <= end <= MAX_TIME:
        raise InvalidParameters(
            f"start_unix {start} and end_unix {end} must be milliseconds with start before end.",
            param="start_unix",
        )
    if bucket_seconds is not None:
        step = bucket_seconds * 1000
    elif interval == "cumulative":
        return [start]
    else:
        # A month is at least 28 days; the count is only an upper bound here.
        step = {"hour": 1, "day": 24, "week": 7 * 24, "month": 28 * 24}[interval] * 3_600_000
    if (end - start) // step + 2 > MAX_POINTS:
        raise InvalidParameters(
            f"This time span needs more than {MAX_POINTS} points; take a coarser interval.",
            param="aggregation_interval" if bucket_seconds is None else "aggregation_bucket_size",
        )
    if bucket_seconds is not None or interval == "hour":
        return list(range(start - start % step, end + 1, step))
    return list(_calendar(start, end, interval))


def _calendar(start: int, end: int, interval: Interval) -> Iterable[int]:
    day = datetime.fromtimestamp(start / 1000, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if interval == "week":
        day -= timedelta(days=min(day.weekday(), (day - datetime(1970, 1, 1, tzinfo=UTC)).days))
    elif interval == "month":
        day = day.replace(day=1)
    moment = int(day.timestamp()) * 1000
    while moment <= end:
        yield moment
        days = {"day": 1, "week": 7, "month": calendar.monthrange(day.year, day.month)[1]}
        if MAX_TIME - moment < days[interval] * 86_400_000:
            return
        day += timedelta(days=days[interval])
        moment = int(day.timestamp()) * 1000


def measure(metric: Metric, rows: Sequence[Row[*tuple[Any, ...]]], begin: int, until: int) -> float:
    """Return one metric over the requests of one interval, in milliseconds [begin, until)."""
    first_bytes = sorted(row.first_byte for row in rows if row.first_byte is not None)
    if metric == "credits":
        return float(sum(row.credits for row in rows))
    if metric == "minutes_used":
        return float(sum(row.seconds for row in rows)) / 60
    if metric == "request_count":
        return float(len(rows))
    if metric == "ttfb_avg":
        return sum(first_bytes) / len(first_bytes) if first_bytes else 0.0
    if metric == "ttfb_p95":
        return float(first_bytes[int(0.95 * (len(first_bytes) - 1))]) if first_bytes else 0.0
    if metric == "concurrency":
        return float(_most_at_once(rows))
    if metric == "concurrency_average":
        return sum(row.duration or 0 for row in rows) / max(1, until - begin)
    return 0.0


def _most_at_once(rows: Sequence[Row[*tuple[Any, ...]]]) -> int:
    changes: dict[int, int] = defaultdict(int)
    for row in rows:
        changes[row.at - (row.duration or 0)] += 1
        changes[row.at + 1] -= 1
    most = now = 0
    for moment in sorted(changes):
        now += changes[moment]
        most = max(most, now)
    return most
