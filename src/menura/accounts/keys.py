"""API keys: made, found, changed, revoked. Only their SHA-256 is kept.

A key has 192 random bits, so a fast hash is as good as a slow one.
"""

import hashlib
import ipaddress
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from menura.accounts.principal import IDLE_PERMISSIONS, PERMISSIONS, Principal
from menura.errors import InvalidApiKey, InvalidParameters, NotFound, Unavailable
from menura.ids import is_acceptable, new_id
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.tables import Account, ApiKey, ServiceAccount, SingleUseToken
from menura.storage.text import is_storable

PREFIX = "sk_"
HINT_LENGTH = len(PREFIX) + 5
MAX_NAME = 200
MAX_ADDRESS = 64
"""Characters of an address or network with its zone, which is the name of a network interface."""
MOST_CREDITS = 2**53
"""Largest limit of a key: what JSON's readers count exactly."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `secret` is shown once and never again."""

    key_id: str
    secret: str = field(repr=False)


def new_secret() -> str:
    """Return a fresh key."""
    return PREFIX + secrets.token_hex(24)


def fingerprint(secret: str) -> str:
    """Return what is stored of a key or token: its SHA-256 in hex."""
    # JSON may hold a half of a surrogate pair, which is part of no key.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Keys:
    """The API keys of all accounts."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def authenticate(self, secret: str, client_host: str | None = None) -> Principal:
        """Return who holds this key. Raises InvalidApiKey."""
        async with self._database.reading() as session:
            found = (
                await session.execute(
                    select(ApiKey, Account)
                    .join(Account, Account.account_id == ApiKey.account_id)
                    .where(ApiKey.sha256 == fingerprint(secret))
                )
            ).first()
        if found is None:
            raise InvalidApiKey("Invalid API key.")
        return self.principal(found[0], found[1], client_host)

    def principal(
        self,
        key: ApiKey,
        account: Account,
        client_host: str | None,
        permissions: frozenset[str] | None = None,
    ) -> Principal:
        """Return the caller that a stored key stands for. Raises InvalidApiKey.

        permissions: narrows what the key may do; null leaves it.
        """
        _check_usable(key, client_host)
        own = None if key.permissions is None else frozenset(key.permissions)
        if permissions is not None:
            own = permissions if own is None else own & permissions
        tier_name = account.tier or self._settings.default_tier
        tier = self._settings.tiers.get(tier_name)
        if tier is None:
            raise Unavailable(f"The tier {tier_name!r} of this account is not in the settings.")
        return Principal(
            account_id=account.account_id,
            workspace_id=account.workspace_id,
            key_id=key.key_id,
            hint=key.hint,
            tier_name=tier_name,
            tier=tier,
            permissions=own,
            character_limit=key.character_limit,
            key_concurrency=key.concurrency_limit,
            is_limited=any(
                limit is not None
                for limit in (
                    key.character_limit,
                    key.concurrency_limit,
                    key.allowed_ips,
                    key.expires_at,
                )
            ),
            client_host=client_host,
        )

    async def recheck(self, principal: Principal, permission: str) -> None:
        """Look again at the key of a caller who was let in some time ago.

        Raises InvalidApiKey, MissingPermissions.
        """
        async with self._database.reading() as session:
            key = await session.get(ApiKey, principal.key_id)
        if key is None:
            raise InvalidApiKey("Invalid API key.")
        _check_usable(key, principal.client_host)
        own = None if key.permissions is None else frozenset(key.permissions)
        replace(principal, permissions=own).require(permission)

    async def create(
        self,
        account_id: str,
        name: str,
        *,
        permissions: Sequence[str] | None = None,
        character_limit: int | None = None,
        concurrency_limit: int | None = None,
        allowed_ips: Sequence[str] | None = None,
        expires_at: int | None = None,
        service_account_id: str | None = None,
    ) -> NewKey:
        """Make a key. permissions: null means all. Raises InvalidParameters, NotFound."""
        check_name(name)
        check_permissions(permissions)
        check_addresses(allowed_ips)
        secret = new_secret()
        async with self._database.writing(durable=True) as session:
            if service_account_id is not None:
                await self._service_account(session, account_id, service_account_id)
            key = key_row(account_id, name, secret)
            key.service_account_id = service_account_id
            key.permissions = None if permissions is None else sorted(set(permissions))
            key.character_limit = character_limit
            key.concurrency_limit = concurrency_limit
            key.allowed_ips = None if allowed_ips is None else list(allowed_ips)
            key.expires_at = expires_at
            session.add(key)
        return NewKey(key.key_id, secret)

    async def list(self, account_id: str) -> Sequence[ApiKey]:
        """Return all the account's keys, oldest first."""
        async with self._database.reading() as session:
            found = await session.scalars(_of_account(account_id))
            return found.all()

    async def list_of(self, account_id: str, holder: str | None) -> Sequence[ApiKey]:
        """Return the keys of one service account, or with null those of none. Raises NotFound."""
        async with self._database.reading() as session:
            if holder is not None:
                await self._service_account(session, account_id, holder)
            found = await session.scalars(
                _of_account(account_id).where(ApiKey.service_account_id == holder)
            )
            return found.all()

    async def update(
        self,
        account_id: str,
        holder: str | None,
        key_id: str,
        columns: Mapping[str, Any],
        *,
        strengthener: Principal | None = None,
    ) -> None:
        """Change columns of a holder's key. Raises NotFound.

        strengthener: whose key must have all permissions of the changed one, where the change lets
        that do more than it could. Raises MissingPermissions.
        """
        async with self._database.writing(durable=True) as session:
            key = await self._key(session, account_id, key_id)
            if key.service_account_id != holder:
                raise _unknown(key_id)
            for column, value in columns.items():
                setattr(key, column, value)
            if strengthener is not None:
                strengthener.require_all(key.permissions)

    async def revoke(self, account_id: str, key_id: str) -> None:
        """Delete a key and its tokens; it stops working at once. Raises NotFound."""
        async with self._database.writing(durable=True) as session:
            key = await self._key(session, account_id, key_id)
            await session.execute(delete(SingleUseToken).where(SingleUseToken.key_id == key_id))
            await session.delete(key)

    async def create_service_account(self, account_id: str, name: str) -> ServiceAccount:
        """Make a named holder of keys."""
        check_name(name)
        row = ServiceAccount(
            service_account_id=new_id(),
            account_id=account_id,
            name=name,
            created_at=int(time.time()),
        )
        async with self._database.writing(durable=True) as session:
            session.add(row)
        return row

    async def service_accounts(self, account_id: str) -> Sequence[ServiceAccount]:
        """Return the account's holders of keys, oldest first."""
        async with self._database.reading() as session:
            rows = await session.scalars(
                select(ServiceAccount)
                .where(ServiceAccount.account_id == account_id)
                .order_by(ServiceAccount.created_at, ServiceAccount.service_account_id)
            )
            return rows.all()

    async def _service_account(
        self, session: AsyncSession, account_id: str, service_account_id: str
    ) -> None:
        row = None
        if is_acceptable(service_account_id):
            row = await session.get(ServiceAccount, service_account_id)
        if row is None or row.account_id != account_id:
            raise NotFound(f"There is no service account {service_account_id[:64]!r}.")

    async def _key(self, session: AsyncSession, account_id: str, key_id: str) -> ApiKey:
        key = None
        if is_acceptable(key_id):
            # Locked, since another process may be about to delete it.
            key = await session.get(ApiKey, key_id, with_for_update=True)
        if key is None or key.account_id != account_id:
            raise _unknown(key_id)
        return key


