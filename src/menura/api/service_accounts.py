"""Service accounts and their API keys: keys are made, changed and deleted while the server runs.

Every key belongs to a service account here. The keys of the account itself, which the command
line makes, appear under a service account whose id is the account's.
"""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from menura.accounts import Principal
from menura.accounts.keys import MOST_CREDITS, check_addresses, check_name, check_permissions
from menura.api.answer import Answer, Done
from menura.api.auth import permitted, services_of
from menura.api.bounded import BoundedRoute
from menura.api.errors import refusals
from menura.errors import InvalidParameters, MissingPermissions, NotFound
from menura.services import Services
from menura.storage.tables import ApiKey

router = APIRouter(
    prefix="/v1/service-accounts", tags=["service accounts"], route_class=BoundedRoute
)

SHORTEST_LIFE = 15 * 60
LONGEST_LIFE = 90 * 24 * 3600

MOST_ADDRESSES = 100
MOST_PERMISSIONS = 100
"""All of a key's are read again with every request that it makes."""

CLEAR = "clear"
"""What an edit sends to lift a limit."""

Reader = Annotated[Principal, permitted("workspace_read")]
Writer = Annotated[Principal, permitted("workspace_write")]

Limit = Annotated[
    int, Field(ge=0, le=MOST_CREDITS, description="Credits that the key may use in a month.")
]
Concurrency = Annotated[
    int, Field(ge=1, le=2**31 - 1, description="Requests of the key that may run at once.")
]
Addresses = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=MOST_ADDRESSES,
        description="Addresses and networks that the key may be used from.",
    ),
]
Permissions = Annotated[list[str], Field(max_length=MOST_PERMISSIONS)] | Literal["all"]
Lift = Literal["clear", "no_update"]


class ConcurrencyLimit(Answer):
    """How many requests may run at once."""

    limit: int


class PlatformLimits(Answer):
    """Limits of one key, beside those of its account."""

    concurrency: ConcurrencyLimit


class Key(Answer):
    """What is known of an API key. The key itself is shown only once, when it is made."""

    name: str
    hint: str
    key_id: str
    service_account_user_id: str
    created_at_unix: int
    is_disabled: bool
    permissions: list[str] | None
    character_limit: int | None
    character_count: int
    hashed_xi_api_key: str
    allowed_ips: list[str] | None
    expires_at_unix: int | None
    platform_limits: PlatformLimits | None


class KeyList(Answer):
    """The keys of one service account."""

    model_config = ConfigDict(serialize_by_alias=True)

    api_keys: list[Key] = Field(serialization_alias="api-keys")


class ServiceAccount(KeyList):
    """A holder of keys, such as a program or a machine."""

    service_account_user_id: str
    name: str
    created_at_unix: int


class ServiceAccountList(Answer):
    """All holders of keys."""

    model_config = ConfigDict(serialize_by_alias=True)

    service_accounts: list[ServiceAccount] = Field(serialization_alias="service-accounts")


class NewServiceAccount(BaseModel):
    """What a new holder of keys is called."""

    name: str


class ServiceAccountMade(Answer):
    """The id of the holder just made."""

    model_config = ConfigDict(serialize_by_alias=True)

    service_account_user_id: str = Field(serialization_alias="service-account-user-id")


class NewKey(BaseModel):
    """What a new key may do. A limit that is null or not sent does not exist."""

    name: str
    permissions: Permissions
    character_limit: Limit | None = None
    allowed_ips: Addresses | None = None
    tts_concurrency_limit: Concurrency | None = None
    expires_at_unix: int | None = None


class KeyMade(Answer):
    """The new key, which is shown only in this answer."""

    model_config = ConfigDict(serialize_by_alias=True)

    xi_api_key: str = Field(serialization_alias="xi-api-key")
    key_id: str


