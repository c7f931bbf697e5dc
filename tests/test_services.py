"""A data folder opens, closes and opens again, alone or beside another process."""

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import RunningServer

from menura.services import open_services
from menura.settings import DEFAULT_TIERS, Settings


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
            key = "history/aa/just-stored"
            await one.objects.put(key, b"no row yet")
            async with open_services(settings):
                pass
            assert recording.writer.path.exists()
            assert await one.objects.size(key) == 10
            recording.abandon()
        async with open_services(settings) as again:
            assert [found async for found in again.objects.list()] == []

    asyncio.run(work())


def test_settings_that_contradict_each_other_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="golden"):
        Settings(data=tmp_path, default_tier="golden")


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