def key_row(account_id: str, name: str, secret: str) -> ApiKey:
    """Return the row of a key that may do everything."""
    return ApiKey(
        key_id=new_id(),
        account_id=account_id,
        name=name,
        hint=secret[:HINT_LENGTH],
        sha256=fingerprint(secret),
        disabled=False,
        created_at=int(time.time()),
    )


def check_name(name: str) -> None:
    """Raise InvalidParameters unless the name is fit for a key or its holder."""
    if not name.strip() or len(name) > MAX_NAME:
        raise InvalidParameters(
            f"A name needs 1 to {MAX_NAME} characters, not {name[:40]!r}, which has {len(name)}.",
            param="name",
        )
    if not is_storable(name):
        raise InvalidParameters(
            f"The name {name!a} holds characters that cannot be stored as text.", param="name"
        )


def check_permissions(permissions: Sequence[str] | None) -> None:
    """Raise InvalidParameters for a permission nothing knows."""
    for permission in permissions or ():
        if permission not in PERMISSIONS and permission not in IDLE_PERMISSIONS:
            raise InvalidParameters(
                f"There is no permission {permission[:64]!r}; there are {', '.join(PERMISSIONS)}.",
                param="permissions",
            )


def check_addresses(addresses: Sequence[str] | None) -> None:
    """Raise InvalidParameters for what is neither an address nor a network."""
    for address in addresses or ():
        try:
            # Behind a % the library takes any text for the zone of an address.
            if len(address) > MAX_ADDRESS or not address.isascii() or not address.isprintable():
                raise ValueError
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            raise InvalidParameters(
                f"{address[:64]!r} is neither an IP address nor a network.", param="allowed_ips"
            ) from None


def _check_usable(key: ApiKey, client_host: str | None) -> None:
    if key.disabled:
        raise InvalidApiKey("This API key is disabled.")
    if key.expires_at is not None and key.expires_at <= time.time():
        raise InvalidApiKey("This API key has expired.")
    if key.allowed_ips is not None and not _allowed(client_host, key.allowed_ips):
        raise InvalidApiKey(f"This API key is not allowed from the address {client_host!r}.")


def _of_account(account_id: str) -> Select[ApiKey]:
    return (
        select(ApiKey)
        .where(ApiKey.account_id == account_id)
        .order_by(ApiKey.created_at, ApiKey.key_id)
    )


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"There is no API key {key_id[:64]!r}.")


def _allowed(client_host: str | None, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(client_host or "")
    except ValueError:
        return False
    spellings = [address]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        # So a proxy that listens for both kinds on one socket writes an IPv4 address.
        spellings.append(address.ipv4_mapped)
    allowed = [ipaddress.ip_network(network, strict=False) for network in networks]
    return any(spelling in network for spelling in spellings for network in allowed)
