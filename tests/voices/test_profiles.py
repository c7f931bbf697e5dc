"""Voices as engines know them: measured anew, shared, and what happens to them meanwhile."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.voices.house import FEMALE, GEORGE, House, inside

from menura.conversion.cores import Cores
from menura.engine.registry import engine_for
from menura.errors import AudioTooLong, Conflict, VoiceNotFound
from menura.services import open_services
from menura.voices import profiles
from menura.voices.card import Card
from menura.voices.profiles import Profiles
from menura.voices.store import VoiceStore


class NewerEngine:
    """The real engine under another version, as after an update."""

    def __init__(self, version: str) -> None:
        self._engine: Any = engine_for()
        self.version = version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def test_an_updated_engine_measures_anew_once(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        await house.voices.preview(house.account_id, voice_id)
        newer: Any = NewerEngine("another")
        first, second = await asyncio.gather(
            house.voices.profile(voice_id, newer), house.voices.profile(voice_id, newer)
        )
        assert first is second
        assert len(await house.keys()) == 2
        assert (await house.voices.profile(GEORGE, newer)).to_bytes()

    inside(tmp_path, act)


def test_a_clone_that_is_edited_meanwhile_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        engine = engine_for()
        read = house.services.objects.read

        async def read_after_an_edit(key: str) -> bytes:
            monkeypatch.undo()
            await house.voices.edit(house.maker, voice_id, Card("New"), [house.upload(FEMALE)])
            return await read(key)

        monkeypatch.setattr(house.services.objects, "read", read_after_an_edit)
        assert await house.voices.profile(voice_id, engine)
        assert (await house.voices.get(house.account_id, voice_id)).name == "New"

    inside(tmp_path, act)


def until_somebody_waits(cores: Cores) -> None:
    while not cores.waiting:
        time.sleep(0.01)


@pytest.mark.parametrize("what", ["edit", "delete_sample", "profile"])
def test_a_voice_deleted_while_it_is_measured_is_not_found(tmp_path: Path, what: str) -> None:
    async def act(house: House) -> None:
        uploads = [house.upload(), house.upload(FEMALE), house.upload(FEMALE)]
        voice = await house.voices.create(house.maker, Card("Gone"), uploads)
        voice_id, samples = voice.voice_id, voice.samples or ()
        newer: Any = NewerEngine("another")
        cores = house.services.conversion.cores
        # It waits with the first recording open, and comes to the others when they are gone.
        cores.acquire()
        work: Any = {
            "edit": lambda: house.voices.edit(
                house.maker, voice_id, Card("Kept"), [house.upload(FEMALE)]
            ),
            "delete_sample": lambda: house.voices.delete_sample(
                house.account_id, voice_id, samples[0].sample_id
            ),
            "profile": lambda: house.voices.profile(voice_id, newer),
        }[what]
        working = asyncio.create_task(work())
        await asyncio.to_thread(until_somebody_waits, cores)
        await house.voices.delete(house.account_id, voice_id)
        cores.release()
        with pytest.raises(VoiceNotFound):
            await working
        assert not await house.keys()

    inside(tmp_path, act, cores=1)


def test_measuring_keeps_to_the_cores(tmp_path: Path) -> None:
    cores = Cores(1)
    held = most = 0

    @contextmanager
    def turn() -> Iterator[None]:
        nonlocal held, most
        with cores.turn():
            held += 1
            most = max(most, held)
            yield
            held -= 1

    async def act(house: House) -> None:
        services = house.services
        stores = services.settings, services.database, services.objects
        profiles = Profiles(*stores, turn)
        house.voices = VoiceStore(*stores, profiles)
        await asyncio.gather(house.clone("A"), house.clone("B"))
        await profiles.close()
        assert (most, held) == (1, 0)

    inside(tmp_path, act, cores=2)


def test_the_longest_recordings_are_a_setting(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        with pytest.raises(AudioTooLong, match="3 seconds"):
            await house.clone()
        assert await house.keys() == set()

    inside(tmp_path, act, max_voice_seconds=3)


def test_a_clones_preview_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        preview = await house.voices.preview(house.account_id, voice_id)
        assert len(await house.keys()) == 3
        monkeypatch.setattr(profiles, "make_preview", None)
        assert await house.voices.preview(house.account_id, voice_id) == preview

    inside(tmp_path, act)


def test_a_preview_that_many_ask_for_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []
    real = profiles.make_preview

    def counted(*arguments: Any) -> bytes:
        made.append(real(*arguments))
        return made[-1]

    async def act(house: House) -> None:
        voice_id = await house.clone()
        monkeypatch.setattr(profiles, "make_preview", counted)
        asked = [house.voices.preview(house.account_id, voice_id) for _ in range(4)]
        assert set(await asyncio.gather(*asked)) == set(made)
        assert len(made) == 1

    inside(tmp_path, act)


def test_a_preview_asked_for_during_an_edit_is_of_the_voice_as_edited(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        cores = house.services.conversion.cores
        cores.acquire()
        recordings = [house.upload(FEMALE)]
        editing = asyncio.create_task(
            house.voices.edit(house.maker, voice_id, Card("New"), recordings)
        )
        await asyncio.to_thread(until_somebody_waits, cores)
        asked = asyncio.create_task(house.voices.preview(house.account_id, voice_id))
        await asyncio.sleep(0.2)
        cores.release()
        await editing
        heard = await asked
        other = await house.voices.create(
            house.maker, Card("Same"), [house.upload(), house.upload(FEMALE)]
        )
        assert heard == await house.voices.preview(house.account_id, other.voice_id)

    inside(tmp_path, act, cores=1)


def test_noise_is_removed_from_a_clones_recordings_when_asked(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        made = [
            await house.voices.create(
                house.maker, Card("Mine"), [house.upload()], remove_background_noise=asked
            )
            for asked in (False, True)
        ]
        flags = [sample.remove_background_noise for voice in made for sample in voice.samples or ()]
        assert flags == [False, True]
        plain, clean = [
            (await house.voices.profile(voice.voice_id, engine_for())).to_bytes() for voice in made
        ]
        assert plain != clean

    inside(tmp_path, act)


def test_recordings_that_another_process_changes_meanwhile_are_a_conflict(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        uploads = [house.upload(), house.upload(FEMALE)]
        voice = await house.voices.create(house.maker, Card("Mine"), uploads)
        voice_id, samples = voice.voice_id, voice.samples or ()
        cores = house.services.conversion.cores
        cores.acquire()
        working = asyncio.create_task(
            house.voices.edit(house.maker, voice_id, Card("Late"), [house.upload(FEMALE)])
        )
        await asyncio.to_thread(until_somebody_waits, cores)
        async with open_services(house.services.settings) as other:
            await other.voices.delete_sample(house.account_id, voice_id, samples[1].sample_id)
        cores.release()
        with pytest.raises(Conflict):
            await working
        left = await house.voices.get(house.account_id, voice_id)
        assert left.name == "Mine"
        assert [sample.sample_id for sample in left.samples or ()] == [samples[0].sample_id]

    inside(tmp_path, act, cores=1)
