"""One door in front of every route, HTTP and WebSocket alike: no key, no entry.

A key comes in the header `xi-api-key` or as `Authorization: Bearer`. A WebSocket, to which a
browser cannot add headers, may bring a single-use token as the query parameter
`single_use_token`. Public are `/health`, `/ready`, the page with its static files
(previews of premade voices are among them) and CORS preflights.

A route gets its caller and names the permission it needs by a dependency:

    async def read(caller: Annotated[Principal, permitted("voices_read")]) -> ...

A plain ASGI route asks `principal_of(scope).require("speech_to_speech")`.

Twilio can send neither header nor token: its WebSocket is let in, and does nothing before a key has
come in its first messages (`api/twilio.py`).
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Security
from fastapi.security import APIKeyHeader
from starlette.types import ASGIApp, Receive, Scope, Send

from menura.accounts import Principal
from menura.api.errors import send_error
from menura.errors import InvalidAuthorization, MenuraError, MissingApiKey
from menura.services import Services

PUBLIC_PATHS = frozenset({"/", "/health", "/ready", "/favicon.ico"})
PUBLIC_PREFIXES = ("/static/",)

TOKEN_PARAMETERS = frozenset({"single_use_token", "token"})
SECRET_PARAMETERS = TOKEN_PARAMETERS | {"xi-api-key", "xi_api_key", "api_key", "authorization"}
"""Query parameters that never reach a log."""

API_KEY_SCHEME = APIKeyHeader(
    name="xi-api-key",
    scheme_name="ApiKey",
    description="An API key of this server.",
    auto_error=False,
)


def services_of(scope: Scope) -> Services:
    """Return the services of the running application."""
    services = scope["app"].state.services
    assert isinstance(services, Services)
    return services


def principal_of(scope: Scope) -> Principal:
    """Return the caller, whom `Authentication` has established."""
    principal = scope["state"]["principal"]
    assert isinstance(principal, Principal)
    return principal


@dataclass(frozen=True)
class Permitted:
    """A dependency that gives the caller, who must have the permission."""

    permission: str | None

    async def __call__(
        self, request: Request, _: str | None = Security(API_KEY_SCHEME)
    ) -> Principal:
        return self.check(request.scope)

    def check(self, scope: Scope) -> Principal:
        """Return the caller. Raises MissingPermissions."""
        principal = principal_of(scope)
        if self.permission is not None:
            principal.require(self.permission)
        return principal


def permitted(permission: str | None = None) -> Any:
    """Return what a parameter of a route is annotated with to be the caller."""
    return Security(Permitted(permission))


class Authentication:
    """ASGI middleware that puts the caller into `scope["state"]["principal"]` or refuses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        secrets = _take_secrets(scope)
        if not is_public(scope):
            try:
                principal = await self._authenticate(scope, secrets)
            except MissingApiKey as error:
                if not authenticates_itself(scope):
                    await send_error(scope, receive, send, error)
                    return
            except MenuraError as error:
                await send_error(scope, receive, send, error)
                return
            else:
                scope["state"]["principal"] = principal
        await self._app(scope, receive, send)

    async def _authenticate(self, scope: Scope, secrets: dict[str, str]) -> Principal:
        accounts = services_of(scope).accounts
        client = scope.get("client")
        host = client[0] if client else None
        key = _key_of(scope)
        if key is not None:
            return await accounts.keys.authenticate(key, host)
        if scope["type"] == "websocket":
            for parameter in TOKEN_PARAMETERS:
                if token := secrets.get(parameter, "").strip():
                    return await accounts.tokens.redeem(token, host)
        raise MissingApiKey("No API key was sent: it belongs in the header xi-api-key.")


def is_public(scope: Scope) -> bool:
    """Tell whether a request needs no key."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES)


def authenticates_itself(scope: Scope) -> bool:
    """Tell whether a WebSocket asks for the key in its first message."""
    path: str = scope["path"]
    return scope["type"] == "websocket" and path.endswith("/twilio")


def _key_of(scope: Scope) -> str | None:
    """Return the key a request brings. Raises InvalidAuthorization."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    key = headers.get(b"xi-api-key", b"").decode("latin-1").strip()
    if key:
        return key
    authorization = headers.get(b"authorization", b"").decode("latin-1").strip()
    if not authorization:
        return None
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise InvalidAuthorization("The header Authorization must read 'Bearer' and an API key.")
    return token.strip()


def _take_secrets(scope: Scope) -> dict[str, str]:
    """Remove secrets from the query string, in place, since servers log it afterwards."""
    query: bytes = scope.get("query_string", b"")
    if not query:
        return {}
    taken: dict[str, str] = {}
    kept: list[bytes] = []
    for part in query.split(b"&"):
        pairs = parse_qsl(part.decode("latin-1"), keep_blank_values=True)
        name = pairs[0][0].lower() if pairs else ""
        if name in SECRET_PARAMETERS:
            taken[name] = pairs[0][1]
        else:
            kept.append(part)
    if taken:
        scope["query_string"] = b"&".join(kept)
    return taken
