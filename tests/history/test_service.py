"""An item exists exactly if its audio was stored whole, and belongs to its account alone."""

import asyncio
import io
import struct
import threading
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, update
from tests.history.rooms import Room, room, tone
from tests.storage.full import let_grow

from menura.accounts import Charge
from menura.audio.encode import open_encoder
from menura.audio.formats import find_format
from menura.errors import (
    HistoryItemNotFound,
    InvalidCursor,
    InvalidPageSize,
    MissingRequiredField,
    Unavailable,
)
from menura.history import HistoryQuery, NewItem
from menura.history.item_id import LENGTH, is_item_id, new_item_id
from menura.history.wav import to_wav
from menura.storage.tables import HistoryItem, StoredObject


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


async def objects_of(opened: Room) -> list[str]:
    return [found.key async for found in opened.objects.own()]


async def rows_of(opened: Room) -> tuple[int, int]:
    async with opened.database.reading() as session:
        items = await session.scalar(select(func.count()).select_from(HistoryItem))
        objects = await session.scalar(select(func.count()).select_from(StoredObject))
        return items or 0, objects or 0


def test_a_committed_item_can_be_read_and_heard(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            account_id = opened.caller_.account_id
            item = await opened.add(b"whole audio", amount=7)
            found = await opened.history.get(account_id, item.history_item_id)
            assert (found.characters_from, found.characters_to) == (0, 7)
            assert await opened.history.size(found) == 11
            assert await collect(opened.history.audio(found)) == b"whole audio"
            assert await collect(opened.history.audio(found, 2, 5)) == b"ole"
            second = await opened.add(amount=3)
            assert (second.characters_from, second.characters_to) == (7, 10)

    asyncio.run(work())


def test_before_the_commit_nothing_exists_and_nothing_is_charged(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            recording = opened.history.begin()
            recording.write(b"half")
            assert await rows_of(opened) == (0, 0)
            with pytest.raises(HistoryItemNotFound):
                await opened.history.get(opened.caller_.account_id, recording.history_item_id)
            recording.abandon()
            recording.abandon()
            assert await objects_of(opened) == []
            assert list((tmp_path / "incoming").iterdir()) == []
            assert await opened.accounts.credits.used(opened.caller_.account_id) == 0

    asyncio.run(work())


def test_a_commit_that_fails_stores_and_charges_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            recording = opened.history.begin()
            recording.write(b"audio")
            item = NewItem(
                account_id="nobody",
                request_id="r",
                voice_id="v",
                voice_name="v",
                voice_category="premade",
                model_id="m",
                content_type="audio/mpeg",
                output_format="mp3_44100_128",
                settings=None,
            )
            charge = Charge(opened.caller_, "r", 10, 0.6, "speech_to_speech")
            with pytest.raises(Exception, match=r"(?i)foreign.?key"):
                await opened.history.commit(recording, item, charge)
            assert await rows_of(opened) == (0, 0)
            assert await opened.accounts.credits.used(opened.caller_.account_id) == 0
            assert await objects_of(opened) == []

    asyncio.run(work())


def test_deleting_removes_the_audio_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            account_id = opened.caller_.account_id
            item = await opened.add()
            await opened.history.delete(account_id, item.history_item_id)
            assert await rows_of(opened) == (0, 0)
            assert await objects_of(opened) == []
            for call in (opened.history.get, opened.history.delete):
                with pytest.raises(HistoryItemNotFound):
                    await call(account_id, item.history_item_id)

    asyncio.run(work())


def test_an_item_is_deleted_though_its_audio_cannot_be_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            item = await opened.add()
            async with opened.objects.local(item.object_key) as path:
                path.unlink()
            (path / "in the way").mkdir(parents=True)
            await opened.history.delete(opened.caller_.account_id, item.history_item_id)
            assert await rows_of(opened) == (0, 0)

    asyncio.run(work())
    assert "cannot be removed now" in caplog.text


@pytest.mark.parametrize("wanted", ["", "x", "../../etc/passwd", "a" * 200, "\x00", "é"])
def test_ids_that_name_nothing_are_not_found(tmp_path: Path, wanted: str) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            with pytest.raises(HistoryItemNotFound):
                await opened.history.get(opened.caller_.account_id, wanted)
            with pytest.raises(HistoryItemNotFound):
                await opened.history.delete(opened.caller_.account_id, wanted)

    asyncio.run(work())


def test_another_account_sees_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            item = await opened.add()
            stranger = await opened.caller_of_tier("free")
            with pytest.raises(HistoryItemNotFound):
                await opened.history.get(stranger.account_id, item.history_item_id)
            with pytest.raises(HistoryItemNotFound):
                await opened.history.delete(stranger.account_id, item.history_item_id)
            with pytest.raises(HistoryItemNotFound):
                await opened.history.download(
                    stranger.account_id, [item.history_item_id], as_wav=False
                )
            assert (await opened.history.list(stranger.account_id, HistoryQuery())).items == []

    asyncio.run(work())


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_give_every_item_once_in_order_even_while_the_last_is_deleted(
    tmp_path: Path, direction: str
) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            account_id = opened.caller_.account_id
            made = [(await opened.add()).history_item_id for _ in range(9)]
            seen: list[str] = []
            last: str | None = None
            while True:
                page = await opened.history.list(
                    account_id,
                    HistoryQuery(page_size=3, start_after=last, direction=direction),  # type: ignore[arg-type]
                )
                assert len(page.items) == 3
                seen += [item.history_item_id for item in page.items]
                if not page.has_more:
                    break
                last = seen[-1]
                if len(seen) == 3:
                    await opened.history.delete(account_id, last)
            assert seen == (made if direction == "asc" else made[::-1])

    asyncio.run(work())


def test_filters(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            account_id = opened.caller_.account_id
            one = await opened.add(voice_id="v1", voice_name="100% Ada", model_id="m1")
            two = await opened.add(voice_id="v2", voice_name="Bert", model_id="m2")

            async def ids(**filters: object) -> list[str]:
                page = await opened.history.list(account_id, HistoryQuery(**filters))  # type: ignore[arg-type]
                return [item.history_item_id for item in page.items]

            first, second = one.history_item_id, two.history_item_id
            assert await ids() == [second, first]
            assert await ids(voice_ids=["v1"]) == [first]
            assert await ids(model_id="m2") == [second]
            assert await ids(source="STS") == [second, first]
            assert await ids(source="TTS") == []
            assert await ids(search="ada", source="STS") == [first]
            assert await ids(search="0% a", source="STS") == [first]
            assert await ids(search="%", source="STS") == [first]
            for unnamed in ("zzz", "\x00", "ada\x00zzz", 60_000 * "_"):
                assert await ids(search=unnamed, source="STS") == []
            third = (await opened.add(voice_id="v3", voice_name="МАРИЯ")).history_item_id
            assert await ids(search="мария", source="STS") == [third]
            await opened.history.delete(account_id, third)
            # An accent as part of its letter, and as a character of its own.
            for name, search in (("Z\u00c9", "ze\u0301"), ("ZE\u0301", "z\u00e9")):
                fourth = (await opened.add(voice_id="v4", voice_name=name)).history_item_id
                assert await ids(search=search, source="STS") == [fourth]
                await opened.history.delete(account_id, fourth)
            assert await ids(before=one.created_at) == []
            assert await ids(after=two.created_at + 1) == []
            assert len(await ids(after=one.created_at, before=two.created_at + 1)) == 2
            assert await ids(after=-(10**30), before=10**30) == [second, first]

    asyncio.run(work())


def test_bad_questions_are_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            for size in (0, -1, 1001):
                with pytest.raises(InvalidPageSize, match=str(size)):
                    await opened.history.list("a", HistoryQuery(page_size=size))
            for size in (1, 1000):
                await opened.history.list("a", HistoryQuery(page_size=size))
            for cursor in ("x", "a" * 21, "'; DROP TABLE x; --x"):
                with pytest.raises(InvalidCursor):
                    await opened.history.list("a", HistoryQuery(start_after=cursor))
            with pytest.raises(MissingRequiredField):
                await opened.history.list("a", HistoryQuery(search="ada"))

    asyncio.run(work())


def test_several_items_come_as_a_zip_in_constant_memory(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            account_id = opened.caller_.account_id
            big = bytes(range(256)) * 8192
            items = [await opened.add(big + bytes([number])) for number in range(3)]
            wanted = [item.history_item_id for item in items]
            found = await opened.history.download(account_id, wanted + wanted[:1], as_wav=False)
            assert found.media_type == "application/zip"
            pieces = [piece async for piece in found.content]
            assert max(map(len, pieces)) < 300_000
            with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
                assert archive.testzip() is None
                assert archive.namelist() == [f"{name}.mp3" for name in wanted]
                for number, name in enumerate(archive.namelist()):
                    assert archive.read(name) == big + bytes([number])

    asyncio.run(work())


@pytest.mark.parametrize("as_wav", [False, True])
def test_a_zip_can_be_read_as_it_arrives(tmp_path: Path, as_wav: bool) -> None:
    """As Java's ZipInputStream does, which never sees the directory at the end."""

    async def work() -> None:
        async with room(tmp_path) as opened:
            made_as = find_format("ulaw_8000")
            assert made_as is not None
            audio = tone(made_as)
            items = [await opened.add(audio, output_format=made_as.name) for _ in range(2)]
            wanted = [item.history_item_id for item in items]
            account_id = opened.caller_.account_id
            found = await opened.history.download(account_id, wanted, as_wav=as_wav)
            left = await collect(found.content)
            for name in wanted:
                head = struct.unpack_from("<4s5H3L2H", left)
                assert head[0] == b"PK\x03\x04"
                assert head[3] == zipfile.ZIP_DEFLATED
                name_at, data_at = 30, 30 + head[9] + head[10]
                ending = "wav" if as_wav else "ulaw"
                assert left[name_at : name_at + head[9]].decode() == f"{name}.{ending}"
                inflating = zlib.decompressobj(-zlib.MAX_WBITS)
                data = inflating.decompress(left[data_at:])
                assert data.startswith(b"RIFF") if as_wav else data == audio
                sizes = (len(left) - data_at - len(inflating.unused_data), len(data))
                left = inflating.unused_data
                # Only the directory tells of the longer form of this, which has sizes of 8 bytes.
                assert left[:16] == struct.pack("<4s3L", b"PK\x07\x08", zlib.crc32(data), *sizes)
                left = left[16:]
            assert left.startswith(b"PK\x01\x02")

    asyncio.run(work())


def test_what_was_made_by_a_clock_that_stood_still_is_zipped_too(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            items = [await opened.add(bytes([number])) for number in range(2)]
            async with opened.database.writing() as session:
                await session.execute(update(HistoryItem).values(created_at=7))
            found = await opened.history.download(
                opened.caller_.account_id, [item.history_item_id for item in items], as_wav=False
            )
            data = b"".join([piece async for piece in found.content])
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert len(archive.namelist()) == 2

    asyncio.run(work())


def test_one_item_comes_as_itself(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            item = await opened.add(b"one", output_format="opus_48000_64")
            wanted = item.history_item_id
            found = await opened.history.download(
                opened.caller_.account_id, [wanted, wanted], as_wav=False
            )
            assert (found.file_name, found.media_type) == (f"{wanted}.ogg", "audio/ogg")
            assert await collect(found.content) == b"one"
            with pytest.raises(HistoryItemNotFound):
                await opened.history.download(
                    opened.caller_.account_id, [wanted, "missing"], as_wav=False
                )

    asyncio.run(work())


def test_identifiers_sort_by_time() -> None:
    moments = [0.0, 1.0, 1.001, 1_000_000.0, 1_796_083_200.0, 4e9]
    made = [new_item_id(moment) for moment in moments]
    assert made == sorted(made)
    assert all(len(one) == LENGTH and is_item_id(one) for one in made)


def test_several_items_come_as_wav_when_asked(tmp_path: Path) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            names = ("mp3_44100_128", "ulaw_8000")
            items = [
                await opened.add(tone(made_as), output_format=made_as.name)
                for made_as in map(find_format, names)
                if made_as is not None
            ]
            wanted = [item.history_item_id for item in items]
            account_id = opened.caller_.account_id
            found = await opened.history.download(account_id, wanted, as_wav=True)
            with zipfile.ZipFile(io.BytesIO(await collect(found.content))) as archive:
                assert archive.namelist() == [f"{name}.wav" for name in wanted]
                assert all(archive.read(name)[:4] == b"RIFF" for name in archive.namelist())

    asyncio.run(work())


def test_what_grows_beyond_any_measure_as_wav_is_zipped_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500_000)

    async def work() -> None:
        async with room(tmp_path) as opened:
            made_as = find_format("opus_48000_32")
            assert made_as is not None
            encoder = open_encoder(made_as)
            silence = encoder.push(np.zeros(10 * 48_000, np.float32)) + encoder.finish()
            items = [await opened.add(silence, output_format=made_as.name) for _ in range(2)]
            found = await opened.history.download(
                opened.caller_.account_id, [item.history_item_id for item in items], as_wav=True
            )
            with zipfile.ZipFile(io.BytesIO(await collect(found.content))) as archive:
                for name in archive.namelist():
                    assert len(archive.read(name)) == 44 + 2 * 10 * 48_000

    asyncio.run(work())


def test_many_wavs_at_once_keep_nobody_from_storing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Event()

    def slowly(*arguments: Any) -> Any:
        assert ready.wait(30)
        return to_wav(*arguments)

    monkeypatch.setattr("menura.history.download.to_wav", slowly)

    async def act() -> None:
        async with room(tmp_path) as opened:
            item = await opened.add(b"\0" * 4800, output_format="pcm_24000")
            wanted = [item.history_item_id]
            account_id = opened.caller_.account_id
            found = [
                await opened.history.download(account_id, wanted, as_wav=True) for _ in range(50)
            ]
            heard = [asyncio.create_task(collect(one.content)) for one in found]
            try:
                await asyncio.sleep(0.1)
                await asyncio.wait_for(opened.add(), 30)
            finally:
                ready.set()
            assert {len(audio) for audio in await asyncio.gather(*heard)} == {4844}

    asyncio.run(act())


def test_what_the_database_has_no_room_for_leaves_nothing_and_is_deleted_or_kept_later(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        async with room(tmp_path) as opened:
            before = await opened.add()
            await let_grow(opened.database, pages=1)
            with pytest.raises(Unavailable, match="no room"):
                await opened.add(voice_name="A" * 100_000)
            assert await objects_of(opened) == [before.object_key]
            assert await rows_of(opened) == (1, 1)
            await opened.history.delete(opened.caller_.account_id, before.history_item_id)
            assert await objects_of(opened) == []
            await let_grow(opened.database, pages=100_000)
            await opened.add(voice_name="A" * 100_000)
            assert await rows_of(opened) == (1, 1)

    asyncio.run(work())
