"""Usage over time."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from menura.accounts import Principal
from menura.accounts.usage import Breakdown, Interval, Metric
from menura.api.auth import permitted, services_of
from menura.api.errors import refusals

router = APIRouter(prefix="/v1/usage", tags=["usage"])


class CharacterStats(BaseModel):
    """time: starts of the intervals in Unix milliseconds. usage: one value each, per label."""

    time: list[int]
    usage: dict[str, list[float]]


@router.get("/character-stats", responses=refusals(400, 422), summary="Usage over time")
async def character_stats(
    request: Request,
    caller: Annotated[Principal, permitted("user_read")],
    start_unix: Annotated[int, Query(description="First moment, Unix milliseconds.")],
    end_unix: Annotated[int, Query(description="Last moment, Unix milliseconds.")],
    include_workspace_metrics: bool = False,
    breakdown_type: Breakdown = "none",
    aggregation_interval: Interval = "day",
    aggregation_bucket_size: Annotated[
        int | None, Query(ge=1, le=100_000_000, description="Seconds; overrides the interval.")
    ] = None,
    metric: Metric = "credits",
) -> CharacterStats:
    """Return what the account used, grouped by time and by one property."""
    found = await services_of(request.scope).accounts.usage.statistics(
        caller,
        start_unix,
        end_unix,
        breakdown=breakdown_type,
        interval=aggregation_interval,
        bucket_seconds=aggregation_bucket_size,
        metric=metric,
        workspace=include_workspace_metrics,
    )
    return CharacterStats(time=found.times, usage=found.usage)
