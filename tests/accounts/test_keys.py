"""Keys open doors, and only their own; nothing that is stored gives a key away."""

import asyncio
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from tests.accounts.house import house

from menura.accounts.keys import fingerprint
from menura.errors import InvalidApiKey, InvalidParameters, MissingPermissions, NotFound
from menura.settings import Settings


def test_the_first_start_makes_a_key_that_only_the_owner_can_read(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            secret = (tmp_path / "api_key").read_text(encoding="utf-8").strip()
            assert secret.startswith("sk_")
            assert stat.S_IMODE((tmp_path / "api_key").stat().st_mode) == 0o600
            caller = await opened.accounts.keys.authenticate(secret)
            assert caller.tier_name == "enterprise"
            assert caller.may("anything")
        async with house(tmp_path) as opened:
            assert await opened.accounts.open(alone=True) is None
            await opened.accounts.keys.authenticate(secret)

    asyncio.run(work())


def test_a_key_file_without_a_database_is_used_again(tmp_path: Path) -> None:
    async def start() -> str:
        async with house(tmp_path):
            return (tmp_path / "api_key").read_text(encoding="utf-8").strip()

    first = asyncio.run(start())
    for path in tmp_path.glob("menura.db*"):
        path.unlink()
    assert asyncio.run(start()) == first


def test_no_file_but_the_key_file_holds_a_key(tmp_path: Path) -> None:
    async def work() -> list[str]:
        async with house(tmp_path) as opened:
            account = await opened.accounts.local_account()
            made = await opened.accounts.keys.create(account.account_id, "second")
            caller = await opened.accounts.keys.authenticate(made.secret)
            token = await opened.accounts.tokens.create(caller, "speech_to_speech_live")
            return [(tmp_path / "api_key").read_text(encoding="utf-8").strip(), made.secret, token]

    secrets = asyncio.run(work())
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "api_key":
            content = path.read_bytes()
            # Its first eight characters tell keys apart; more of one is nowhere.
            assert not any(secret[:12].encode() in content for secret in secrets), path
    with closing(sqlite3.connect(tmp_path / "menura.db")) as connection:
        stored = connection.execute("SELECT sha256 FROM api_keys").fetchall()
    assert (fingerprint(secrets[1]),) in stored


@pytest.mark.parametrize(
    "secret", ["", "sk_wrong", "sk_" + "0" * 48, "\x00", "schlüssel", "\ud800", "x" * 100_000]
)
def test_a_wrong_key_opens_nothing(tmp_path: Path, secret: str) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            await opened.accounts.keys.authenticate(secret)

    with pytest.raises(InvalidApiKey):
        asyncio.run(work())


def test_a_key_does_what_it_is_permitted_and_names_what_it_misses(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller(permissions=["voices_read", "voices_read"])
            caller.require("voices_read")
            with pytest.raises(MissingPermissions, match="speech_to_speech"):
                caller.require("speech_to_speech")
            nothing = await opened.caller(permissions=[])
            assert not nothing.may("voices_read")

    asyncio.run(work())


def test_expired_disabled_and_revoked_keys_stop_working(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            keys = opened.accounts.keys
            account_id = (await opened.accounts.local_account()).account_id
            past = await keys.create(account_id, "past", expires_at=int(time.time()) - 1)
            with pytest.raises(InvalidApiKey, match="expired"):
                await keys.authenticate(past.secret)
            disabled = await keys.create(account_id, "disabled")
            await keys.update(account_id, None, disabled.key_id, {"disabled": True})
            with pytest.raises(InvalidApiKey, match="disabled"):
                await keys.authenticate(disabled.secret)
            revoked = await keys.create(account_id, "revoked")
            await keys.revoke(account_id, revoked.key_id)
            with pytest.raises(InvalidApiKey):
                await keys.authenticate(revoked.secret)
            with pytest.raises(NotFound):
                await keys.revoke(account_id, revoked.key_id)

    asyncio.run(work())


def test_a_key_may_be_bound_to_addresses(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            keys = opened.accounts.keys
            account_id = (await opened.accounts.local_account()).account_id
            made = await keys.create(account_id, "home", allowed_ips=["10.0.0.0/24", "::1"])
            await keys.authenticate(made.secret, "10.0.0.7")
            await keys.authenticate(made.secret, "::1")
            # As a proxy writes it that listens for IPv4 and IPv6 on one socket.
            await keys.authenticate(made.secret, "::ffff:10.0.0.7")
            for elsewhere in ("10.0.1.7", "::ffff:10.0.1.7", None, "unix:"):
                with pytest.raises(InvalidApiKey, match="address"):
                    await keys.authenticate(made.secret, elsewhere)

    asyncio.run(work())


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            with pytest.raises(InvalidParameters, match="fly"):
                await opened.caller(permissions=["fly"])
            with pytest.raises(InvalidParameters, match="home"):
                await opened.caller(allowed_ips=["home"])
            with pytest.raises(NotFound, match="nobody"):
                await opened.caller(service_account_id="nobody")
            account_id = (await opened.accounts.local_account()).account_id
            for name in ("", "  ", "x" * 201):
                with pytest.raises(InvalidParameters, match="name"):
                    await opened.accounts.keys.create(account_id, name)

    asyncio.run(work())


def test_a_tier_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, default_tier="golden"):
            pass

    with pytest.raises(ValueError, match="golden"):
        asyncio.run(work())


def test_the_local_account_follows_the_settings(tmp_path: Path) -> None:
    async def tier(**options: str) -> str:
        async with house(tmp_path, **options) as opened:
            return (await opened.caller()).tier_name

    assert asyncio.run(tier()) == Settings(data=tmp_path).default_tier
    assert asyncio.run(tier(default_tier="free")) == "free"


def test_another_account_reaches_no_key_and_no_holder(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            keys = opened.accounts.keys
            account_id = (await opened.accounts.local_account()).account_id
            stranger = (await opened.caller_of_tier("free")).account_id
            holder = (await keys.create_service_account(account_id, "robot")).service_account_id
            made = await keys.create(account_id, "theirs", service_account_id=holder)
            for attempt in (
                lambda: keys.update(stranger, holder, made.key_id, {"disabled": True}),
                lambda: keys.revoke(stranger, made.key_id),
                lambda: keys.list_of(stranger, holder),
                lambda: keys.create(stranger, "mine", service_account_id=holder),
                # Nor is it reached under another holder of its own account.
                lambda: keys.update(account_id, None, made.key_id, {"disabled": True}),
            ):
                with pytest.raises(NotFound):
                    await attempt()
            assert {key.account_id for key in await keys.list(stranger)} == {stranger}
            assert await keys.service_accounts(stranger) == []
            await keys.authenticate(made.secret)

    asyncio.run(work())


def test_what_takes_a_key_away_waits_for_the_disk(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            keys, tokens = opened.accounts.keys, opened.accounts.tokens
            caller = await opened.caller()
            token = await tokens.create(caller, "speech_to_speech_live")
            levels: list[int] = []

            def look(connection: Connection) -> None:
                levels.append(int(str(connection.exec_driver_sql("PRAGMA synchronous").scalar())))

            event.listen(opened.database._engine.sync_engine, "commit", look)
            await tokens.redeem(token)
            await keys.update(caller.account_id, None, caller.key_id, {"disabled": True})
            await keys.revoke(caller.account_id, caller.key_id)
            assert levels == [2, 2, 2]

    asyncio.run(work())
