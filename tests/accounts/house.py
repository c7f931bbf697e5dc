"""A database with one account, and callers of it."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from menura.accounts import Accounts, Principal
from menura.accounts.leases import LIFETIME
from menura.settings import Settings, Tier
from menura.storage.database import Database, database_url
from menura.storage.tables import Account, LeaseRow


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
        await add_account(self.database, account_id, tier=tier)
        made = await self.accounts.keys.create(account_id, "test")
        return await self.accounts.keys.authenticate(made.secret)

    async def hold(
        self, caller: Principal, lease_id: str, process_id: str, **reserved: float
    ) -> None:
        """Write down a place that a process holds for a caller, as if it ran something."""
        async with self.database.writing() as session:
            session.add(
                LeaseRow(
                    lease_id=lease_id,
                    account_id=caller.account_id,
                    key_id=caller.key_id,
                    process_id=process_id,
                    expires_at=time.time() + LIFETIME,
                    **reserved,
                )
            )


async def add_account(
    database: Database, account_id: str, *, tier: str | None = None, workspace: str = "workspace"
) -> None:
    """Make an account that is younger than the local one."""
    async with database.writing() as session:
        session.add(
            Account(
                account_id=account_id,
                workspace_id=workspace,
                name=tier or account_id,
                tier=tier,
                created_at=int(time.time()) + 1,
            )
        )


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
