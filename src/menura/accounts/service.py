"""All that concerns accounts, in one object."""

import os
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from menura.accounts.credits import Credits
from menura.accounts.keys import PREFIX, Keys, key_row, new_secret
from menura.accounts.leases import Leases
from menura.accounts.principal import Principal
from menura.accounts.tokens import Tokens
from menura.accounts.usage import Usage
from menura.errors import MenuraError
from menura.ids import new_id
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.objects import sync_folder
from menura.storage.tables import Account

KEY_FILE = "api_key"
"""In the data folder: the first key, readable by its owner only."""

_FIRST = select(Account).order_by(Account.created_at, Account.account_id).limit(1)


class Accounts:
    """Keys, credits, concurrency leases, single-use tokens and usage statistics.

    What a route that converts audio does:

        principal.require("speech_to_speech")
        async with accounts.leases.acquire(principal, credits_for(seconds)) as lease:
            ...
            await accounts.credits.charge(Charge(principal, ..., lease_id=lease.lease_id))
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self.keys = Keys(settings, database)
        self.credits = Credits(database)
        self.leases = Leases(settings, database, self.credits)
        self.tokens = Tokens(database, self.keys)
        self.usage = Usage(settings, database)

    async def open(self, *, alone: bool) -> str | None:
        """Get ready. Returns the first API key when this is the first start, else null.

        alone: no other process uses the same data.
        """
        await self.leases.open(alone=alone)
        return await self._first_start()

    async def close(self) -> None:
        """Give up leases."""
        await self.leases.close()

    async def first_account(self) -> str | None:
        """Return the id of the account made at the first start, null before that."""
        async with self._database.reading() as session:
            found = await session.scalar(_FIRST)
        return None if found is None else found.account_id

    async def local_account(self) -> Account:
        """Return the account made at the first start; the command line acts for it."""
        async with self._database.reading() as session:
            return (await session.scalars(_FIRST)).one()

    async def key_file_works(self) -> bool:
        """Return whether the data folder's key file holds a key that still admits its holder."""
        try:
            secret = _held_in(self._settings.data / KEY_FILE)
            await self.keys.authenticate(secret)
        except (OSError, UnicodeDecodeError, MenuraError):
            return False
        return True

    async def account(self, principal: Principal) -> Account:
        """Return the caller's account."""
        async with self._database.reading() as session:
            return await session.get_one(Account, principal.account_id)

    async def _first_start(self) -> str | None:
        if await self.first_account() is not None:
            return None
        async with self._database.writing(durable=True) as session:
            await self._database.queue(session)
            if await session.scalar(select(Account.account_id).limit(1)) is not None:
                return None
            account = Account(
                account_id=new_id(),
                workspace_id=new_id(),
                name="local",
                tier=None,
                created_at=int(time.time()),
            )
            # The file comes first: a crash between the two leaves a file that is used again,
            # never a key that nobody knows.
            secret = _stored_key(self._settings.data / KEY_FILE)
            session.add(account)
            await session.flush()
            session.add(key_row(account.account_id, "local", secret))
        return secret


def _held_in(path: Path) -> str:
    """Return what a key file holds, which editors of Windows begin with a mark."""
    return path.read_text(encoding="utf-8-sig").strip()


def _stored_key(path: Path) -> str:
    """Return the key in the file, which is written when it is empty or missing.

    Raises ValueError when it holds something else, which may be somebody's own.
    """
    if path.is_file():
        found = _held_in(path)
        if found.startswith(PREFIX):
            # Whoever brought it may have left it readable by all, or mounted it as it is to stay.
            with suppress(OSError):
                path.chmod(0o600)
            return found
        if found:
            raise ValueError(
                f"{path.name} holds no key, which would begin with {PREFIX}: mend it, or remove it "
                "and get a new one."
            )
        path.unlink()
    secret = new_secret()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)
    return secret
