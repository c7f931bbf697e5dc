"""The voice store over a real database, object store and engine."""

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event, update
from tests.accounts.house import add_account
from tests.sounds import speech, wav
from tests.storage.full import no_file_beyond
from tests.voices.house import FEMALE, GEORGE, MALE, House, inside

from menura.engine.interface import ConversionSettings
from menura.engine.registry import engine_for
from menura.errors import (
    BadRequest,
    InvalidAudioFormat,
    InvalidParameters,
    MissingRequiredField,
    SampleNotFound,
    Unavailable,
    VoiceAccessDenied,
    VoiceLimitReached,
    VoiceNotFound,
)
from menura.storage.database import SQLITE_FILE
from menura.storage.tables import VoiceRow
from menura.voices import rows
from menura.voices.card import Card
from menura.voices.search import VoiceQuery
from menura.voices.settings import VoiceSettings
from menura.voices.store import Maker


async def say_much(house: House, voice_id: str) -> None:
    for number in range(12):
        said = Card("Ours", consent=f"{number:>2} " + "a" * 1_900)
        await house.voices.edit(house.maker, voice_id, said)


def test_the_life_of_a_clone(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voices = house.voices
        made = await voices.create(
            house.maker,
            Card("Mine", "Me at home", {"gender": "male"}, "My own voice."),
            [house.upload()],
        )
        voice = await voices.get(house.account_id, made.voice_id)
        assert voice == made
        assert (voice.name, voice.category, voice.description) == ("Mine", "cloned", "Me at home")
        assert voice.labels == {"gender": "male"}
        assert (voice.consent, voice.created_by) == ("My own voice.", "key")
        assert voice.recording_quality in {"good", "ok", "poor"}
        (sample,) = voice.samples or ()
        assert (sample.file_name, sample.mime_type) == (MALE.name, "audio/flac")
        audio = b"".join([piece async for piece in voices.sample_audio(sample)])
        assert audio == MALE.read_bytes()
        assert sample.size == len(audio)

        engine = engine_for()
        before = await voices.profile(made.voice_id, engine)
        assert await voices.profile(made.voice_id, engine) is before

        ours = Card("Ours", consent="We both agree.")
        await voices.edit(house.maker, made.voice_id, ours, [house.upload(FEMALE)])
        voice = await voices.get(house.account_id, made.voice_id)
        assert (voice.name, voice.description) == ("Ours", "Me at home")
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        stated = f"My own voice.\n\nAdded {today} by key key: We both agree."
        assert voice.consent == stated
        await voices.edit(house.maker, made.voice_id, ours)
        assert (await voices.get(house.account_id, made.voice_id)).consent == stated
        with pytest.raises(InvalidParameters, match="consent"):
            await say_much(house, made.voice_id)
        kept = (await voices.get(house.account_id, made.voice_id)).consent or ""
        assert kept.startswith(stated)
        assert voice.labels == {"gender": "male"}
        assert [sample.file_name for sample in voice.samples or ()] == [MALE.name, FEMALE.name]
        both = await voices.profile(made.voice_id, engine)
        assert both.to_bytes() != before.to_bytes()

        await voices.delete_sample(house.account_id, made.voice_id, sample.sample_id)
        female = await voices.profile(made.voice_id, engine)
        assert female.to_bytes() not in {before.to_bytes(), both.to_bytes()}
        with pytest.raises(SampleNotFound):
            await voices.delete_sample(house.account_id, made.voice_id, sample.sample_id)
        (left,) = (await voices.get(house.account_id, made.voice_id)).samples or ()
        with pytest.raises(BadRequest, match="last sample"):
            await voices.delete_sample(house.account_id, made.voice_id, left.sample_id)

        preview = await voices.preview(house.account_id, made.voice_id)
        assert await voices.preview(house.account_id, made.voice_id) == preview

        await voices.delete(house.account_id, made.voice_id)
        with pytest.raises(VoiceNotFound):
            await voices.get(house.account_id, made.voice_id)
        with pytest.raises(VoiceNotFound):
            await voices.profile(made.voice_id, engine)
        assert await house.keys() == set()
        assert house.unfinished() == []

    inside(tmp_path, act)


def test_a_clone_outlives_the_process(tmp_path: Path) -> None:
    voice_id = inside(tmp_path, House.clone)

    async def act(house: House) -> None:
        assert (await house.voices.get(house.account_id, voice_id)).name == "Mine"
        assert await house.voices.count(house.account_id) == 1
        assert len(await house.keys()) == 2
        assert (await house.voices.profile(voice_id, engine_for())).to_bytes()

    inside(tmp_path, act)


def test_a_refused_clone_leaves_nothing(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        text = house.upload(Path("notes.txt"), b"Not a recording, only words on paper. " * 9)
        with pytest.raises(InvalidAudioFormat, match=r"notes\.txt"):
            await house.voices.create(house.maker, Card("Mine"), [house.upload(), text])
        assert await house.voices.count(house.account_id) == 0
        assert await house.keys() == set()
        assert house.unfinished() == []

    inside(tmp_path, act)


def test_a_failure_at_the_last_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(house: House) -> None:
        monkeypatch.setattr(rows, "sample_rows", None)
        with pytest.raises(TypeError):
            await house.voices.create(house.maker, Card("Mine"), [house.upload()])
        assert await house.voices.count(house.account_id) == 0
        assert await house.keys() == set()

    inside(tmp_path, act)


def test_a_refused_edit_changes_nothing(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        before = await house.voices.get(house.account_id, voice_id)
        keys = await house.keys()
        broken = house.upload(Path("broken.flac"), MALE.read_bytes()[:200])
        with pytest.raises(Exception, match=r"broken\.flac"):
            await house.voices.edit(house.maker, voice_id, Card("Other"), [broken])
        assert await house.voices.get(house.account_id, voice_id) == before
        assert await house.keys() == keys

    inside(tmp_path, act)


def test_a_sample_that_the_voice_cannot_be_made_without_stays(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        blip = wav(speech(FEMALE.stem, seconds=0.5), 24_000)
        uploads = [house.upload(MALE), house.upload(FEMALE, blip)]
        made = await house.voices.create(house.maker, Card("Mine"), uploads)
        (needed, _) = made.samples or ()
        with pytest.raises(BadRequest, match="Without this sample"):
            await house.voices.delete_sample(house.account_id, made.voice_id, needed.sample_id)
        assert await house.voices.get(house.account_id, made.voice_id) == made
        assert len(await house.keys()) == 3

    inside(tmp_path, act)


def test_limits(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        few = Maker(house.account_id, None, 1)
        await house.voices.create(few, Card("One"), [house.upload()])
        with pytest.raises(VoiceLimitReached, match="voices to 1;"):
            await house.voices.create(few, Card("Two"), [house.upload()])
        with pytest.raises(InvalidParameters, match="at most 2 recordings"):
            await house.voices.create(house.maker, Card("Two"), [house.upload()] * 3)
        with pytest.raises(MissingRequiredField):
            await house.voices.create(house.maker, Card("Two"), [])
        for card in (
            Card(" "),
            Card("x" * 101),
            Card("x", description="y" * 2001),
            Card("x", labels={str(number): "" for number in range(21)}),
            Card("x", labels={"a": "b" * 101}),
            Card("x\x00"),
            Card("x", labels={"a": "\ud800"}),
        ):
            with pytest.raises(InvalidParameters):
                await house.voices.create(house.maker, card, [house.upload()])

    inside(tmp_path, act, max_voice_files=2)


def test_settings_are_merged_and_belong_to_the_account(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        for each in (voice_id, GEORGE):
            await house.voices.edit_settings(house.account_id, each, VoiceSettings(stability=0.2))
            await house.voices.edit_settings(house.account_id, each, VoiceSettings(style=0.3))
            voice = await house.voices.get(house.account_id, each)
            assert voice.settings == VoiceSettings(stability=0.2, style=0.3)
            assert voice.effective_settings.decided() == ConversionSettings(
                stability=0.2, style=0.3
            )
        own_id = (await house.voices.get(house.account_id, GEORGE)).own_id
        listed = {voice.voice_id: voice for voice in await house.voices.all(house.account_id)}
        assert listed[own_id].settings == VoiceSettings(stability=0.2, style=0.3)
        stranger = await house.voices.get("another account", GEORGE)
        assert stranger.settings is None
        for voice in await house.voices.all("another account"):
            assert voice.settings is None

    inside(tmp_path, act)


def test_another_account_sees_no_clone(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        stranger = Maker("another account", None, 5)
        for attempt in (
            house.voices.get("another account", voice_id),
            house.voices.delete("another account", voice_id),
            house.voices.edit(stranger, voice_id, Card("Stolen")),
            house.voices.edit_settings("another account", voice_id, VoiceSettings(style=1.0)),
            house.voices.preview("another account", voice_id),
            house.voices.delete_sample("another account", voice_id, "sample"),
        ):
            with pytest.raises(VoiceNotFound):
                await attempt
        names = [voice.name for voice in await house.voices.all("another account")]
        assert "Mine" not in names
        assert "Bittern" in names

    inside(tmp_path, act)


def test_premade_voices_cannot_be_changed(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voices = house.voices
        for attempt in (
            voices.delete(house.account_id, GEORGE),
            voices.edit(house.maker, GEORGE, Card("Mine")),
            voices.delete_sample(house.account_id, GEORGE, "sample"),
        ):
            with pytest.raises(VoiceAccessDenied, match=GEORGE):
                await attempt
        with pytest.raises(SampleNotFound):
            await voices.sample(house.account_id, GEORGE, "sample")

    inside(tmp_path, act)


def test_aliases_work_wherever_an_id_does(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voices = house.voices
        voice = await voices.get(house.account_id, GEORGE)
        assert voice.voice_id == GEORGE
        engine = engine_for()
        assert await voices.profile(GEORGE, engine) is await voices.profile(voice.own_id, engine)
        page = await voices.search(house.account_id, VoiceQuery(voice_ids=[GEORGE]))
        assert [found.voice_id for found in page.voices] == [GEORGE]
        assert await voices.preview(house.account_id, GEORGE)
        assert (await voices.find(house.account_id, GEORGE)).own_id == voice.own_id

    inside(tmp_path, act)


def test_voices_are_found_by_name(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        assert (await house.voices.find(house.account_id, "bittern")).name == "Bittern"
        with pytest.raises(VoiceNotFound, match="Bittern"):
            await house.voices.find(house.account_id, "nobody")
        for hostile in ("../../etc/passwd", "a" * 65, "", "%2e", "\x00"):
            with pytest.raises(VoiceNotFound):
                await house.voices.get(house.account_id, hostile)

    inside(tmp_path, act)


def test_edits_at_the_same_time_both_count(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        await asyncio.gather(
            house.voices.edit(house.maker, voice_id, Card("A"), [house.upload(FEMALE)]),
            house.voices.edit(house.maker, voice_id, Card("B"), [house.upload(FEMALE)]),
        )
        voice = await house.voices.get(house.account_id, voice_id)
        assert len(voice.samples or ()) == 3
        assert len(await house.keys()) == 4

    inside(tmp_path, act)


def test_every_account_has_its_own_number_of_clones(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        await add_account(house.services.database, "stranger", workspace="elsewhere")
        theirs = Maker("stranger", None, 1)
        await house.voices.create(theirs, Card("Theirs"), [house.upload()])
        assert await house.voices.count(house.account_id) == 0
        only = Maker(house.account_id, None, 1)
        # Of two at once there is room for one, though both are measured.
        made = await asyncio.gather(
            *(house.voices.create(only, Card(name), [house.upload()]) for name in "AB"),
            return_exceptions=True,
        )
        assert sum(isinstance(each, VoiceLimitReached) for each in made) == 1
        assert await house.voices.count(house.account_id) == 1
        assert len(await house.keys()) == 4

    inside(tmp_path, act)


def test_recordings_added_to_a_poor_clone_make_it_better(tmp_path: Path) -> None:
    def short() -> bytes:
        return wav(speech(FEMALE.stem, seconds=3.0), 24_000)

    async def act(house: House) -> None:
        made = await house.voices.create(house.maker, Card("Mine"), [house.upload(FEMALE, short())])
        assert made.recording_quality_reason is not None
        assert "short" in made.recording_quality_reason
        await house.voices.edit(house.maker, made.voice_id, Card("Mine"), [house.upload(FEMALE)])
        better = await house.voices.get(house.account_id, made.voice_id)
        assert "short" not in (better.recording_quality_reason or "")

    inside(tmp_path, act)


def test_clones_are_listed_newest_first_and_samples_have_their_hash(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        old, new = await house.clone("Old"), await house.clone("New")
        async with house.services.database.writing() as session:
            aged = update(VoiceRow).where(VoiceRow.voice_id == old).values(created_at=1)
            await session.execute(aged)
        listed = await house.voices.all(house.account_id)
        assert [voice.voice_id for voice in listed[:2]] == [new, old]
        (sample,) = listed[0].samples or ()
        assert sample.sha256 == hashlib.sha256(MALE.read_bytes()).hexdigest()

    inside(tmp_path, act)


def test_a_full_disk_is_not_taken_for_a_sample_too_many(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        uploads = [house.upload(), house.upload(FEMALE)]
        made = await house.voices.create(house.maker, Card("Mine"), uploads)
        first = (made.samples or ())[0]
        # What lies in a bucket is copied to the disk to be measured.
        with no_file_beyond(100_000), pytest.raises(Unavailable):
            await house.voices.delete_sample(house.account_id, made.voice_id, first.sample_id)
        await house.voices.delete_sample(house.account_id, made.voice_id, first.sample_id)

    inside(tmp_path, act, objects_url="memory:///")


def test_a_voice_that_another_process_deletes_at_once_was_made_all_the_same(tmp_path: Path) -> None:
    # Who is told of a failure makes it again.
    def delete_all(*_: object) -> None:
        with closing(sqlite3.connect(tmp_path / SQLITE_FILE)) as other, other:
            other.execute("PRAGMA foreign_keys=ON")
            other.execute("DELETE FROM voices")

    async def act(house: House) -> None:
        engine = house.services.database._engine.sync_engine
        # When the transaction that made it has ended.
        event.listen(engine, "checkin", delete_all)
        made = await house.voices.create(house.maker, Card(" Mine "), [house.upload()])
        event.remove(engine, "checkin", delete_all)
        assert (made.name, len(made.samples or ())) == ("Mine", 1)
        assert (await house.voices.all(house.account_id))[0].is_premade

    inside(tmp_path, act)
