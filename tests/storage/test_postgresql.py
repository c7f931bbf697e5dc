"""On PostgreSQL, whose server is elsewhere, may go away, and lets many write at once."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text
from tests.accounts.house import house
from tests.storage.postgresql import PROGRAMS, PostgreSQL, running
from tests.voices.house import House, inside

from menura.accounts.credits import Charge
from menura.accounts.keys import Keys, key_row
from menura.errors import NotFound, Unavailable
from menura.history import History, HistoryQuery
from menura.settings import Settings
from menura.storage.database import Database, database_url
from menura.storage.objects import Objects
from menura.storage.sweep import known_keys
from menura.storage.tables import Account, StoredObject, VoiceModelRow

pytest.importorskip("asyncpg")

installed = pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with running() as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(database_url(Settings(database_url=url)))
    try:
        yield database
    finally:
        await database.close()


async def asked(url: str) -> None:
    async with opened(url) as database, database.reading(patience=0.5) as session:
        await session.execute(text("SELECT 1"))


async def asked_until_away(url: str) -> None:
    while True:
        await asked(url)


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/menura"
        with pytest.raises(Unavailable):
            asyncio.run(asked(url))


def test_a_server_whose_name_is_not_known_now_is_away() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(asked("postgresql://me@database.invalid/menura"))


@installed
def test_an_address_may_end_as_other_programs_take_it(postgresql: PostgreSQL) -> None:
    for end in ("?sslmode=prefer", "?application_name=menura&sslmode=disable"):
        asyncio.run(asked(postgresql.url + end))
    asyncio.run(asked(postgresql.url.replace("postgresql:", "postgres:")))


@installed
def test_a_server_that_is_shutting_down_is_away() -> None:
    async def work(server: PostgreSQL) -> None:
        async with opened(server.url) as other, other.reading():
            await other.ping()
            # Until the last one leaves; nobody is let in any more.
            server.control("stop", "-m", "smart", "-W")
            with pytest.raises(Unavailable):
                await asked_until_away(server.url)
        await asyncio.to_thread(server.wait_for_end)
        with pytest.raises(Unavailable):
            await asked(server.url)
        server.start()
        await asked(server.url)

    with running() as server:
        asyncio.run(work(server))


@installed
def test_a_session_reads_one_state(postgresql: PostgreSQL) -> None:
    async def work() -> None:
        async with opened(postgresql.url) as database:
            async with database.writing() as session:
                await session.execute(text("CREATE TABLE numbers (n integer)"))
            async with database.reading() as session:
                counted = text("SELECT count(*) FROM numbers")
                before = await session.scalar(counted)
                async with database.writing() as other:
                    await other.execute(text("INSERT INTO numbers VALUES (1)"))
                assert await session.scalar(counted) == before

    asyncio.run(work())


@installed
def test_a_key_that_two_change_and_revoke_at_once_is_revoked_once(postgresql: PostgreSQL) -> None:
    async def work() -> None:
        async with opened(postgresql.url) as database:
            await database.open()
            keys = Keys(Settings(), database)
            async with database.writing() as session:
                session.add(Account(account_id="a", workspace_id="w", name="n", created_at=1))
            for number in range(20):
                row = key_row("a", "key", f"sk_{number}")
                async with database.writing() as session:
                    session.add(row)
                done = await asyncio.gather(
                    keys.revoke("a", row.key_id),
                    keys.update("a", None, row.key_id, {"name": "new"}),
                    keys.revoke("a", row.key_id),
                    return_exceptions=True,
                )
                assert sum(found is None for found in (done[0], done[2])) == 1, done
                refused = [found for found in done if found is not None]
                assert all(isinstance(found, NotFound) for found in refused), refused

    asyncio.run(work())


@installed
def test_a_charge_waits_for_no_lease(postgresql: PostgreSQL, tmp_path: Path) -> None:
    # Else it may hold a lease that the other wants, and neither could go on.
    async def work() -> None:
        async with house(tmp_path, database_url=postgresql.url) as opened:
            caller = await opened.caller(character_limit=1000)
            async with opened.database.writing() as session:
                await opened.accounts.leases._lock(session, caller)
                charge = Charge(caller, "request", 1, 0.06, "speech_to_speech")
                async with asyncio.timeout(10):
                    await opened.accounts.credits.charge(charge)

    asyncio.run(work())


@installed
def test_an_id_that_it_could_not_keep_is_nobodys(postgresql: PostgreSQL, tmp_path: Path) -> None:
    # Of all characters that come in an address it refuses one, which SQLite takes.
    nul = "\x00"

    async def work() -> None:
        async with house(tmp_path, database_url=postgresql.url) as opened:
            account_id = (await opened.accounts.local_account()).account_id
            objects = Objects(tmp_path / "incoming", folder=tmp_path / "objects")
            history = History(opened.database, objects, opened.accounts.credits)
            for query in (HistoryQuery(model_id=nul), HistoryQuery(voice_ids=[nul])):
                assert not (await history.list(account_id, query)).items
            keys = opened.accounts.keys
            for asked in (
                keys.list_of(account_id, nul),
                keys.update(account_id, None, nul, {"disabled": True}),
                keys.revoke(account_id, nul),
                keys.create(account_id, "name", service_account_id=nul),
            ):
                with pytest.raises(NotFound):
                    await asked

    asyncio.run(work())


@installed
def test_what_has_run_does_not_fail_because_its_place_cannot_be_given_back(tmp_path: Path) -> None:
    # A voice that was made, or an answer that was sent, would else be asked for once more.
    async def work(server: PostgreSQL) -> None:
        async with house(tmp_path, database_url=server.url) as opened:
            caller = await opened.caller()
            async with opened.accounts.leases.acquire(caller):
                server.control("stop", "-m", "immediate")
            assert opened.accounts.leases.load(caller)[0] == 0
        server.start()

    with running() as server:
        asyncio.run(work(server))


@installed
def test_a_preview_that_is_stored_while_its_voice_is_deleted_goes_with_it(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        database = house.services.database
        async with database.writing() as session:
            model = (await session.scalars(select(VoiceModelRow).with_for_update())).one()
            session.add(StoredObject(key="previews/aa/a", size=1, sha256=""))
            await session.flush()
            model.preview_key = "previews/aa/a"
            deleting = asyncio.create_task(house.voices.delete(house.account_id, voice_id))
            # Until it waits for this.
            await asyncio.wait({deleting}, timeout=0.5)
        await deleting
        assert await known_keys(database) == set()

    with running() as server:
        inside(tmp_path, act, database_url=server.url)


@installed
def test_a_stream_of_months_is_charged(postgresql: PostgreSQL, tmp_path: Path) -> None:
    # Its milliseconds are more than an integer holds there.
    async def work() -> None:
        async with house(tmp_path, database_url=postgresql.url) as opened:
            caller = await opened.caller()
            charge = Charge(caller, "months", 7, 1.0, "speech_to_speech", duration=90 * 86_400_000)
            await opened.accounts.credits.charge(charge)
            assert await opened.accounts.credits.used(caller.key_id) == 7

    asyncio.run(work())
