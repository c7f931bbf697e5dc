"""The voice store over a real database, object store and engine."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from menura.conversion.cores import Cores
from menura.engine.interface import ConversionSettings
from menura.engine.registry import engine_for
from menura.errors import (
    BadRequest,
    InvalidAudioFormat,
    InvalidParameters,
    MissingRequiredField,
    SampleNotFound,
    VoiceAccessDenied,
    VoiceLimitReached,
    VoiceNotFound,
)
from menura.services import Services, open_services
from menura.settings import Settings
from menura.voices import store
from menura.voices.search import VoiceQuery
from menura.voices.settings import VoiceSettings
from menura.voices.store import Card, Maker, Upload, clean_file_name, parse_labels

SPEECH = Path(__file__).parent.parent / "speech"
MALE = SPEECH / "male_librispeech_1235.flac"
FEMALE = SPEECH / "female_ljspeech.flac"
GEORGE = "JBFqnCBsd6RMkjVDRZzb"


class House:
    """Open services and the local account."""

    def __init__(self, services: Services, account_id: str) -> None:
        self.services = services
        self.voices = services.voices
        self.account_id = account_id
        self.maker = Maker(account_id, "key", 5)

    def upload(self, path: Path = MALE, data: bytes | None = None) -> Upload:
        writer = self.voices.receive()
        writer.write(path.read_bytes() if data is None else data)
        return Upload(path.name, writer)

    async def clone(self, name: str = "Mine", path: Path = MALE) -> str:
        voice = await self.voices.create(self.maker, Card(name), [self.upload(path)])
        return voice.voice_id

    async def keys(self) -> set[str]:
        return {found.key async for found in self.services.objects.own()}

    def unfinished(self) -> list[Path]:
        return list((self.services.settings.data / "incoming").iterdir())


def inside(folder: Path, act: Callable[[House], Awaitable[Any]], **options: Any) -> Any:
    """Run `act` in opened services over a data folder."""

    async def run() -> Any:
        async with open_services(Settings(data=folder, **options)) as services:
            account = await services.accounts.local_account()
            return await act(House(services, account.account_id))

    return asyncio.run(run())


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

        await voices.edit(house.maker, made.voice_id, Card("Ours"), [house.upload(FEMALE)])
        voice = await voices.get(house.account_id, made.voice_id)
        assert (voice.name, voice.description) == ("Ours", "Me at home")
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
        assert preview.media_type == "audio/mpeg"
        assert (await voices.preview(house.account_id, made.voice_id)).data == preview.data

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
        monkeypatch.setattr(store, "_sample_rows", None)
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


def test_limits(tmp_path: Path) -> None:
    async def act(house: House) -> None:
        few = Maker(house.account_id, None, 1)
        await house.voices.create(few, Card("One"), [house.upload()])
        with pytest.raises(VoiceLimitReached, match="1 voices"):
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
        assert (await voices.preview(house.account_id, GEORGE)).data
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


def test_a_clone_that_is_edited_meanwhile_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(house: House) -> None:
        voice_id = await house.clone()
        engine = engine_for()
        read = house.services.objects.read
        house.voices._profiles.clear()

        async def read_after_an_edit(key: str) -> bytes:
            monkeypatch.undo()
            await house.voices.edit(house.maker, voice_id, Card("New"), [house.upload(FEMALE)])
            house.voices._profiles.clear()
            return await read(key)

        monkeypatch.setattr(house.services.objects, "read", read_after_an_edit)
        assert await house.voices.profile(voice_id, engine)

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
        cores = Cores(1)
        house.voices._cores = cores
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

    inside(tmp_path, act)


def test_measuring_keeps_to_the_cores(tmp_path: Path) -> None:
    class Counted(Cores):
        held = 0
        most = 0

        def acquire(self) -> None:
            super().acquire()
            self.held += 1
            self.most = max(self.most, self.held)

        def release(self) -> None:
            self.held -= 1
            super().release()

    async def act(house: House) -> None:
        cores = Counted(1)
        house.voices._cores = cores
        await asyncio.gather(house.clone("A"), house.clone("B"))
        assert (cores.most, cores.held) == (1, 0)

    inside(tmp_path, act, cores=2)


@pytest.mark.parametrize(
    ("text", "labels"),
    [("", None), ("null", None), (" ", None), ("{}", {}), ('{"age": "old"}', {"age": "old"})],
)
def test_labels(text: str, labels: dict[str, str] | None) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["[]", "x", '"x"', "3", '{"age": 3}', '{"age": null}', "{" * 9999])
def test_labels_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameters) as refused:
        parse_labels(text)
    assert refused.value.param == "labels"


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        ("me.wav", "me.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\voice one.mp3", "voice one.mp3"),
        ('a"b\r\nc.wav', "a_b__c.wav"),
        ("日本語.wav", "日本語.wav"),
        ("..", ""),
        (None, ""),
        ("x" * 300, "x" * 120),
        ("x" * 300 + ".flac", "x" * 115 + ".flac"),
        ("हिन्दी आवाज़.wav", "हिन्दी आवाज़.wav"),
        ("Zoe\u0308 take [1]! \N{BIRD}.wav", "Zo\u00eb take [1]! \N{BIRD}.wav"),
        ("left\u202eright.wav", "left_right.wav"),
    ],
)
def test_file_names_are_made_harmless(claimed: str | None, kept: str) -> None:
    assert clean_file_name(claimed) == kept
