"""The outermost layer: identifiers, headers on every answer, and the end of every exception.

Also answers CORS preflights, since a browser sends them without the key.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from menura.accounts import Principal
from menura.api.auth import services_of
from menura.api.errors import internal_error, send_error, shutting_down
from menura.ids import new_id, new_trace_id

CORS: tuple[tuple[bytes, bytes], ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-allow-methods", b"POST, PATCH, OPTIONS, DELETE, GET, PUT"),
    (b"access-control-max-age", b"600"),
    (
        b"access-control-expose-headers",
        b"request-id, x-request-id, x-trace-id, history-item-id, character-cost, "
        b"x-character-count, current-concurrent-requests, maximum-concurrent-requests, "
        b"tts-latency-ms, x-region, retry-after",
    ),
)

log = logging.getLogger("menura.api")


class Metrics:
    """What `/metrics` tells about the HTTP surface. One registry per application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "menura_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "menura_request_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            ("route",),
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
            registry=self.registry,
        )
        self.running = Gauge(
            "menura_requests_running", "Requests being answered.", registry=self.registry
        )


class ResponseHeaders:
    """ASGI middleware in front of everything.

    Sets `scope["state"]["request_id"]` (20 characters, header `request-id`) and
    `scope["state"]["trace_id"]` (32 hex digits, header `x-trace-id`, error `request_id`).
    A header that the answer already has is left as it is. `running` holds the task of every HTTP
    request until all is done.
    """

    def __init__(
        self, app: ASGIApp, region: str, metrics: Metrics, running: set[asyncio.Task[Any]]
    ) -> None:
        self._app = app
        self._region = region.encode("latin-1", "replace")
        self._metrics = metrics
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        if task is not None and scope["type"] == "http":
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        state = scope.setdefault("state", {})
        state["request_id"] = new_id()
        state["trace_id"] = new_trace_id()
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] in (
                "http.response.start",
                "websocket.accept",
                "websocket.http.response.start",
            ):
                status = message.get("status", 101)
                message = {**message, "headers": self._complete(scope, message.get("headers", ()))}
            await send(message)

        with self._metrics.running.track_inprogress():
            try:
                if _is_preflight(scope):
                    await _answer_preflight(send_with_headers)
                else:
                    await self._app(scope, receive, send_with_headers)
            except ClientDisconnect:
                status = status or 499
            except asyncio.CancelledError:
                # So uvicorn ends what still runs when it has waited long enough.
                if status:
                    log.warning("%s broke off (trace %s).", _place(scope), state["trace_id"])
                else:
                    await send_error(scope, receive, send_with_headers, shutting_down())
            except Exception:
                log.exception("%s failed (trace %s)", _place(scope), state["trace_id"])
                if not status:
                    await send_error(scope, receive, send_with_headers, internal_error())
                # An answer that has begun stays unfinished; the server then cuts the connection,
                # so that the client sees a broken transfer and no short success.
        route = _place(scope)
        self._metrics.requests.labels(_method(scope), route, status).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _complete(
        self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        complete = [(name.lower(), value) for name, value in headers]
        present = {name for name, _ in complete}
        state = scope["state"]
        wanted = [
            (b"request-id", state["request_id"].encode()),
            (b"x-request-id", state["request_id"].encode()),
            (b"x-trace-id", state["trace_id"].encode()),
            (b"x-region", self._region),
            (b"x-content-type-options", b"nosniff"),
            *CORS,
            *_of_caller(scope),
        ]
        complete.extend(pair for pair in wanted if pair[0] not in present)
        return complete


def _of_caller(scope: Scope) -> list[tuple[bytes, bytes]]:
    principal: Principal | None = scope["state"].get("principal")
    if principal is None:
        return []
    lease = scope["state"].get("lease")
    if lease is not None:
        current, maximum = lease.current, lease.maximum
    else:
        current, maximum = services_of(scope).accounts.leases.load(principal)
    return [
        # Caches know nothing of xi-api-key, and would keep audio that was deleted here.
        (b"cache-control", b"no-store"),
        (b"current-concurrent-requests", str(current).encode()),
        (b"maximum-concurrent-requests", str(maximum).encode()),
    ]


def _is_preflight(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


async def _answer_preflight(send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


def _method(scope: Scope) -> str:
    method = scope.get("method", "WEBSOCKET")
    known = ("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "WEBSOCKET")
    return method if method in known else "OTHER"


def _place(scope: Scope) -> str:
    """Return the route's pattern: paths themselves are unbounded and may hold anything."""
    route = getattr(scope.get("route"), "path", None)
    if route is None and (scope["path"] == "/" or scope["path"].startswith("/static/")):
        return "page"
    return route or "unmatched"
