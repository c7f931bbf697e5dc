"""Whether the server runs, whether it can serve, and what it has served: for monitoring."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from menura import __version__
from menura.accounts import Principal
from menura.api.answer import Answer
from menura.api.auth import permitted, services_of
from menura.api.errors import ErrorBody, refusals

router = APIRouter(tags=["health"])


class Health(Answer):
    """What `/health` tells everybody."""

    status: Literal["ok"] = "ok"
    version: str = __version__


@router.get("/health", summary="Tell whether the server runs")
async def health() -> Health:
    """Answer 200 as long as the process runs. No key is needed."""
    return Health()


@router.get(
    "/ready", summary="Tell whether requests can be served", responses={503: {"model": ErrorBody}}
)
async def ready(request: Request) -> Health:
    """Answer 200, or 503 while the database does not answer. No key is needed."""
    await services_of(request.scope).database.ping()
    return Health()


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **refusals()},
)
async def metrics(
    request: Request, caller: Annotated[Principal, permitted("workspace_read")]
) -> Response:
    """Return counts and durations of the requests since the start, in Prometheus's format."""
    body = generate_latest(request.app.state.metrics.registry)
    return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})
