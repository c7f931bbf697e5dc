"""The database opens fresh or old, stays whole, and keeps its two kinds of session apart."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.pool import Pool
from tests.storage.full import no_file_beyond, no_more_files

from menura.errors import Unavailable
from menura.settings import Settings
from menura.storage.database import HEAD, Database, database_url
from menura.storage.migrations import configuration
from menura.storage.tables import Account, Base, CountedCredits, StoredObject

FIRST_REVISION = "0001"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{path}")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def columns(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in tables.fetchall()
        }


def test_connections_that_are_all_in_use_for_long_are_told_as_being_busy(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path / "a.db") as database, AsyncExitStack() as slow:
            database._engine.sync_engine.pool._timeout = 0.1
            for _ in range(15):
                session = await slow.enter_async_context(database.reading())
                await session.execute(text("SELECT 1"))
            with pytest.raises(Unavailable):
                await database.ping()

    asyncio.run(act())


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == HEAD


def test_migrations_make_exactly_the_declared_tables(tmp_path: Path) -> None:
    async def make() -> None:
        async with opened(tmp_path / "a.db"):
            pass

    asyncio.run(make())
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_a_database_of_the_first_revision_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        configured = configuration()
        configured.attributes["connection"] = connection
        command.upgrade(configured, FIRST_REVISION)
        connection.execute(text("INSERT INTO counted_credits VALUES ('someone', '2026-11', 7)"))
    engine.dispose()
    assert "voices" not in columns(path)

    async def upgrade() -> int | None:
        async with opened(path) as database, database.reading() as session:
            counted = await session.get(CountedCredits, ("someone", "2026-11"))
            return counted and counted.used

    assert asyncio.run(upgrade()) == 7
    assert "voices" in columns(path)


def test_opening_twice_at_once_is_harmless(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from menura.storage.database import Database\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    await database.open()\n"
        "    assert await database.check() == []\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    command_line = [sys.executable, "-c", program, f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"]
    processes = [subprocess.Popen(command_line) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]


def test_sqlite_is_set_up_for_many_readers_and_one_writer(tmp_path: Path) -> None:
    async def look() -> tuple[str, int, int, int]:
        async with opened(tmp_path / "a.db") as database, database.reading() as session:
            return (
                str(await session.scalar(text("PRAGMA journal_mode"))),
                int(str(await session.scalar(text("PRAGMA foreign_keys")))),
                int(str(await session.scalar(text("PRAGMA fullfsync")))),
                int(str(await session.scalar(text("PRAGMA busy_timeout")))),
            )

    mode, foreign_keys, to_the_disk, timeout = asyncio.run(look())
    assert (mode, foreign_keys, to_the_disk) == ("wal", 1, 1)
    assert timeout >= 1000


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_only_durable_blocks_wait_for_the_disk(tmp_path: Path, durable: bool, level: int) -> None:
    async def look() -> int:
        async with (
            opened(tmp_path / "a.db") as database,
            database.writing(durable=not durable),
        ):
            pass
        async with (
            opened(tmp_path / "a.db") as database,
            database.writing(durable=durable) as session,
        ):
            return int(str(await session.scalar(text("PRAGMA synchronous"))))

    assert asyncio.run(look()) == level


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    async def work() -> int:
        async with opened(tmp_path / "a.db") as database:
            with suppress(RuntimeError):
                async with database.writing() as session:
                    session.add(CountedCredits(owner_id="a", month="2026-01", used=1))
                    await session.flush()
                    raise RuntimeError("half way")
            async with database.reading() as session:
                return int(str(await session.scalar(text("SELECT count(*) FROM counted_credits"))))

    assert asyncio.run(work()) == 0


def test_a_row_cannot_refer_to_an_object_that_is_not_registered(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "a.db") as database, database.writing() as session:
            await session.execute(
                text(
                    "INSERT INTO voice_models (voice_id, engine, engine_version, object_key) "
                    "VALUES ('v', 'e', '1', 'nowhere')"
                )
            )

    with pytest.raises(IntegrityError):
        asyncio.run(work())


def test_an_object_goes_without_a_look_at_every_row(tmp_path: Path) -> None:
    async def work() -> list[str]:
        async with opened(tmp_path / "menura.db") as database, database.reading() as session:
            plan = await session.execute(
                text("EXPLAIN QUERY PLAN DELETE FROM objects WHERE key = 'k'")
            )
            return [row.detail for row in plan]

    steps = asyncio.run(work())
    assert sum("_key=?" in step for step in steps) == 4, steps
    assert not any(step.startswith("SCAN") for step in steps), steps


def test_many_writers_at_once_all_succeed(tmp_path: Path) -> None:
    async def work() -> int:
        async with opened(tmp_path / "a.db") as one, opened(tmp_path / "a.db") as other:

            async def write(number: int) -> None:
                async with (one, other)[number % 2].writing() as session:
                    session.add(StoredObject(key=f"k/{number}", size=1, sha256=""))

            await asyncio.gather(*(write(number) for number in range(60)))
            async with one.reading() as session:
                return int(str(await session.scalar(text("SELECT count(*) FROM objects"))))

    assert asyncio.run(work()) == 60


def test_errors_do_not_show_the_values_of_a_statement(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "a.db") as database, database.reading() as session:
            await session.execute(text("SELECT * FROM nowhere WHERE a = :a"), {"a": "sk_secret"})

    with pytest.raises(OperationalError) as caught:
        asyncio.run(work())
    assert "sk_secret" not in str(caught.value)


def test_the_url_of_the_settings_gets_an_asynchronous_driver(tmp_path: Path) -> None:
    assert database_url(Settings(data=tmp_path)).drivername == "sqlite+aiosqlite"
    named = Settings(data=tmp_path, database_url="postgresql://me:pw@db/menura")
    url = database_url(named).render_as_string(hide_password=False)
    assert url == "postgresql+asyncpg://me:pw@db/menura"


@pytest.fixture
def forgetful() -> Iterator[None]:
    """A SQLite that leaves in its file what was deleted, as most are built."""

    def leave(connection: Any, _: object) -> None:
        connection.cursor().execute("PRAGMA secure_delete=OFF")

    event.listen(Pool, "connect", leave)
    yield
    event.remove(Pool, "connect", leave)


@pytest.mark.usefixtures("forgetful")
def test_what_was_deleted_is_no_longer_in_the_file(tmp_path: Path) -> None:
    secret = "the speaker agreed " * 20

    async def work() -> None:
        async with opened(tmp_path / "a.db") as database:
            async with database.writing() as session:
                session.add(Account(account_id="a", workspace_id="a", name=secret, created_at=1))
            async with database.writing() as session:
                await session.execute(text("DELETE FROM accounts"))

    asyncio.run(work())
    # Closed in order, the database is one file.
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    assert secret.encode() not in (tmp_path / "a.db").read_bytes()


def test_too_many_open_files_are_got_over(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "a.db") as database:
            async with database.reading() as session:
                await session.execute(text("SELECT 1"))
                with no_more_files(), pytest.raises(Unavailable):
                    await database.ping()
            await database.ping()

    asyncio.run(work())


def test_a_quota_that_is_used_up_is_got_over(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "a.db") as database:

            async def write() -> None:
                async with database.writing() as session:
                    session.add(Account(account_id="a", workspace_id="a", name="a", created_at=1))

            with no_file_beyond(1), pytest.raises(Unavailable):
                await write()
            await write()

    asyncio.run(work())
