"""An empty query value counts as absent, on every route."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

_BLANK = re.compile(rb"\+|%20|%09")


class EmptyValues:
    """ASGI middleware that drops query parameters without a value, such as `page_size=`, or with
    nothing but blanks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query: bytes = scope.get("query_string", b"")
        if query:
            kept = [part for part in query.split(b"&") if _BLANK.sub(b"", part.partition(b"=")[2])]
            scope["query_string"] = b"&".join(kept)
        await self._app(scope, receive, send)
