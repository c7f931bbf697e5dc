"""What a killed process left behind is gone after the next start, and nothing else."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from menura.storage.database import Database
from menura.storage.objects import Objects, new_key
from menura.storage.sweep import Swept, clear_unfinished, sweep
from menura.storage.tables import StoredObject

OWNED, ORPHAN = new_key("history"), new_key("history")
FOREIGN = ("invoices/2026.pdf", "history/2026/november", "owner")


async def swept(database: Database, objects: Objects, *, alone: bool) -> Swept:
    clear_unfinished(objects, alone_in_folder=alone)
    return await sweep(database, objects, alone=alone)


async def prepared(folder: Path, work: Callable[[Database, Objects], Awaitable[Swept]]) -> Swept:
    database = Database(f"sqlite+aiosqlite:///{folder / 'a.db'}")
    await database.open()
    objects = Objects(folder / "incoming", folder=folder / "objects")
    await objects.put(OWNED, b"owned")
    await objects.put(ORPHAN, b"orphan")
    for key in FOREIGN:
        await objects.put(key, b"somebody else's")
    objects.open_writer().write(b"half")
    async with database.writing() as session:
        session.add(StoredObject(key=OWNED, size=5, sha256=""))
    try:
        return await work(database, objects)
    finally:
        await database.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_alone_everything_without_a_row_goes(tmp_path: Path) -> None:
    async def work(database: Database, objects: Objects) -> Swept:
        done = await swept(database, objects, alone=True)
        assert {found.key async for found in objects.list()} == {OWNED, *FOREIGN}
        return done

    assert asyncio.run(prepared(tmp_path, work)) == Swept(1, ())
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_beside_another_process_the_young_are_spared(tmp_path: Path) -> None:
    async def work(database: Database, objects: Objects) -> Swept:
        return await swept(database, objects, alone=False)

    assert asyncio.run(prepared(tmp_path, work)) == Swept(0, ())
    assert len(list((tmp_path / "incoming").iterdir())) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_row_whose_object_is_gone_is_told(tmp_path: Path) -> None:
    async def work(database: Database, objects: Objects) -> Swept:
        await objects.delete(OWNED)
        return await swept(database, objects, alone=True)

    assert asyncio.run(prepared(tmp_path, work)).missing == (OWNED,)


def test_beside_another_process_the_old_go(tmp_path: Path) -> None:
    async def work() -> Swept:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
        await database.open()
        objects = Objects(tmp_path / "incoming", folder=tmp_path / "objects")
        old, young = new_key("history"), new_key("history")
        for key in (old, young):
            await objects.put(key, b"audio")
        for age, path in (
            (timedelta(hours=2), tmp_path / "objects" / old),
            (timedelta(days=8), tmp_path / "incoming" / "incoming-old"),
        ):
            path.touch()
            then = (datetime.now(UTC) - age).timestamp()
            os.utime(path, (then, then))
        done = await swept(database, objects, alone=False)
        assert [found.key async for found in objects.own()] == [young]
        await database.close()
        return done

    assert asyncio.run(work()) == Swept(1, ())
    assert list((tmp_path / "incoming").iterdir()) == []