class KeyChanges(BaseModel):
    """What to change of a key. `clear` lifts a limit; what is left out or `no_update` stays."""

    is_enabled: bool | None = None
    name: str | None = None
    permissions: Permissions | None = None
    character_limit: Limit | Lift | None = None
    allowed_ips: Addresses | Lift | None = None
    tts_concurrency_limit: Concurrency | Lift | None = None
    expires_at_unix: int | Lift | None = None

    @model_validator(mode="before")
    @classmethod
    def _what_stays(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        # A name is any text.
        return {
            field: value
            for field, value in given.items()
            if value != "no_update" or field == "name"
        }


@router.get("", responses=refusals(), summary="List the service accounts")
async def list_service_accounts(request: Request, caller: Reader) -> ServiceAccountList:
    """Return the holders of keys, each with its keys."""
    services = services_of(request.scope)
    account = await services.accounts.account(caller)
    holders = [(account.account_id, account.name, account.created_at)] + [
        (row.service_account_id, row.name, row.created_at)
        for row in await services.accounts.keys.service_accounts(caller.account_id)
    ]
    return ServiceAccountList(
        service_accounts=[
            ServiceAccount(
                service_account_user_id=holder,
                name=name,
                created_at_unix=created_at,
                api_keys=await _keys(services, caller, holder),
            )
            for holder, name, created_at in holders
        ]
    )


@router.post("", responses=refusals(400, 422), summary="Make a service account")
async def create_service_account(
    request: Request, new: NewServiceAccount, caller: Writer
) -> ServiceAccountMade:
    """Make a holder of keys."""
    keys = services_of(request.scope).accounts.keys
    row = await keys.create_service_account(caller.account_id, new.name)
    return ServiceAccountMade(service_account_user_id=row.service_account_id)


@router.get("/{service_account_user_id}/api-keys", responses=refusals(404), summary="List keys")
async def list_keys(request: Request, service_account_user_id: str, caller: Reader) -> KeyList:
    """Return the keys of one service account."""
    services = services_of(request.scope)
    return KeyList(api_keys=await _keys(services, caller, service_account_user_id))


@router.post(
    "/{service_account_user_id}/api-keys", responses=refusals(400, 404, 422), summary="Make a key"
)
async def create_key(
    request: Request, service_account_user_id: str, new: NewKey, caller: Writer
) -> KeyMade:
    """Make a key. It cannot do more than the key that makes it."""
    _check_unlimited(caller)
    permissions = _permissions(caller, new.permissions)
    _check_expiry(new.expires_at_unix)
    made = await services_of(request.scope).accounts.keys.create(
        caller.account_id,
        new.name,
        permissions=permissions,
        character_limit=new.character_limit,
        concurrency_limit=new.tts_concurrency_limit,
        allowed_ips=new.allowed_ips,
        expires_at=new.expires_at_unix,
        service_account_id=_holder(caller, service_account_user_id),
    )
    return KeyMade(xi_api_key=made.secret, key_id=made.key_id)


@router.patch(
    "/{service_account_user_id}/api-keys/{key_id}",
    responses=refusals(400, 404, 422),
    summary="Change a key",
)
async def update_key(
    request: Request,
    service_account_user_id: str,
    key_id: str,
    changes: KeyChanges,
    caller: Writer,
) -> Done:
    """Change a key's name and what it may do, disable it or enable it again."""
    columns: dict[str, Any] = {}
    if changes.is_enabled is not None:
        columns["disabled"] = not changes.is_enabled
    if changes.name is not None:
        check_name(changes.name)
        columns["name"] = changes.name
    if changes.permissions is not None:
        columns["permissions"] = _permissions(caller, changes.permissions)
    if isinstance(changes.allowed_ips, list):
        check_addresses(changes.allowed_ips)
    if isinstance(changes.expires_at_unix, int):
        _check_expiry(changes.expires_at_unix)
    limits = {
        "character_limit": changes.character_limit,
        "allowed_ips": changes.allowed_ips,
        "concurrency_limit": changes.tts_concurrency_limit,
        "expires_at": changes.expires_at_unix,
    }
    # Whatever lets a key do more would let a limited one do it by way of another, and whoever holds
    # a key that was disabled or has run out would have it work again.
    strengthens = (
        changes.is_enabled
        or changes.permissions is not None
        or any(value is not None for value in limits.values())
    )
    if strengthens:
        _check_unlimited(caller)
    for column, value in limits.items():
        if value is not None:
            columns[column] = None if value == CLEAR else value
    await services_of(request.scope).accounts.keys.update(
        caller.account_id,
        _holder(caller, service_account_user_id),
        key_id,
        columns,
        strengthener=caller if strengthens else None,
    )
    return Done()


@router.post(
    "/{service_account_user_id}/api-keys/{key_id}/disable",
    responses=refusals(404),
    summary="Disable a key",
)
async def disable_key(
    request: Request, service_account_user_id: str, key_id: str, caller: Writer
) -> Done:
    """Make a key stop working at once, without deleting it."""
    await services_of(request.scope).accounts.keys.update(
        caller.account_id, _holder(caller, service_account_user_id), key_id, {"disabled": True}
    )
    return Done()


@router.delete(
    "/{service_account_user_id}/api-keys/{key_id}", responses=refusals(404), summary="Delete a key"
)
async def delete_key(
    request: Request, service_account_user_id: str, key_id: str, caller: Writer
) -> Done:
    """Delete a key; it stops working at once."""
    keys = services_of(request.scope).accounts.keys
    holder = _holder(caller, service_account_user_id)
    if key_id not in {key.key_id for key in await keys.list_of(caller.account_id, holder)}:
        raise NotFound(f"There is no API key {key_id[:64]!r}.")
    await keys.revoke(caller.account_id, key_id)
    return Done()


def _holder(caller: Principal, service_account_user_id: str) -> str | None:
    """Return the service account's id, null for the account itself."""
    return None if service_account_user_id == caller.account_id else service_account_user_id


def _permissions(caller: Principal, wanted: list[str] | str) -> list[str] | None:
    """Return the permissions to store, null for all. Raises MissingPermissions."""
    permissions = None if isinstance(wanted, str) else wanted
    check_permissions(permissions)
    caller.require_all(permissions)
    return permissions


def _check_unlimited(caller: Principal) -> None:
    """Raise MissingPermissions for a key that could make or become one with fewer limits."""
    if caller.is_limited:
        raise MissingPermissions(
            "A key with limits of its own (credits, requests at once, addresses, expiry) cannot "
            "make keys or change their limits."
        )


def _check_expiry(expires_at: int | None) -> None:
    if expires_at is None:
        return
    # As an integer: a number of any length comes in.
    ahead = expires_at - int(time.time())
    if ahead + 1 < SHORTEST_LIFE or ahead > LONGEST_LIFE:
        raise InvalidParameters(
            f"expires_at_unix must lie 15 minutes to 90 days in the future; {str(expires_at)[:24]} "
            "does not.",
            param="expires_at_unix",
        )


async def _keys(services: Services, caller: Principal, holder: str) -> list[Key]:
    rows = await services.accounts.keys.list_of(caller.account_id, _holder(caller, holder))
    return [await _key(services, row, holder) for row in rows]


async def _key(services: Services, row: ApiKey, holder: str) -> Key:
    return Key(
        name=row.name,
        hint=row.hint,
        key_id=row.key_id,
        service_account_user_id=holder,
        created_at_unix=row.created_at,
        is_disabled=row.disabled,
        permissions=row.permissions,
        character_limit=row.character_limit,
        character_count=await services.accounts.credits.used(row.key_id),
        # Only a short piece of it: enough to tell keys apart, useless to find one.
        hashed_xi_api_key=row.sha256[:16],
        allowed_ips=row.allowed_ips,
        expires_at_unix=row.expires_at,
        platform_limits=None
        if row.concurrency_limit is None
        else PlatformLimits(concurrency=ConcurrencyLimit(limit=row.concurrency_limit)),
    )
