"""A database with one account, and callers of it."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from menura.accounts import Accounts, Principal
from menura.settings import Settings, Tier
from menura.storage.database import Database, database_url
from menura.storage.tables import Account


class House:
    """One process's view of a data folder."""

    def __init__(self, settings: Settings, database: Database, accounts: Accounts) -> None:
        self.settings = settings
        self.database = database
        self.accounts = accounts

    async def caller(self, **options: Any) -> Principal:
        """Make a key and return who holds it."""
        account = await self.accounts.local_account()
        made = await self.accounts.keys.create(account.account_id, "test", **options)
        return await self.accounts.keys.authenticate(made.secret)

    async def caller_of_tier(self, tier: str) -> Principal:
        """Make an account of a tier with a key and return who holds it."""
        account_id = f"account-{tier}"
        async with self.database.writing() as session:
            session.add(
                Account(
                    account_id=account_id,
                    workspace_id="workspace",
                    name=tier,
                    tier=tier,
                    created_at=int(time.time()) + 1,
                )
            )
        made = await self.accounts.keys.create(account_id, "test")
        return await self.accounts.keys.authenticate(made.secret)


@asynccontextmanager
async def house(folder: Path, *, alone: bool = True, **options: Any) -> AsyncIterator[House]:
    """Open a data folder as a server process would."""
    options.setdefault("queue_seconds", 0.0)
    settings = Settings(data=folder, **options)
    database = Database(database_url(settings))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await database.open()
        accounts = Accounts(settings, database)
        await accounts.open(alone=alone)
        stack.push_async_callback(accounts.close)
        yield House(settings, database, accounts)


SMALL_TIERS = {
    "enterprise": Tier(concurrency=64, zero_retention=True),
    "small": Tier(concurrency=2, credits=1000),
}
