"""The database: one code for SQLite (the default, in WAL mode) and PostgreSQL.

Two kinds of session, so that SQLite never has to turn a read lock into a write lock:

    async with database.reading() as session: ...   # a consistent snapshot
    async with database.writing() as session: ...   # committed when the block ends

A writing block takes the one write lock at once, waits for it, and rolls back when it raises.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from menura.errors import Unavailable
from menura.settings import Settings
from menura.storage.room import no_room
from menura.storage.text import folded

HEAD = "0004"
"""The newest revision in `migrations/versions`; a database that has it is used as it is."""

SQLITE_FILE = "menura.db"
"""The database in the data folder."""

_POSTGRESQL = "postgresql+asyncpg"

_AWAY = "The database does not answer; try again in a moment."

_STARTING = 0x4D656E75
"""PostgreSQL's advisory lock of whoever makes or changes the schema, or the first account."""

BUSY_TIMEOUT = 15.0
"""Seconds a writer of another process is waited for."""

PATIENCE = 15.0
"""Seconds a database server may take for all of a session: one that vanished without a word is
otherwise waited for until the system gives up the connection, many minutes later."""

LONG_PATIENCE = 300.0
"""The same where a session may read millions of rows."""

_PASSING = ("08", "25006", "28", "40", "53", "57")
"""How the SQLSTATE begins where the same statement may succeed later: the connection is lost, the
server only reads, does not know us, has had a conflict, is full, or is stopping or starting."""

_PASSING_CODES = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
)
"""The same of SQLite. What could be opened at the start cannot be while too many other files are
open; a quota that is used up is told as an error of the disk, and a disk that had errors is often
mounted anew to be read only."""


log = logging.getLogger("menura.storage")


class NewerSchemaError(ValueError):
    """The database was brought up to date by a newer version of this program."""


def database_url(settings: Settings) -> URL:
    """Return the SQLAlchemy URL of the settings: theirs, or SQLite in the data folder.

    Raises ValueError for a kind of database that is not supported.
    """
    if settings.database_url is None:
        # Not by way of a text, in which a folder's ? and % would mean something.
        return URL.create("sqlite+aiosqlite", database=str(settings.data / SQLITE_FILE))
    url = make_url(settings.database_url)
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": _POSTGRESQL, "postgres": _POSTGRESQL}
    kind = url.drivername.partition("+")[0]
    if kind not in drivers:
        raise ValueError(f"{kind} is not supported, only SQLite and PostgreSQL are")
    return url.set(drivername=drivers.get(url.drivername, url.drivername))


