"""A data folder opens, closes and opens again, alone or beside another process."""

import asyncio
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from tests.conftest import RunningServer

from menura.services import CannotOpenError, open_services
from menura.settings import DEFAULT_TIERS, Settings
from menura.storage.objects import new_key
from menura.storage.tables import LeaseRow, StoredObject


def test_the_first_key_is_told_once(tmp_path: Path) -> None:
    async def start() -> str | None:
        async with open_services(Settings(data=tmp_path / "data")) as services:
            if services.first_key is not None:
                assert services.first_key not in repr(services)
            return services.first_key

    first = asyncio.run(start())
    assert first is not None
    assert first == (tmp_path / "data" / "api_key").read_text(encoding="utf-8").strip()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert asyncio.run(start()) is None


@pytest.mark.parametrize("name", ["what?", "a%20b", "a b", "#1"])
def test_whatever_the_folder_is_called_all_is_in_it(tmp_path: Path, name: str) -> None:
    store = tmp_path / "store" / name

    async def work() -> None:
        settings = Settings(data=tmp_path / name, objects_url=store.as_uri())
        async with open_services(settings) as services:
            await services.objects.put(new_key("history"), b"audio")

    asyncio.run(work())
    assert {path.name for path in tmp_path.iterdir()} == {name, "store"}
    assert (tmp_path / name / "menura.db").is_file()
    assert list((store / "objects" / "history").iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"database_url": "postgresql://me:S3CRET@db:no_port/menura"},
        {"database_url": "postgresql://me:S3/CRET@db:no_port/menura"},
        {"database_url": "postgresql://me:S3?CRET@db:no_port/menura?ssl=S3CRET"},
        {"database_url": "me:S3CRET@db/menura"},
        {"database_url": "mysql://me:S3CRET@db/menura"},
        {"objects_url": "http://me:S3CRET@127.0.0.1:1/store?sig=S3CRET"},
    ],
)
def test_what_cannot_be_opened_is_named_without_its_password(
    tmp_path: Path, options: dict[str, str]
) -> None:
    async def work() -> None:
        async with open_services(Settings(data=tmp_path, **options)):
            raise AssertionError

    with pytest.raises(CannotOpenError) as caught:
        asyncio.run(work())
    assert "S3" not in str(caught.value)
    assert "CRET" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")
def test_only_the_owner_enters_whatever_the_folder_was_like(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    key = data / "api_key"
    secret = "sk_" + 48 * "a"
    key.write_text(secret + "\n", encoding="utf-8-sig")
    key.chmod(0o644)

    async def work() -> None:
        async with open_services(Settings(data=data)) as services:
            assert services.first_key == secret
            assert await services.accounts.key_file_works()

    before = os.umask(0)
    try:
        asyncio.run(work())
    finally:
        os.umask(before)
    for name in ("api_key", "menura.db", "objects", "incoming"):
        assert stat.S_IMODE((data / name).stat().st_mode) & 0o077 == 0, name


def test_a_command_may_work_beside_a_running_server(
    server: Callable[..., RunningServer],
) -> None:
    started = server()

    async def make_key() -> str:
        async with open_services(Settings(data=started.settings.data)) as services:
            account = await services.accounts.local_account()
            return (await services.accounts.keys.create(account.account_id, "new")).secret

    secret = asyncio.run(make_key())
    with started.anonymous(headers={"xi-api-key": secret}) as client:
        assert client.get("/v1/user").status_code == 200
    assert started.client.get("/v1/user").status_code == 200


def test_what_is_being_written_survives_the_start_of_another_process(tmp_path: Path) -> None:
    async def work() -> None:
        settings = Settings(data=tmp_path)
        async with open_services(settings) as one:
            recording = one.history.begin()
            recording.write(b"half")
            key = new_key("history")
            await one.objects.put(key, b"no row yet")
            async with open_services(settings):
                pass
            assert recording.writer.path.exists()
            assert await one.objects.size(key) == 10
            recording.abandon()
        async with open_services(settings, sweeping=True) as again:
            assert [found async for found in again.objects.own()] == []

    asyncio.run(work())


def test_what_a_killed_process_was_writing_goes_whoever_has_the_store(tmp_path: Path) -> None:
    async def work() -> None:
        settings = Settings(data=tmp_path, objects_url="memory:///")
        left = tmp_path / "incoming" / "incoming-left"
        left.parent.mkdir()
        left.write_bytes(b"half a recording")
        async with open_services(settings, sweeping=True) as one:
            assert not left.exists()
            recording = one.history.begin()
            async with open_services(settings, sweeping=True):
                assert recording.writer.path.exists()
            recording.abandon()

    asyncio.run(work())


async def kept(settings: Settings) -> str:
    """Store an object that a row refers to; return its key."""
    async with open_services(settings) as services:
        key = new_key("history")
        size, digest = await services.objects.put(key, b"a voice")
        async with services.database.writing(durable=True) as session:
            session.add(StoredObject(key=key, size=size, sha256=digest))
        return key


def test_a_store_is_no_other_databases(tmp_path: Path) -> None:
    async def work() -> None:
        one = Settings(data=tmp_path / "one", objects_url=f"file://{tmp_path / 'store'}")
        other = Settings(data=tmp_path / "two", objects_url=one.objects_url)
        key = await kept(one)
        for _ in range(2):
            with pytest.raises(CannotOpenError, match="belongs to another database"):
                async with open_services(other, sweeping=True):
                    pass
        async with open_services(one, sweeping=True) as services:
            assert await services.objects.read(key) == b"a voice"

    asyncio.run(work())


@pytest.mark.parametrize("marked", [True, False])
def test_a_lost_database_takes_no_audio_with_it(tmp_path: Path, marked: bool) -> None:
    settings = Settings(data=tmp_path)
    owner = tmp_path / "objects" / "owner"

    async def fails() -> None:
        with pytest.raises(CannotOpenError, match="store of its own"):
            async with open_services(settings, sweeping=True):
                pass

    async def works(key: str) -> None:
        async with open_services(settings, sweeping=True) as services:
            assert await services.objects.read(key) == b"a voice"

    key = asyncio.run(kept(settings))
    for path in list(tmp_path.glob("menura.db*")):
        path.rename(tmp_path / f"lost-{path.name}")
    if not marked:  # as stores of earlier versions are, in which a killed process left an orphan
        owner.unlink()
        orphan = tmp_path / "objects" / "history" / "00" / ("0" * 32)
        orphan.parent.mkdir()
        orphan.write_bytes(b"orphan")
    asyncio.run(fails())
    for path in list(tmp_path.glob("lost-*")):
        path.rename(tmp_path / path.name.removeprefix("lost-"))
    asyncio.run(works(key))
    assert owner.exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="asks what root may do")
