"""Query strings as the contract reads them: an empty value counts as absent."""

from starlette.types import ASGIApp, Receive, Scope, Send


class TidyQuery:
    """ASGI middleware that removes parameters without a value before any route sees them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with what is left of its query string."""
        query: bytes = scope.get("query_string", b"")
        if b"=&" in query or query.endswith(b"="):
            kept = [part for part in query.split(b"&") if not part.endswith(b"=")]
            scope = {**scope, "query_string": b"&".join(kept)}
        await self._app(scope, receive, send)
