"""Usage over time."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from menura.accounts import Principal
from menura.accounts.usage import Breakdown, Interval, Metric
from menura.api.answer import Answer
from menura.api.auth import permitted, services_of
from menura.api.errors import refusals

router = APIRouter(prefix="/v1/usage", tags=["usage"])


class CharacterStats(Answer):
    """`time` has the start of each interval in Unix milliseconds; `usage` has, for each label, one
    value per interval."""

    time: list[int]
    usage: dict[str, list[float]]


@router.get("/character-stats", responses=refusals(400, 422), summary="Usage over time")
async def character_stats(
    request: Request,
    caller: Annotated[Principal, permitted("user_read")],
    start_unix: Annotated[int, Query(description="Beginning of the time, in Unix milliseconds.")],
    end_unix: Annotated[int, Query(description="End of the time, in Unix milliseconds.")],
    include_workspace_metrics: Annotated[
        bool, Query(description="Must be true for the breakdown `user`.")
    ] = False,
    breakdown_type: Annotated[
        Breakdown, Query(description="What to group by; `none` gives one sum.")
    ] = "none",
    aggregation_interval: Annotated[
        Interval, Query(description="Length of the intervals; `cumulative` is one over all.")
    ] = "day",
    aggregation_bucket_size: Annotated[
        int | None,
        Query(
            ge=1,
            le=100_000_000,
            description="Length of the intervals in seconds; overrides `aggregation_interval`.",
        ),
    ] = None,
    metric: Annotated[Metric, Query(description="What to count.")] = "credits",
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
