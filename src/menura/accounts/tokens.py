"""Single-use tokens: stand in for a key once, within 15 minutes, for one purpose."""

import secrets
import time
from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import delete, select

from menura.accounts.keys import Keys, fingerprint
from menura.accounts.principal import Principal
from menura.errors import InvalidApiKey
from menura.storage.database import Database
from menura.storage.tables import Account, ApiKey, SingleUseToken

LIFETIME = 15 * 60
"""Seconds a token lives."""

TokenType = Literal["speech_to_speech_live", "realtime_scribe", "batch_scribe", "tts_websocket"]

TOKEN_TYPES: dict[TokenType, frozenset[str]] = {
    "speech_to_speech_live": frozenset({"speech_to_speech"}),
    "realtime_scribe": frozenset(),
    "batch_scribe": frozenset(),
    "tts_websocket": frozenset(),
}
"""What a token of each type may do. Nothing here answers to the contract's three types."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of all accounts."""

    database: Database
    keys: Keys

    async def create(self, principal: Principal, token_type: TokenType) -> str:
        """Make a token for the caller's key. Raises MissingPermissions, InvalidApiKey."""
        for permission in TOKEN_TYPES[token_type]:
            principal.require(permission)
        token = "sutkn_" + secrets.token_hex(24)
        now = int(time.time())
        async with self.database.writing() as session:
            # The key may have been deleted since it opened the door.
            mine = select(ApiKey.key_id).where(ApiKey.key_id == principal.key_id)
            if await session.scalar(mine.with_for_update(read=True, key_share=True)) is None:
                raise InvalidApiKey("Invalid API key.")
            await session.execute(delete(SingleUseToken).where(SingleUseToken.expires_at <= now))
            session.add(
                SingleUseToken(
                    sha256=fingerprint(token),
                    key_id=principal.key_id,
                    token_type=token_type,
                    expires_at=now + LIFETIME,
                )
            )
        return token

    async def redeem(self, token: str, client_host: str | None = None) -> Principal:
        """Use a token up and return who it stands for. Raises InvalidApiKey."""
        digest = fingerprint(token)
        async with self.database.reading() as session:
            known = await session.get(SingleUseToken, digest)
        if known is None:
            # Without the one write lock, which anybody could else keep busy with made-up tokens.
            raise _unknown()
        async with self.database.writing(durable=True) as session:
            row = (
                await session.execute(
                    delete(SingleUseToken)
                    .where(SingleUseToken.sha256 == digest)
                    .returning(
                        SingleUseToken.key_id, SingleUseToken.token_type, SingleUseToken.expires_at
                    )
                )
            ).one_or_none()
            if row is None:
                raise _unknown()
            found = (
                await session.execute(
                    select(ApiKey, Account)
                    .join(Account, Account.account_id == ApiKey.account_id)
                    .where(ApiKey.key_id == row.key_id)
                )
            ).one()
        if row.expires_at <= time.time():
            raise InvalidApiKey("This single-use token has expired.")
        return self.keys.principal(
            found[0], found[1], client_host, TOKEN_TYPES[cast(TokenType, row.token_type)]
        )


def _unknown() -> InvalidApiKey:
    return InvalidApiKey("This single-use token is unknown or was used before.")