def test_root_leaves_nothing_in_somebody_elses_folder(tmp_path: Path) -> None:
    async def work() -> None:
        settings = Settings(data=tmp_path)
        async with open_services(settings):
            pass
        os.chown(tmp_path / "menura.db", 65534, 65534)
        with pytest.raises(CannotOpenError, match="sudo -u '#65534'"):
            async with open_services(settings):
                pass

    asyncio.run(work())


def test_a_newer_database_is_said_to_be_newer(tmp_path: Path) -> None:
    async def work() -> None:
        settings = Settings(data=tmp_path)
        async with open_services(settings) as services, services.database.writing() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(CannotOpenError, match="revision 9999, and this one knows"):
            async with open_services(settings):
                pass

    asyncio.run(work())


def test_the_settings_file_may_lie_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text("max_seconds = 77\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("MENURA_CONFIG", "~/own.toml")
    assert Settings(data=tmp_path / "data").max_seconds == 77


def test_a_tier_is_added_or_changed_beside_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "menura.toml"
    file.write_text(
        "[tiers.studio]\nconcurrency = 8\n[tiers.free]\ncredits = 7\n", encoding="utf-8"
    )
    monkeypatch.setenv("MENURA_CONFIG", str(file))
    settings = Settings(data=tmp_path)
    assert settings.tiers["studio"].concurrency == 8
    assert settings.tiers["free"].credits == 7
    assert settings.tiers["free"].concurrency == DEFAULT_TIERS["free"].concurrency
    assert settings.tiers["enterprise"] == DEFAULT_TIERS["enterprise"]


def test_a_shared_store_is_swept_of_what_is_old_while_the_server_runs(tmp_path: Path) -> None:
    shared = {
        "database_url": f"sqlite:///{tmp_path / 'shared.db'}",
        "objects_url": f"file://{tmp_path / 'store'}",
    }

    async def work() -> None:
        async with open_services(Settings(data=tmp_path / "one", **shared)) as services:
            old, young = new_key("history"), new_key("history")
            for key in (old, young):
                await services.objects.put(key, b"no row")
        (place,) = (tmp_path / "store").rglob(old.rpartition("/")[2])
        then = time.time() - 7_200
        os.utime(place, (then, then))
        async with open_services(Settings(data=tmp_path / "one", **shared), sweeping=True) as again:
            while place.exists():  # noqa: ASYNC110  the sweep tells nobody
                await asyncio.sleep(0.01)
            assert await again.objects.size(young) == 6

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_start_beside_a_machine_on_the_same_store_takes_nothing_from_it(tmp_path: Path) -> None:
    shared = {
        "database_url": f"sqlite:///{tmp_path / 'shared.db'}",
        "objects_url": f"file://{tmp_path / 'store'}",
    }

    async def work() -> None:
        async with open_services(Settings(data=tmp_path / "one", **shared), sweeping=True) as one:
            recording = one.history.begin()
            recording.write(b"half")
            key = new_key("history")
            await one.objects.put(key, b"no row yet")
            account_id = (await one.accounts.local_account()).account_id
            made = await one.accounts.keys.create(account_id, "new")
            caller = await one.accounts.keys.authenticate(made.secret)
            async with one.accounts.leases.acquire(caller):
                async with open_services(Settings(data=tmp_path / "two", **shared), sweeping=True):
                    pass
                async with one.database.reading() as session:
                    leases = await session.scalar(select(func.count()).select_from(LeaseRow))
                assert leases == 1
            assert await one.objects.size(key) == 10
            assert recording.writer.path.exists()
            recording.abandon()

    asyncio.run(work())
