"""A token works once, in time, for one purpose."""

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.accounts.house import house

from menura.errors import InvalidApiKey, MissingPermissions
from menura.storage.tables import SingleUseToken


def test_a_token_works_once_and_only_for_its_purpose(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            tokens = opened.accounts.tokens
            token = await tokens.create(caller, "speech_to_speech_live")
            async with opened.database.reading() as session:
                expires_at = await session.scalar(select(SingleUseToken.expires_at))
            assert 14 * 60 < (expires_at or 0) - time.time() <= 15 * 60
            used = await tokens.redeem(token)
            assert used.account_id == caller.account_id
            assert used.permissions == frozenset({"speech_to_speech"})
            with pytest.raises(InvalidApiKey):
                await tokens.redeem(token)
            foreign = await tokens.redeem(await tokens.create(caller, "tts_websocket"))
            assert foreign.permissions == frozenset()

    asyncio.run(work())


def test_a_token_that_is_none_waits_for_no_writer(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened, opened.database.writing():
            async with asyncio.timeout(10):
                with pytest.raises(InvalidApiKey):
                    await opened.accounts.tokens.redeem("sutkn_made_up")

    asyncio.run(work())


def test_of_two_at_once_one_wins(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            token = await opened.accounts.tokens.create(caller, "speech_to_speech_live")
            outcomes = await asyncio.gather(
                *(opened.accounts.tokens.redeem(token) for _ in range(5)), return_exceptions=True
            )
            assert sum(isinstance(outcome, InvalidApiKey) for outcome in outcomes) == 4

    asyncio.run(work())


def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            token = await opened.accounts.tokens.create(caller, "speech_to_speech_live")
            async with opened.database.writing() as session:
                await session.execute(update(SingleUseToken).values(expires_at=int(time.time())))
            with pytest.raises(InvalidApiKey, match="expired"):
                await opened.accounts.tokens.redeem(token)

    asyncio.run(work())


def test_a_token_dies_with_its_key(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            token = await opened.accounts.tokens.create(caller, "speech_to_speech_live")
            await opened.accounts.keys.revoke(caller.account_id, caller.key_id)
            with pytest.raises(InvalidApiKey):
                await opened.accounts.tokens.redeem(token)

    asyncio.run(work())


def test_a_key_that_was_deleted_meanwhile_makes_no_token(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            await opened.accounts.keys.revoke(caller.account_id, caller.key_id)
            with pytest.raises(InvalidApiKey):
                await opened.accounts.tokens.create(caller, "speech_to_speech_live")

    asyncio.run(work())


def test_a_token_gives_no_more_than_its_key(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            reader = await opened.caller(permissions=["voices_read"])
            with pytest.raises(MissingPermissions):
                await opened.accounts.tokens.create(reader, "speech_to_speech_live")
            # Nor more than its key may do by the time it is used.
            talker = await opened.caller(permissions=["speech_to_speech"])
            token = await opened.accounts.tokens.create(talker, "speech_to_speech_live")
            narrowed = {"permissions": ["voices_read"]}
            await opened.accounts.keys.update(talker.account_id, None, talker.key_id, narrowed)
            assert (await opened.accounts.tokens.redeem(token)).permissions == frozenset()

    asyncio.run(work())


def test_a_token_is_bound_to_the_addresses_of_its_key(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            keys, tokens = opened.accounts.keys, opened.accounts.tokens
            account_id = (await opened.accounts.local_account()).account_id
            made = await keys.create(account_id, "home", allowed_ips=["10.0.0.0/24"])
            caller = await keys.authenticate(made.secret, "10.0.0.7")
            used = await tokens.redeem(
                await tokens.create(caller, "speech_to_speech_live"), "10.0.0.8"
            )
            assert used.client_host == "10.0.0.8"
            with pytest.raises(InvalidApiKey, match="address"):
                await tokens.redeem(
                    await tokens.create(caller, "speech_to_speech_live"), "10.0.1.7"
                )

    asyncio.run(work())


def test_expired_tokens_are_removed_when_one_is_made(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path) as opened:
            caller = await opened.caller()
            await opened.accounts.tokens.create(caller, "speech_to_speech_live")
            async with opened.database.writing() as session:
                await session.execute(update(SingleUseToken).values(expires_at=1))
            await opened.accounts.tokens.create(caller, "speech_to_speech_live")
            async with opened.database.reading() as session:
                left = await session.scalar(select(func.count()).select_from(SingleUseToken))
            assert left == 1

    asyncio.run(work())
