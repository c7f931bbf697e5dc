"""Usage statistics: charged requests, grouped by time and by one property."""

import asyncio
import calendar
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, func, select

from menura.accounts.principal import Principal
from menura.errors import InvalidParameters
from menura.settings import Settings
from menura.storage.database import LONG_PATIENCE, Database
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
_Row = Row[*tuple[Any, ...]]
"""The columns of one usage record that statistics need, see `Usage._rows`."""

ALL = "All"
MAX_POINTS = 10_000
"""Points in time of one answer."""

MAX_VALUES = 1_000_000
"""Numbers of one answer."""

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
        label_of = await self._labels(principal, breakdown)
        found: dict[str, dict[int, Totals]] = {}
        async for row in self._rows(principal.account_id, start, end):
            place = bisect_right(times, row.at) - 1
            label = label_of(row)
            if label not in found and (len(found) + 1) * len(times) > MAX_VALUES:
                raise InvalidParameters(
                    f"The answer would hold more than {MAX_VALUES} values; "
                    "choose a coarser interval.",
                    param="aggregation_interval",
                )
            found.setdefault(label, {}).setdefault(place, Totals()).add(row, metric)
        if not found and breakdown == "none":
            found[ALL] = {}
        # Up to a million numbers, which would keep the event loop from everything else.
        return await asyncio.to_thread(_table, found, times, end, metric)

    async def _rows(self, account_id: str, start: int, end: int) -> AsyncIterator[_Row]:
        """Yield the requests of a time span, a few at a time: there may be millions."""
        wanted = (
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
        async with self._database.reading(LONG_PATIENCE) as session:
            async for row in await session.stream(wanted, execution_options={"yield_per": 1000}):
                yield row

    async def _labels(self, principal: Principal, breakdown: Breakdown) -> Callable[[_Row], str]:
        """Return what tells under which label a request counts."""
        if breakdown in ("api_keys", "all_api_keys"):
            keys = await self._key_names(principal.account_id)
            return lambda row: keys.get(row.key_id, row.key_id)
        if breakdown == "voice":
            voices = await self._voice_names(principal.account_id)
            return lambda row: voices.get(row.voice_id, row.voice_id or "none")
        if breakdown == "user":
            async with self._database.reading() as session:
                user = (await session.get_one(Account, principal.account_id)).name
            return lambda _: user
        if breakdown in ("product_type", "resource"):
            return lambda row: row.product
        if breakdown == "model":
            return lambda row: row.model_id or "none"
        same_for_all = {
            "voice_multiplier": "1.0",
            "groups": "default",
            "request_queue": "default",
            "region": self._settings.region,
            "reporting_workspace_id": principal.workspace_id,
            "has_api_key": "true",
            "request_source": "api",
        }
        return lambda _: same_for_all.get(breakdown, ALL)

    async def _key_names(self, account_id: str) -> dict[str, str]:
        async with self._database.reading() as session:
            found = await session.execute(
                select(ApiKey.key_id, ApiKey.name, ApiKey.hint).where(
                    ApiKey.account_id == account_id
                )
            )
            return distinct_labels([(key_id, name, f"{hint}…") for key_id, name, hint in found])

    async def _voice_names(self, account_id: str) -> dict[str, str]:
        async with self._database.reading() as session:
            uses = await session.execute(
                select(UsageRecord.voice_id, UsageRecord.voice_name)
                .where(UsageRecord.account_id == account_id, UsageRecord.voice_id.is_not(None))
                .group_by(UsageRecord.voice_id, UsageRecord.voice_name)
                .order_by(func.max(UsageRecord.at))
            )
            # A renamed voice is one voice, under its last name.
            last = {voice_id: name or voice_id for voice_id, name in uses if voice_id}
        return distinct_labels([(voice_id, name, voice_id) for voice_id, name in last.items()])


def _table(
    found: dict[str, dict[int, "Totals"]], times: list[int], end: int, metric: Metric
) -> Statistics:
    """Return one value for each label and interval."""
    edges = [*times[1:], end + 1]
    empty = Totals()
    return Statistics(
        times,
        {
            label: [
                intervals.get(place, empty).measure(metric, edges[place] - times[place])
                for place in range(len(times))
            ]
            for label, intervals in found.items()
        },
    )


def distinct_labels(things: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """Return a label for each thing's id, its name, with the hint where others share the name.

    things: ids, names and hints.
    """
    uses = Counter(name for _, name, _ in things)
    return {thing: name if uses[name] == 1 else f"{name} ({hint})" for thing, name, hint in things}


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
            f"This time span needs more than {MAX_POINTS} points; choose a coarser interval.",
            param="aggregation_interval" if bucket_seconds is None else "aggregation_bucket_size",
        )
    if bucket_seconds is not None or interval == "hour":
        return list(range(start - start % step, end + 1, step))
    return list(_calendar(start, end, interval))


def _calendar(start: int, end: int, interval: Interval) -> Iterable[int]:
    # Windows tells no date of a second beyond the year 3000.
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    day = epoch + timedelta(days=start // 86_400_000)
    if interval == "week":
        day -= timedelta(days=min(day.weekday(), (day - epoch).days))
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


class Totals:
    """What the requests of one interval add up to."""

    def __init__(self) -> None:
        self.credits = 0
        self.seconds = 0.0
        self.requests = 0
        self.milliseconds = 0
        self.first_bytes = array("q")
        self.spans: list[tuple[int, int]] = []

    def add(self, row: _Row, metric: Metric) -> None:
        """Count a request; what only some metrics need is kept for those alone."""
        self.credits += row.credits
        self.seconds += row.seconds
        self.requests += 1
        self.milliseconds += row.duration or 0
        if row.first_byte is not None and metric in ("ttfb_avg", "ttfb_p95"):
            self.first_bytes.append(row.first_byte)
        if metric == "concurrency":
            self.spans.append((row.at - (row.duration or 0), row.at))

    def measure(self, metric: Metric, length: int) -> float:
        """Return one metric. length: of the interval in milliseconds."""
        waits = sorted(self.first_bytes)
        if metric == "credits":
            return float(self.credits)
        if metric == "minutes_used":
            return self.seconds / 60
        if metric == "request_count":
            return float(self.requests)
        if metric == "ttfb_avg":
            return sum(waits) / len(waits) if waits else 0.0
        if metric == "ttfb_p95":
            return float(waits[int(0.95 * (len(waits) - 1))]) if waits else 0.0
        if metric == "concurrency":
            return float(most_at_once(self.spans))
        if metric == "concurrency_average":
            return self.milliseconds / max(1, length)
        return 0.0


def most_at_once(spans: Sequence[tuple[int, int]]) -> int:
    """Return how many spans (first and last moment) overlap at most."""
    changes: dict[int, int] = defaultdict(int)
    for first, last in spans:
        changes[first] += 1
        changes[last + 1] -= 1
    most = now = 0
    for moment in sorted(changes):
        now += changes[moment]
        most = max(most, now)
    return most
