"""Is the server ready, and how does it fare?"""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from menura import __version__
from menura.accounts import Principal
from menura.api.auth import permitted
from menura.api.errors import ErrorBody, refusals

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """What `/health` tells everybody."""

    status: Literal["ok"] = "ok"
    version: str = __version__


@router.get("/health", summary="Tell that the server is ready")
async def health() -> Health:
    """Answer without a key. The server accepts connections only once it is ready."""
    return Health()


@router.get(
    "/ready", summary="Tell whether requests can be served", responses={503: {"model": ErrorBody}}
)
async def ready(request: Request) -> Health:
    """Answer without a key; 503 while the database does not answer."""
    await request.app.state.services.database.ping()
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
    """Tell counts and times of requests since the start."""
    body = generate_latest(request.app.state.metrics.registry)
    return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})
