"""The application: services, the layers in front, and the routers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from menura import __version__
from menura.api import (
    audio_isolation,
    errors,
    health,
    history,
    live,
    models,
    service_accounts,
    speech_to_speech,
    tokens,
    twilio,
    usage,
    user,
    voices,
)
from menura.api.auth import Authentication
from menura.api.empty_values import EmptyValues
from menura.api.head import HeadAsGet
from menura.api.headers import Metrics, ResponseHeaders
from menura.services import Services, open_services
from menura.settings import Settings
from menura.web.page import page_routes

ROUTERS = (
    health.router,
    models.router,
    speech_to_speech.router,
    audio_isolation.router,
    voices.router,
    history.router,
    user.router,
    usage.router,
    tokens.router,
    service_accounts.router,
    live.router,
    twilio.router,
)
"""In the order their routes are matched."""

LAST_SECONDS = 5.0
"""How long requests that were ended at shutdown may take to charge and store what was heard."""

log = logging.getLogger("menura.api")


class Application(FastAPI):
    """The framework's application, with a document that promises no refusal that is never given."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            # The framework adds its own 422 wherever there is a parameter. Routes that can give one
            # say so themselves.
            for operations in document["paths"].values():
                for operation in operations.values():
                    if "HTTPValidationError" in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]
            for unused in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(unused, None)
        return super().openapi()


def create_app(settings: Settings, on_ready: Callable[[Services], None] | None = None) -> FastAPI:
    """Build the ASGI application.

    on_ready: called once everything is open, just before the first connection is accepted; the
    command line prints `services.first_key` there.
    """

    running: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, sweeping=True) as services:
            app.state.services = services
            if on_ready is not None:
                on_ready(services)
            yield
            if running:
                # They have been cancelled, but still charge and store what was heard, and uvicorn
                # ends the process without a look at them.
                await asyncio.wait(running, timeout=LAST_SECONDS)

    app = Application(
        title="Menura",
        version=__version__,
        description="A self-hosted streaming voice changer.",
        lifespan=lifespan,
        # The usual documentation pages load scripts from elsewhere; the document itself stays.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Clients made from the document name their functions so; the framework adds the path.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.metrics = Metrics()
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.extend(page_routes())
    app.router.default = errors.no_such_route
    # The last one added is the first to see a request.
    app.add_middleware(EmptyValues)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Authentication)
    app.add_middleware(
        ResponseHeaders, region=settings.region, metrics=app.state.metrics, running=running
    )
    return app
