"""Routes that serve the page and its modules."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
"""Windows' registry often calls a script plain text, which no browser would run."""

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; style-src 'self'; "
        "connect-src 'self'; worker-src 'self'; object-src 'none'; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""The page may talk to this server and to nobody else."""


class PageFiles(StaticFiles):
    """The modules, style and worklets, with the page's headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at `path`, relative to the static folder."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        kind = MEDIA_TYPES.get(Path(path).suffix)
        if kind is not None and "content-type" in response.headers:
            response.headers["content-type"] = kind
        return response


async def index(_: Request) -> Response:
    """Return the page itself."""
    return FileResponse(STATIC / "index.html", headers=HEADERS, media_type="text/html")


def page_routes() -> list[BaseRoute]:
    """Return the routes of the page: `/` and everything under `/static`."""
    return [
        Route("/", index, include_in_schema=False),
        Mount("/static", PageFiles(directory=STATIC), name="static"),
    ]