class Database:
    """A pool of connections to one database. Belongs to the event loop that opened it."""

    def __init__(self, url: str | URL) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        address = self.url
        arguments: dict[str, Any] = {}
        if self.is_sqlite:
            # The driver's own transactions begin late and only before writes; ours are explicit.
            arguments["isolation_level"] = None
            arguments["timeout"] = BUSY_TIMEOUT
        elif self.url.drivername == _POSTGRESQL:
            # The driver reads itself what addresses of PostgreSQL end in, such as sslmode.
            dsn = self.url.set(drivername="postgresql")
            arguments["dsn"] = dsn.render_as_string(hide_password=False)
            address = self.url.set(query={})
        self._engine = create_async_engine(
            address,
            connect_args=arguments,
            # Parameters of a failed statement may be personal; they must not reach a log.
            hide_parameters=True,
            # A database server that was restarted has cut the connections of the pool.
            pool_pre_ping=not self.is_sqlite,
        )
        # SQLite's transactions are such snapshots by themselves.
        snapshots = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reading = self._engine.execution_options(**snapshots)
        self._write_lock = asyncio.Lock()
        if self.is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)

    async def open(self) -> None:
        """Create the schema or bring an older one up to date. Raises NewerSchemaError."""
        if self.is_sqlite and self.url.database not in (None, "", ":memory:"):
            path = Path(str(self.url.database))
            path.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(_use_wal, path)
        async with self._engine.connect() as connection:
            found = await connection.run_sync(_revision)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise NewerSchemaError(
                f"a newer Menura has brought it to revision {found}, and this one knows {HEAD}"
            )
        # Begun here, so that every revision is inside one transaction: another process that
        # opens the database meanwhile waits, and then finds it done.
        async with self._connection(durable=True) as connection, connection.begin():
            await self.queue(connection)
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self, patience: float = PATIENCE) -> AsyncIterator[AsyncSession]:
        """Open a session that sees one consistent state and changes nothing. Raises Unavailable
        where the database does not answer, a server within `patience` seconds."""
        async with (
            self._answering(patience),
            AsyncSession(self._reading, expire_on_commit=False) as session,
        ):
            yield session

    @asynccontextmanager
    async def writing(self, *, durable: bool = False) -> AsyncIterator[AsyncSession]:
        """Open a session whose changes are committed together when the block ends.

        durable: whether the changes must survive a power failure the moment the block has
        ended. Without it SQLite may lose the last moments, though never its consistency. Raises
        Unavailable where the database does not answer, or has no room.
        """
        async with self._answering(PATIENCE), self._connection(durable=durable) as connection:
            async with AsyncSession(connection, expire_on_commit=False) as session:
                yield session
                await session.commit()
            await connection.commit()

    @asynccontextmanager
    async def _answering(self, patience: float) -> AsyncIterator[None]:
        """Tell a database that is away for a while, or full, from a statement that failed."""
        try:
            async with asyncio.timeout(None if self.is_sqlite else patience):
                yield
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise no_room(error.orig) from error
            state = getattr(error.orig, "sqlstate", None) or ""
            passing = code in _PASSING_CODES or state.startswith(_PASSING)
            if not error.connection_invalidated and not passing:
                raise
            raise _away(error.orig) from error
        except (OSError, PoolExhausted) as error:
            # The connection itself: refused, timed out, or to a name that is not known now; or all
            # are in use for long.
            if self.is_sqlite and not isinstance(error, PoolExhausted):
                raise
            raise _away(error) from error

    async def queue(self, session: AsyncSession | AsyncConnection) -> None:
        """Let one process at a time go on from here, until its transaction ends. A writing block
        of SQLite does so by itself."""
        if not self.is_sqlite:
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_STARTING})"))

    @asynccontextmanager
    async def _connection(self, *, durable: bool) -> AsyncIterator[AsyncConnection]:
        # Queueing here is fair and immediate; SQLite's own busy handler sleeps and retries.
        lock = self._write_lock if self.is_sqlite else nullcontext()
        async with lock, self._engine.connect() as connection:
            if self.is_sqlite:
                await connection.execution_options(menura_writes="FULL" if durable else "NORMAL")
            yield connection

    async def ping(self) -> None:
        """Raise Unavailable where the database does not answer."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    async def check(self) -> list[str]:
        """Return what is wrong with the database file; nothing when it is healthy."""
        await self.ping()
        if not self.is_sqlite:
            return []
        async with self.reading() as session:
            rows = (await session.execute(text("PRAGMA integrity_check"))).scalars().all()
            broken = (await session.execute(text("PRAGMA foreign_key_check"))).all()
        return [str(row) for row in rows if row != "ok"] + [
            f"{row[0]} row {row[1]} refers to a missing {row[2]}" for row in broken
        ]


def _away(cause: object) -> Unavailable:
    """Tell the log why the database does not answer, and return what a client is told."""
    log.error("The database does not answer: %s", str(cause) or type(cause).__name__)
    return Unavailable(_AWAY, retry_after=1)


def _use_wal(path: Path) -> None:
    """Let readers and a writer work at the same time; the file remembers it."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    # Names, consent and history are nobody else's, whoever may enter the folder; SQLite gives the
    # files beside it the same mode.
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait here for another process that does the same.
                busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not busy or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)


def _folded(text: str | None) -> str | None:
    return None if text is None else folded(text)


def _prepare_sqlite(connection: Any, _: object) -> None:
    # SQLite's own knows the capitals of English alone, and searches would miss names of others.
    connection.create_function("lower", 1, _folded, deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=NORMAL")
    # Without it macOS leaves in the drive's cache what it was told to write.
    cursor.execute("PRAGMA fullfsync=ON")
    # Where SQLite is built without it, names and consent of a voice that was deleted stay in the
    # file, and in every copy of it.
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    synchronous = connection.get_execution_options().get("menura_writes")
    if synchronous is None:
        connection.exec_driver_sql("BEGIN")
        return
    if connection.info.get("menura_synchronous") != synchronous:
        connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        connection.info["menura_synchronous"] = synchronous
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    # Alembic is slow to import and needed only when the schema changes.
    from alembic import command  # noqa: PLC0415

    from menura.storage.migrations import configuration  # noqa: PLC0415

    configured = configuration()
    configured.attributes["connection"] = connection
    command.upgrade(configured, "head")
