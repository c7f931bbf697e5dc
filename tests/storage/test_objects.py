"""An object exists only whole, wherever it is kept."""

import asyncio
import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.full import no_file_beyond, no_more_files

from menura.errors import Unavailable
from menura.settings import Settings
from menura.storage.objects import ObjectMissing, Objects, new_key

DATA = bytes(range(256)) * 1000


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Objects(tmp_path / "incoming", folder=tmp_path / "objects")
    return Objects(tmp_path / "incoming", url="memory:///")


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


def test_what_is_put_is_got(objects: Objects) -> None:
    async def work() -> None:
        key = new_key("history")
        size, digest = await objects.put(key, DATA)
        assert (size, digest) == (len(DATA), hashlib.sha256(DATA).hexdigest())
        assert await objects.size(key) == len(DATA)
        assert await objects.read(key) == DATA
        assert await collect(objects.stream(key)) == DATA
        async with objects.local(key) as path:
            assert path.read_bytes() == DATA

    asyncio.run(work())


@pytest.mark.parametrize(("start", "end"), [(0, 1), (10, 300), (255_999, None), (7, None)])
def test_a_part_is_got(objects: Objects, start: int, end: int | None) -> None:
    async def work() -> bytes:
        await objects.put("history/aa/a", DATA)
        return await collect(objects.stream("history/aa/a", start, end))

    assert asyncio.run(work()) == DATA[start:end]


def test_what_is_written_in_pieces_is_one_object(objects: Objects) -> None:
    async def work() -> bytes:
        writer = objects.open_writer()
        for start in range(0, len(DATA), 999):
            writer.write(DATA[start : start + 999])
        await objects.keep(writer, "a/b")
        return await objects.read("a/b")

    assert asyncio.run(work()) == DATA


def test_nothing_exists_before_it_is_whole(objects: Objects, tmp_path: Path) -> None:
    async def work() -> None:
        writer = objects.open_writer()
        thread = threading.Thread(target=writer.write, args=(DATA,))
        thread.start()
        thread.join()
        assert [found async for found in objects.list()] == []
        await objects.keep(writer, "a/b")
        assert [found.key async for found in objects.list()] == ["a/b"]
        assert list((tmp_path / "incoming").iterdir()) == []

    asyncio.run(work())


def test_an_abandoned_writer_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    async def work() -> None:
        writer = objects.open_writer()
        writer.write(DATA)
        writer.abandon()
        writer.abandon()
        assert [found async for found in objects.list()] == []

    asyncio.run(work())
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_missing_object_is_said_to_be_missing(objects: Objects) -> None:
    async def work() -> None:
        with pytest.raises(ObjectMissing):
            await objects.size("a/b")
        with pytest.raises(ObjectMissing):
            await objects.read("a/b")
        with pytest.raises(ObjectMissing):
            await collect(objects.stream("a/b"))
        with pytest.raises(ObjectMissing):
            async with objects.local("a/b"):
                pass
        await objects.delete("a/b")

    asyncio.run(work())


def test_deleted_is_gone_and_lists_go_by_prefix(objects: Objects) -> None:
    async def work() -> None:
        for key in ("history/aa/1", "history/ab/2", "voices/aa/3"):
            await objects.put(key, b"x")
        await objects.delete("history/aa/1")
        assert [found.key async for found in objects.list("history")] == ["history/ab/2"]
        assert sorted([found.key async for found in objects.list()]) == [
            "history/ab/2",
            "voices/aa/3",
        ]

    asyncio.run(work())


def test_unfinished_files_of_the_dead_are_cleared(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "incoming", folder=tmp_path / "objects")
    writer = objects.open_writer()
    writer.write(DATA)
    assert objects.clear_incoming(time.time() - 60) == 0
    assert objects.clear_incoming(time.time() + 1) == 1
    writer.abandon()


def test_keys_are_random_and_plain() -> None:
    keys = {new_key("history") for _ in range(100)}
    assert len(keys) == 100
    assert all(key.islower() and key.count("/") == 2 for key in keys)


def test_a_folder_can_be_named_by_url(tmp_path: Path) -> None:
    objects = Objects.of(Settings(data=tmp_path / "data", objects_url=f"file://{tmp_path}/store"))
    asyncio.run(objects.put("a/b", DATA))
    assert (tmp_path / "store" / "objects" / "a" / "b").read_bytes() == DATA


def test_a_folder_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not of 'elsewhere'"):
        Objects.of(Settings(data=tmp_path, objects_url="file://elsewhere/store"))


@pytest.mark.skipif(os.name != "posix", reason="other systems have other permissions")
def test_nobody_else_can_read_the_recordings(tmp_path: Path) -> None:
    Objects.of(Settings(data=tmp_path / "data", objects_url=f"file://{tmp_path}/store"))
    for name in ("objects", ".incoming"):
        assert stat.S_IMODE((tmp_path / "store" / name).stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX alone")
def test_an_object_and_its_name_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    objects = Objects(tmp_path / "incoming", folder=tmp_path / "objects")
    key = new_key("history")
    asyncio.run(objects.put(key, b"x" * 256_000))
    path = tmp_path / "objects" / key
    assert {each.stat().st_ino for each in (path, path.parent, path.parent.parent)} <= synced


def test_what_there_is_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "incoming", folder=tmp_path / "objects")

    with no_file_beyond(100_000), pytest.raises(Unavailable, match="no room"):
        asyncio.run(objects.put("history/aa/a", DATA))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    asyncio.run(objects.put("history/aa/a", DATA))
    assert asyncio.run(objects.read("history/aa/a")) == DATA


def test_too_many_open_files_are_told(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "incoming", folder=tmp_path / "objects")
    with no_more_files(), pytest.raises(Unavailable, match="too many files open"):
        objects.open_writer()
    objects.open_writer().abandon()


def test_a_store_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for name, value in (
        ("AWS_ENDPOINT", f"http://127.0.0.1:{port}"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "here"),
    ):
        monkeypatch.setenv(name, value)
    objects = Objects(tmp_path / "incoming", url="s3://bucket/prefix")

    async def work() -> None:
        with pytest.raises(Unavailable, match="object store"):
            await objects.put("history/aa/a", DATA)
        with pytest.raises(Unavailable, match="object store"):
            await collect(objects.stream("history/aa/a"))

    asyncio.run(work())
    assert list((tmp_path / "incoming").iterdir()) == []
