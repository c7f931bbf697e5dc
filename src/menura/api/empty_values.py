"""An empty query value counts as absent, on every route."""

from starlette.types import ASGIApp, Receive, Scope, Send


class EmptyValues:
    """ASGI middleware that drops query parameters without a value, such as `page_size=`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query: bytes = scope.get("query_string", b"")
        if query:
            kept = [part for part in query.split(b"&") if part.partition(b"=")[2]]
            scope["query_string"] = b"&".join(kept)
        await self._app(scope, receive, send)
