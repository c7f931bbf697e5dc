"""One of each service, opened and closed together."""

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from obstore.exceptions import BaseError as ObstoreError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from menura.accounts import Accounts
from menura.conversion.service import ConversionService
from menura.engine.registry import engine_for, require_model
from menura.errors import ModelNotFound, Unavailable, UnsupportedModel
from menura.history import History
from menura.live.service import LiveService
from menura.settings import Settings
from menura.storage.database import SQLITE_FILE, Database, database_url
from menura.storage.objects import Objects
from menura.storage.sole_process import SoleProcess
from menura.storage.sweep import clear_unfinished, settle_owner, sweep, sweep_meanwhile
from menura.voices.profiles import Profiles
from menura.voices.store import VoiceStore

_UNOPENED = (
    ImportError,
    OSError,
    ValueError,
    ObstoreError,
    SQLAlchemyError,
    sqlite3.Error,
    Unavailable,
)
"""What the libraries raise where something cannot be opened, and what `storage` makes of it."""

_ADDRESS = re.compile(r"\w+://\S+")


class CannotOpenError(RuntimeError):
    """What the settings name is not there or not what it should be; the text says why, plainly, and
    holds no password."""


@dataclass(frozen=True, slots=True)
class Services:
    """What routes and commands work with.

    first_key: the API key made at the very first start, to be shown once; else null.
    """

    settings: Settings
    database: Database
    objects: Objects
    accounts: Accounts
    conversion: ConversionService
    voices: VoiceStore
    history: History
    live: LiveService
    first_key: str | None = field(repr=False)


@asynccontextmanager
async def open_services(
    settings: Settings, *, sweeping: bool = False, converting: bool = True
) -> AsyncIterator[Services]:
    """Open the data folder, bring it up to date, and lend the services.

    sweeping: whether to remove what killed processes left behind. converting: whether a conversion
    is to be expected. Raises CannotOpenError, and ValueError when the settings contradict each
    other.
    """
    try:
        # Building an engine takes a while, and the first request should not.
        prepare = engine_for if converting else require_model
        await asyncio.to_thread(prepare, settings.default_model)
    except (ModelNotFound, UnsupportedModel) as error:
        raise CannotOpenError(f"default_model cannot be used: {error.message}") from None
    async with AsyncExitStack() as stack:
        _refuse_root(settings.data / SQLITE_FILE)
        with _named("data folder", None, settings.data):
            settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = SoleProcess(settings.data / "lock")
        stack.callback(folder.release)
        # The lock speaks for this data folder only, not for a shared database or bucket.
        alone = folder.alone and settings.database_url is None and settings.objects_url is None
        with _named("database", settings.database_url, settings.data / SQLITE_FILE):
            database = Database(database_url(settings))
            stack.push_async_callback(database.close)
            await database.open()
        with _named("object store", settings.objects_url, settings.data / "objects"):
            objects = Objects.of(settings)
            accounts = Accounts(settings, database)
            await settle_owner(database, objects, await accounts.first_account())
            if sweeping:
                # Where a folder is the store, unfinished files lie beside it, and not in ours.
                ours = not (settings.objects_url or "").startswith("file:")
                clear_unfinished(objects, alone_in_folder=folder.alone and ours)
                if alone:
                    await sweep(database, objects, alone=True)
                else:
                    sweeping_on = asyncio.create_task(sweep_meanwhile(database, objects))
                    stack.push_async_callback(_given_up, sweeping_on)
        kept_in = "data folder" if settings.database_url is None else "database"
        with _named(kept_in, settings.database_url, settings.data):
            first_key = await accounts.open(alone=alone)
        stack.push_async_callback(accounts.close)
        if first_key is not None:
            await settle_owner(database, objects, await accounts.first_account())
        conversion = ConversionService(settings)
        # Closing waits for threads, which may want the loop's answer.
        stack.push_async_callback(asyncio.to_thread, conversion.close)
        profiles = Profiles(settings, database, objects, conversion.cores.turn)
        stack.push_async_callback(profiles.close)
        voices = VoiceStore(settings, database, objects, profiles)
        history = History(database, objects, accounts.credits)
        live = LiveService(conversion.lanes, accounts, history)
        stack.push_async_callback(live.close)
        with _named("data folder", None, settings.data):
            folder.share()
        yield Services(
            settings=settings,
            database=database,
            objects=objects,
            accounts=accounts,
            conversion=conversion,
            voices=voices,
            history=history,
            live=live,
            first_key=first_key,
        )


async def _given_up(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@contextmanager
def _named(what: str, address: str | None, path: Path) -> Iterator[None]:
    """Turn what goes wrong while something is opened into a sentence that names it: by its
    address, else by its path."""
    try:
        yield
    except _UNOPENED as error:
        told_by = error.__cause__ or error if isinstance(error, Unavailable) else error
        cause = told_by.orig if isinstance(told_by, DBAPIError) else told_by
        told = str(cause).strip().splitlines() or [type(cause).__name__]
        if isinstance(error, ModuleNotFoundError):
            told = [f"{error.name} is not installed: pip install {error.name}"]
        where, reason = str(path), told[0]
        if address is not None:
            where = _without_secrets(address)
            reason = reason.replace(address, where)
        # Libraries quote what they have made of an address as well.
        safe = _ADDRESS.sub(lambda found: _without_secrets(found[0]), reason)
        raise CannotOpenError(
            f"The {what} {where!r} cannot be opened: {safe.rstrip('.')}."
        ) from error


def _refuse_root(path: Path) -> None:
    """Refuse to work as root on somebody else's database: what root writes, its owner, as whom the
    server runs, could not read."""
    if os.name != "posix" or os.geteuid() != 0 or not path.exists():
        return
    owner = path.stat().st_uid
    if owner != 0:
        raise CannotOpenError(
            f"{str(path)!r} belongs to user {owner}, and root would leave files there that this "
            f"user cannot read: run it as sudo -u '#{owner}' menura ..."
        )


def _without_secrets(address: str) -> str:
    """Return an address without user, password and query; whatever it looks like, since a password
    may hold any sign, and what is no address at all may be one that was mistyped."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    login, _, place = rest.rpartition("@")
    # A query that holds an @, or a password that holds a question mark.
    place = "..." if "?" in login else place.partition("?")[0]
    return scheme + separator + place
