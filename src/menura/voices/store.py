"""The voices of an account: premade ones, clones, their settings, samples and measurements.

A clone's recordings and measurement are stored as objects first; its rows come last and together,
so that a voice is listed exactly if it is whole. On deletion the rows go first. Objects left over
by a process that died belong to no row and are swept at the next start.
"""

import asyncio
import json
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Protocol, TypeVar
from unicodedata import category, normalize

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from menura.engine.interface import Engine
from menura.engine.interface import Voice as EngineVoice
from menura.engine.registry import engine_for
from menura.errors import (
    BadRequest,
    Conflict,
    InvalidParameters,
    MenuraError,
    MissingRequiredField,
    SampleNotFound,
    VoiceAccessDenied,
    VoiceLimitReached,
    VoiceNotFound,
)
from menura.ids import is_acceptable, new_id
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.objects import ObjectMissing, Objects, ObjectWriter, new_key
from menura.storage.tables import (
    StoredObject,
    VoiceModelRow,
    VoiceRow,
    VoiceSampleRow,
    VoiceSettingsRow,
)
from menura.storage.text import is_storable
from menura.voices.premade import (
    Premade,
    find_premade,
    measured_premade,
    premade_file,
    premade_voices,
)
from menura.voices.preview import PREVIEW_FORMAT, make_preview
from menura.voices.references import Measured, Recording, judge, measure
from menura.voices.search import VoicePage, VoiceQuery, search_voices
from menura.voices.settings import VoiceSettings, voice_settings
from menura.voices.voice import Sample, Voice

LONGEST_NAME = 100
LONGEST_TEXT = 2000
MOST_LABELS = 20
LONGEST_LABEL = 100
CACHED_VOICES = 128
LONGEST_FILE_NAME = 120
_LONGEST_ENDING = 10

_Result = TypeVar("_Result")


class Permits(Protocol):
    """Gives out the right to compute; `conversion.cores.Cores` is one."""

    def acquire(self) -> None:
        """Wait for a permit."""
        ...

    def release(self) -> None:
        """Give a permit back."""
        ...


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes a voice. voices: how many clones the account may have."""

    account_id: str
    key_id: str | None
    voices: int


@dataclass(frozen=True, slots=True)
class Card:
    """What is said of a voice. None leaves what is stored as it is."""

    name: str
    description: str | None = None
    labels: Mapping[str, str] | None = None
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording that has arrived whole. file_name: as the client claims."""

    file_name: str | None
    writer: ObjectWriter


@dataclass(frozen=True, slots=True)
class Preview:
    """An example spoken in a voice, as a whole file."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """A recording that has become an object but belongs to no row yet."""

    sample_id: str
    file_name: str
    object: StoredObject


def parse_labels(text: str) -> dict[str, str] | None:
    """Read the form field `labels`: a JSON object of strings; `null` and nothing mean none given.

    Raises InvalidParameters.
    """
    if not text.strip():
        return None
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        labels = text
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise InvalidParameters(
            f"labels must be a JSON object of strings, not {text[:60]!r}.", param="labels"
        )
    for name, value in labels.items():
        if not isinstance(value, str):
            raise InvalidParameters(
                f"Label {name[:40]!r} must be a string, not {str(value)[:60]!r}.", param="labels"
            )
    return labels


class VoiceStore:
    """Every voice, for every account. Belongs to the event loop that uses it.

    Its methods raise VoiceNotFound for an id that is unknown or another account's, and
    VoiceAccessDenied for a change to a premade voice. Ids that clients know by heart are accepted
    wherever an id is, see `premade.aliases`.
    """

    def __init__(
        self, settings: Settings, database: Database, objects: Objects, cores: Permits
    ) -> None:
        self._settings = settings
        self._database = database
        self._objects = objects
        self._cores = cores
        self._workers = ThreadPoolExecutor(settings.cores, thread_name_prefix="voices")
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._profiles: OrderedDict[tuple[str, str, str, str], EngineVoice] = OrderedDict()

    async def close(self) -> None:
        """Let running measurements end and free the threads."""
        await asyncio.to_thread(self._workers.shutdown)

    # Reading

    async def all(self, account_id: str) -> list[Voice]:
        """Return every voice the account sees: clones, newest first, then the premade ones."""
        async with self._database.reading() as session:
            rows = await session.scalars(
                select(VoiceRow)
                .where(VoiceRow.account_id == account_id)
                .order_by(VoiceRow.created_at.desc(), VoiceRow.voice_id)
            )
            clones = rows.all()
            samples = await _samples(session, VoiceRow.account_id == account_id)
            stored = await session.scalars(
                select(VoiceSettingsRow).where(VoiceSettingsRow.account_id == account_id)
            )
            settings = {row.voice_id: _stored(row.settings) for row in stored}
        return [_clone(row, samples.get(row.voice_id, ())) for row in clones] + [
            replace(premade.voice, settings=settings.get(voice_id))
            for voice_id, premade in premade_voices().items()
        ]

    async def search(self, account_id: str, query: VoiceQuery) -> VoicePage:
        """Return one page of the account's voices. Raises InvalidPageSize and InvalidCursor."""
        if len(query.voice_ids) > 100:
            raise InvalidParameters(
                f"voice_ids may name at most 100 voices, not {len(query.voice_ids)}.",
                param="voice_ids",
            )
        asked = {
            premade.voice.own_id: voice_id
            for voice_id in query.voice_ids
            if (premade := find_premade(voice_id)) is not None
        }
        voices = [
            replace(voice, voice_id=asked[voice.own_id]) if voice.own_id in asked else voice
            for voice in await self.all(account_id)
        ]
        return search_voices(voices, query)

    async def get(self, account_id: str, voice_id: str) -> Voice:
        """Return one voice under the id that was asked for."""
        _check_id(voice_id)
        premade = find_premade(voice_id)
        async with self._database.reading() as session:
            if premade is not None:
                row = await session.get(VoiceSettingsRow, (account_id, premade.voice.own_id))
                settings = _stored(row.settings) if row else None
                return replace(premade.voice, voice_id=voice_id, settings=settings)
            clone = await _own(session, account_id, voice_id)
            samples = await _samples(session, VoiceRow.voice_id == voice_id)
        return _clone(clone, samples.get(voice_id, ()))

    async def find(self, account_id: str, wanted: str) -> Voice:
        """Return the voice of that id, alias or name (upper and lower case alike).

        Raises VoiceNotFound, and InvalidParameters where the name is that of several.
        """
        with suppress(VoiceNotFound):
            return await self.get(account_id, wanted)
        voices = await self.all(account_id)
        named = [voice for voice in voices if voice.name.casefold() == wanted.casefold()]
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(voice.voice_id for voice in named)
            raise InvalidParameters(
                f"{len(named)} voices are called {wanted!r}; name one by its id: {ids}.",
                param="voice_id",
            )
        names = ", ".join(voice.name for voice in voices)
        raise VoiceNotFound(
            f"There is no voice {wanted[:64]!r}; the voices are {names}.", param="voice_id"
        )

    async def count(self, account_id: str) -> int:
        """Return the number of the account's clones."""
        async with self._database.reading() as session:
            return await _count(session, account_id)

    async def sample(self, account_id: str, voice_id: str, sample_id: str) -> Sample:
        """Return one sample's card. Raises SampleNotFound."""
        voice = await self.get(account_id, voice_id)
        for sample in voice.samples or ():
            if sample.sample_id == sample_id:
                return sample
        raise _no_sample(voice_id, sample_id)

    def sample_audio(
        self, sample: Sample, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a sample's original file, or its bytes from `start` to before `end`.

        Raises ObjectMissing after it was deleted.
        """
        return self._objects.stream(sample.object_key, start, end)

    # Making and changing

    def receive(self) -> ObjectWriter:
        """Open a writer for a recording that is arriving; abandon it if it does not arrive."""
        return self._objects.open_writer()

    async def create(
        self,
        maker: Maker,
        card: Card,
        uploads: Sequence[Upload],
        *,
        remove_background_noise: bool = False,
    ) -> Voice:
        """Make a clone from recordings, which are taken over: kept or abandoned.

        Raises InvalidParameters, MissingRequiredField, VoiceLimitReached, InvalidAudio,
        InvalidAudioFormat, AudioTooLong; then nothing of the voice remains.
        """
        engine = engine_for(self._settings.default_model)
        async with self._unowned(uploads) as unowned:
            _check_card(card)
            self._check_uploads(len(uploads))
            if not uploads:
                raise MissingRequiredField("A voice needs at least one recording.", param="files")
            kept = await self._keep(uploads, unowned)
            measured = await self._measure(
                engine,
                [(sample.file_name, sample.object.key) for sample in kept],
                cleaned=[remove_background_noise] * len(kept),
            )
            model = await self._keep_model(measured, unowned)
            quality, reason = judge(measured.measurement.warnings)
            voice_id = new_id()
            async with self._database.writing(durable=True) as session:
                await _check_room(session, maker)
                session.add_all([model, *(sample.object for sample in kept)])
                await session.flush()
                session.add(
                    VoiceRow(
                        voice_id=voice_id,
                        account_id=maker.account_id,
                        name=card.name.strip(),
                        description=card.description,
                        labels=dict(card.labels or {}),
                        settings=None,
                        created_at=int(time.time()),
                        created_by=maker.key_id,
                        consent=card.consent,
                        recording_quality=quality,
                        recording_quality_reason=reason,
                    )
                )
                await session.flush()
                session.add(_model_row(voice_id, engine, model))
                session.add_all(
                    _sample_rows(voice_id, kept, measured, remove_background_noise, first=0)
                )
            unowned.clear()
        return await self.get(maker.account_id, voice_id)

    async def edit(
        self,
        maker: Maker,
        voice_id: str,
        card: Card,
        uploads: Sequence[Upload] = (),
        *,
        remove_background_noise: bool = False,
    ) -> None:
        """Change a clone's card and add recordings to it; then it is measured anew.

        Raises as `create` does; then nothing has changed.
        """
        async with self._unowned(uploads) as unowned, self._lock(voice_id):
            _check_card(card)
            voice = await self.get(maker.account_id, voice_id)
            self._require_clone(voice)
            before = voice.samples or ()
            self._check_uploads(len(before) + len(uploads))
            kept = await self._keep(uploads, unowned)
            measured = None
            if kept:
                async with self._while_there(voice_id, before):
                    measured = await self._measure_samples(
                        before, kept, remove_background_noise=remove_background_noise
                    )
                model = await self._keep_model(measured, unowned)
            freed: list[str] = []
            async with self._database.writing(durable=True) as session:
                row = await _own(session, maker.account_id, voice_id, to_change=True)
                row.name = card.name.strip()
                if card.description is not None:
                    row.description = card.description
                if card.labels is not None:
                    row.labels = dict(card.labels)
                if card.consent is not None:
                    row.consent = card.consent
                if measured is not None:
                    await _check_samples(session, voice_id, before)
                    session.add_all([model, *(sample.object for sample in kept)])
                    await session.flush()
                    heard = replace(measured, heard=measured.heard[len(before) :])
                    session.add_all(
                        _sample_rows(
                            voice_id, kept, heard, remove_background_noise, first=len(before)
                        )
                    )
                    freed = await self._replace_models(session, row, measured, model)
            unowned.clear()
        await self._remove(freed)

    async def delete(self, account_id: str, voice_id: str) -> None:
        """Delete a clone with its recordings."""
        self._require_clone(await self.get(account_id, voice_id))
        async with self._database.writing(durable=True) as session:
            row = await _own(session, account_id, voice_id, to_change=True)
            keys = list(
                await session.scalars(
                    select(VoiceSampleRow.object_key).where(VoiceSampleRow.voice_id == voice_id)
                )
            )
            keys += await _drop_models(session, voice_id)
            await session.execute(delete(VoiceSampleRow).where(VoiceSampleRow.voice_id == voice_id))
            await session.delete(row)
            await session.flush()
            await session.execute(delete(StoredObject).where(StoredObject.key.in_(keys)))
        await self._remove(keys)

    async def delete_sample(self, account_id: str, voice_id: str, sample_id: str) -> None:
        """Delete one recording of a clone and measure the voice from the others.

        Raises SampleNotFound, BadRequest for the last one or if too little speech would remain.
        """
        self._require_clone(await self.get(account_id, voice_id))
        async with self._lock(voice_id), self._unowned() as unowned:
            samples = (await self.get(account_id, voice_id)).samples or ()
            gone = next((sample for sample in samples if sample.sample_id == sample_id), None)
            if gone is None:
                raise _no_sample(voice_id, sample_id)
            rest = tuple(sample for sample in samples if sample is not gone)
            if not rest:
                raise BadRequest(
                    "The last sample of a voice cannot be deleted; delete the voice instead.",
                    param="sample_id",
                )
            async with self._while_there(voice_id, samples):
                try:
                    measured = await self._measure_samples(rest)
                except MenuraError as error:
                    raise BadRequest(
                        f"Without this sample the voice cannot be made: {error.message}",
                        param="sample_id",
                    ) from None
            model = await self._keep_model(measured, unowned)
            async with self._database.writing(durable=True) as session:
                row = await _own(session, account_id, voice_id, to_change=True)
                await _check_samples(session, voice_id, samples)
                session.add(model)
                await session.flush()
                await session.execute(
                    delete(VoiceSampleRow).where(VoiceSampleRow.sample_id == sample_id)
                )
                await session.execute(
                    delete(StoredObject).where(StoredObject.key == gone.object_key)
                )
                freed = await self._replace_models(session, row, measured, model)
            unowned.clear()
        await self._remove([gone.object_key, *freed])

    async def edit_settings(
        self, account_id: str, voice_id: str, changes: VoiceSettings
    ) -> VoiceSettings:
        """Merge changes into a voice's stored settings, a premade voice's too. Returns them."""
        voice = await self.get(account_id, voice_id)
        async with self._database.writing() as session:
            if voice.is_premade:
                row = await session.get(VoiceSettingsRow, (account_id, voice.own_id))
                if row is None:
                    row = VoiceSettingsRow(
                        account_id=account_id, voice_id=voice.own_id, settings={}
                    )
                    session.add(row)
                merged = changes.over(voice_settings(row.settings))
                row.settings = merged.given()
            else:
                clone = await _own(session, account_id, voice_id, to_change=True)
                merged = changes.over(voice_settings(clone.settings or {}))
                clone.settings = merged.given() or None
        return merged

    # The sound

    async def profile(self, voice_id: str, engine: Engine) -> EngineVoice:
        """Return a voice as an engine knows it: shared, read-only, measured anew if need be.

        Whether the caller may use the voice is not asked here; `get` tells that.
        """
        premade = find_premade(voice_id)
        if premade is not None:
            key = (premade.voice.own_id, engine.name, engine.version, "")
            if key not in self._profiles:
                self._remember(key, await self._premade_profile(premade, engine))
            return self._recall(key)
        gone: str | None = None
        while True:
            found = await self._model(voice_id, engine)
            if found is None:
                async with self._lock(voice_id):
                    found = await self._model(voice_id, engine) or await self._measure_anew(
                        voice_id, engine
                    )
            key = (voice_id, engine.name, engine.version, found.object_key)
            if key in self._profiles:
                return self._recall(key)
            try:
                data = await self._objects.read(found.object_key)
            except ObjectMissing:
                # An edit puts another in its place; a voice that was deleted has none.
                if gone == found.object_key:
                    raise _unknown(voice_id) from None
                gone = found.object_key
                continue
            self._remember(key, engine.load_voice(data))
            return self._recall(key)

    async def preview(self, account_id: str, voice_id: str) -> Preview:
        """Return an example spoken in the voice; a clone's is made when first asked for."""
        voice = await self.get(account_id, voice_id)
        premade = find_premade(voice_id)
        if premade is not None:
            data = await asyncio.to_thread(premade_file(premade.preview).read_bytes)
            return Preview(data, PREVIEW_FORMAT.media_type)
        engine = engine_for(self._settings.default_model)
        profile = await self.profile(voice_id, engine)
        found = await self._model(voice_id, engine)
        if found is not None and found.preview_key is not None:
            with suppress(ObjectMissing):
                data = await self._objects.read(found.preview_key)
                return Preview(data, PREVIEW_FORMAT.media_type)
        data = await self._run(
            lambda: make_preview(engine, profile, voice.labels.get("gender"), self._turn)
        )
        if found is not None:
            await self._keep_preview(found, data)
        return Preview(data, PREVIEW_FORMAT.media_type)

    # Inside

    async def _premade_profile(self, premade: Premade, engine: Engine) -> EngineVoice:
        data = measured_premade(premade.voice.own_id, engine)
        if data is not None:
            return engine.load_voice(data)
        recordings = [Recording(name, premade_file(name)) for name in premade.references]
        measured = await self._run(lambda: self._measure_now(engine, recordings))
        return measured.measurement.voice

    def _lock(self, voice_id: str) -> asyncio.Lock:
        lock = self._locks.get(voice_id)
        if lock is None:
            lock = self._locks[voice_id] = asyncio.Lock()
        return lock

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._cores.acquire()
        try:
            yield
        finally:
            self._cores.release()

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    def _measure_now(self, engine: Engine, recordings: Sequence[Recording]) -> Measured:
        limit = self._settings.max_voice_seconds
        return measure(engine, recordings, max_seconds=limit, turn=self._turn)

    async def _measure(
        self, engine: Engine, recordings: Sequence[tuple[str, str]], *, cleaned: Sequence[bool]
    ) -> Measured:
        async with AsyncExitStack() as stack:
            opened = []
            for (name, key), clean in zip(recordings, cleaned, strict=True):
                path = await stack.enter_async_context(self._objects.local(key))
                opened.append(Recording(name, path, clean))
            return await self._run(lambda: self._measure_now(engine, opened))

    @asynccontextmanager
    async def _while_there(self, voice_id: str, samples: Sequence[Sample]) -> AsyncIterator[None]:
        """Read a clone's recordings inside; when one is gone since somebody has deleted or changed
        the voice meanwhile, raise VoiceNotFound or Conflict."""
        try:
            yield
        except (ObjectMissing, FileNotFoundError):
            async with self._database.reading() as session:
                if await session.get(VoiceRow, voice_id) is None:
                    raise _unknown(voice_id) from None
                await _check_samples(session, voice_id, samples)
            raise

    async def _measure_samples(
        self,
        samples: Sequence[Sample],
        added: Sequence[_Kept] = (),
        *,
        engine: Engine | None = None,
        remove_background_noise: bool = False,
    ) -> Measured:
        recordings = [(sample.file_name, sample.object_key) for sample in samples]
        recordings += [(sample.file_name, sample.object.key) for sample in added]
        cleaned = [sample.remove_background_noise for sample in samples]
        cleaned += [remove_background_noise] * len(added)
        engine = engine or engine_for(self._settings.default_model)
        return await self._measure(engine, recordings, cleaned=cleaned)

    def _check_uploads(self, count: int) -> None:
        most = self._settings.max_voice_files
        if count > most:
            raise InvalidParameters(
                f"A voice may have at most {most} recordings, not {count}.", param="files"
            )

    async def _keep(self, uploads: Sequence[Upload], unowned: list[str]) -> list[_Kept]:
        kept = []
        for number, upload in enumerate(uploads, start=1):
            key = new_key("samples")
            unowned.append(key)
            size, sha256 = await self._objects.keep(upload.writer, key)
            file_name = clean_file_name(upload.file_name) or f"sample_{number}"
            kept.append(_Kept(new_id(), file_name, StoredObject(key=key, size=size, sha256=sha256)))
        return kept

    async def _keep_model(self, measured: Measured, unowned: list[str]) -> StoredObject:
        key = new_key("models")
        unowned.append(key)
        size, sha256 = await self._objects.put(key, measured.measurement.voice.to_bytes())
        return StoredObject(key=key, size=size, sha256=sha256)

    def _unowned(self, uploads: Sequence[Upload] = ()) -> "_Unowned":
        return _Unowned(self._remove_orphans, uploads)

    async def _remove_orphans(self, keys: Sequence[str]) -> None:
        # A transaction that was interrupted may have been committed all the same.
        async with self._database.reading() as session:
            owned = set(
                await session.scalars(select(StoredObject.key).where(StoredObject.key.in_(keys)))
            )
        await self._remove([key for key in keys if key not in owned])

    async def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            # What cannot be removed now is an orphan and swept at the next start.
            with suppress(Exception):
                await self._objects.delete(key)

    async def _replace_models(
        self, session: AsyncSession, row: VoiceRow, measured: Measured, model: StoredObject
    ) -> list[str]:
        freed = await _drop_models(session, row.voice_id)
        session.add(_model_row(row.voice_id, engine_for(self._settings.default_model), model))
        row.recording_quality, row.recording_quality_reason = judge(measured.measurement.warnings)
        await session.flush()
        await session.execute(delete(StoredObject).where(StoredObject.key.in_(freed)))
        return freed

    async def _model(self, voice_id: str, engine: Engine) -> VoiceModelRow | None:
        async with self._database.reading() as session:
            row = await session.get(VoiceModelRow, (voice_id, engine.name))
        return row if row is not None and row.engine_version == engine.version else None

    async def _measure_anew(self, voice_id: str, engine: Engine) -> VoiceModelRow:
        """Measure a clone for an engine, or a version of it, that has not met it before."""
        async with self._database.reading() as session:
            row = await session.get(VoiceRow, voice_id)
            if row is None:
                raise _unknown(voice_id)
            samples = (await _samples(session, VoiceRow.voice_id == voice_id)).get(voice_id, ())
        async with self._unowned() as unowned:
            async with self._while_there(voice_id, samples):
                measured = await self._measure_samples(samples, engine=engine)
            model = await self._keep_model(measured, unowned)
            found = _model_row(voice_id, engine, model)
            async with self._database.writing(durable=True) as session:
                if await session.get(VoiceRow, voice_id, with_for_update=True) is None:
                    raise _unknown(voice_id)
                await _check_samples(session, voice_id, samples)
                freed = await _drop_models(session, voice_id, engine.name)
                session.add(model)
                await session.flush()
                session.add(found)
                await session.flush()
                await session.execute(delete(StoredObject).where(StoredObject.key.in_(freed)))
            unowned.clear()
        await self._remove(freed)
        return found

    async def _keep_preview(self, found: VoiceModelRow, data: bytes) -> None:
        async with self._unowned() as unowned:
            key = new_key("previews")
            unowned.append(key)
            size, sha256 = await self._objects.put(key, data)
            async with self._database.writing() as session:
                row = await session.get(VoiceModelRow, (found.voice_id, found.engine))
                if row is None or row.object_key != found.object_key or row.preview_key:
                    return
                session.add(StoredObject(key=key, size=size, sha256=sha256))
                await session.flush()
                row.preview_key = key
            unowned.clear()

    def _require_clone(self, voice: Voice) -> None:
        if voice.is_premade:
            raise VoiceAccessDenied(
                f"Voice {voice.name} ({voice.voice_id}) came with Menura and cannot be changed.",
                param="voice_id",
            )

    def _remember(self, key: tuple[str, str, str, str], profile: EngineVoice) -> None:
        # Another request may have read the same voice meanwhile: both are to share one.
        self._profiles.setdefault(key, profile)
        while len(self._profiles) > CACHED_VOICES:
            self._profiles.popitem(last=False)

    def _recall(self, key: tuple[str, str, str, str]) -> EngineVoice:
        self._profiles.move_to_end(key)
        return self._profiles[key]


class _Unowned:
    """The keys of objects that no row owns yet; whatever is left in the list is removed.

    uploads: recordings that are not even objects yet; they are abandoned likewise.
    """

    def __init__(
        self,
        remove: Callable[[Sequence[str]], Coroutine[Any, Any, None]],
        uploads: Sequence[Upload],
    ) -> None:
        self._remove = remove
        self._uploads = uploads
        self._keys: list[str] = []

    async def __aenter__(self) -> list[str]:
        return self._keys

    async def __aexit__(self, *_: object) -> None:
        for upload in self._uploads:
            upload.writer.abandon()
        if self._keys:
            await asyncio.shield(asyncio.ensure_future(self._remove(self._keys)))


def clean_file_name(name: str | None) -> str:
    """Return the last part of a claimed file name without anything that could do harm, at most
    LONGEST_FILE_NAME characters, of which its ending is kept."""
    last = PurePosixPath(PureWindowsPath(name or "").name).name
    last = "".join("_" if _does_harm(sign) else sign for sign in normalize("NFC", last))
    last = last.strip(". ")
    ending = PurePosixPath(last).suffix[:_LONGEST_ENDING]
    if len(last) > LONGEST_FILE_NAME:
        last = last[: LONGEST_FILE_NAME - len(ending)] + ending
    return last


def _does_harm(sign: str) -> bool:
    """Tell whether a character is a quote, a path's, or not one that is seen."""
    return sign in '"/\\' or category(sign) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _check_id(voice_id: str) -> None:
    if not is_acceptable(voice_id):
        raise _unknown(voice_id)


def _unknown(voice_id: str) -> VoiceNotFound:
    return VoiceNotFound(f"A voice with id {voice_id[:64]!r} was not found.", param="voice_id")


def _no_sample(voice_id: str, sample_id: str) -> SampleNotFound:
    return SampleNotFound(
        f"Voice {voice_id!r} has no sample with id {sample_id[:64]!r}.", param="sample_id"
    )


def _check_card(card: Card) -> None:
    if not card.name.strip():
        raise InvalidParameters("name must not be empty.", param="name")
    limits = (
        ("name", card.name, LONGEST_NAME),
        ("description", card.description, LONGEST_TEXT),
        ("consent", card.consent, LONGEST_TEXT),
    )
    for field, text, longest in limits:
        if text is not None and len(text) > longest:
            raise InvalidParameters(
                f"{field} may have at most {longest} characters, not {len(text)}.", param=field
            )
        if text is not None and not is_storable(text):
            raise InvalidParameters(
                f"{field} {text[:40]!a} holds characters that are no text.", param=field
            )
    labels = card.labels or {}
    if len(labels) > MOST_LABELS:
        raise InvalidParameters(
            f"A voice may have at most {MOST_LABELS} labels, not {len(labels)}.", param="labels"
        )
    for name, value in labels.items():
        if len(name) > LONGEST_LABEL or len(value) > LONGEST_LABEL:
            raise InvalidParameters(
                f"Label {name[:40]!r}: name and value may have at most {LONGEST_LABEL} characters.",
                param="labels",
            )
        if not is_storable(name + value):
            raise InvalidParameters(
                f"Label {name[:40]!a} holds characters that are no text.", param="labels"
            )


async def _own(
    session: AsyncSession, account_id: str, voice_id: str, *, to_change: bool = False
) -> VoiceRow:
    row = await session.get(VoiceRow, voice_id, with_for_update=to_change)
    # Another account's voice is not told from none at all.
    if row is None or row.account_id != account_id:
        raise _unknown(voice_id)
    return row


async def _count(session: AsyncSession, account_id: str) -> int:
    counted = await session.scalar(
        select(func.count()).select_from(VoiceRow).where(VoiceRow.account_id == account_id)
    )
    return counted or 0


async def _check_room(session: AsyncSession, maker: Maker) -> None:
    if await _count(session, maker.account_id) >= maker.voices:
        raise VoiceLimitReached(
            f"The account has its {maker.voices} voices already; delete one to make another."
        )


async def _samples(
    session: AsyncSession, condition: ColumnElement[bool]
) -> dict[str, tuple[Sample, ...]]:
    """Return the samples of the voices that fulfil the condition, by voice and in order."""
    rows = await session.execute(
        select(VoiceSampleRow, StoredObject)
        .join(StoredObject, StoredObject.key == VoiceSampleRow.object_key)
        .join(VoiceRow, VoiceRow.voice_id == VoiceSampleRow.voice_id)
        .where(condition)
        .order_by(VoiceSampleRow.voice_id, VoiceSampleRow.position)
    )
    found: dict[str, tuple[Sample, ...]] = {}
    for row, stored in rows:
        sample = Sample(
            sample_id=row.sample_id,
            file_name=row.file_name,
            mime_type=row.mime_type,
            size=stored.size,
            sha256=stored.sha256,
            seconds=row.duration,
            remove_background_noise=row.remove_background_noise,
            object_key=row.object_key,
        )
        found[row.voice_id] = (*found.get(row.voice_id, ()), sample)
    return found


async def _check_samples(session: AsyncSession, voice_id: str, expected: Sequence[Sample]) -> None:
    """Raise Conflict if another process has changed a voice's samples in the meantime."""
    found = await session.scalars(
        select(VoiceSampleRow.sample_id).where(VoiceSampleRow.voice_id == voice_id)
    )
    if set(found) != {sample.sample_id for sample in expected}:
        raise Conflict(f"The samples of voice {voice_id!r} were changed meanwhile; try again.")


async def _drop_models(
    session: AsyncSession, voice_id: str, engine: str | None = None
) -> list[str]:
    """Delete a voice's measurements, or one engine's, and return the keys of their objects."""
    rows = await session.scalars(select(VoiceModelRow).where(VoiceModelRow.voice_id == voice_id))
    keys = []
    for row in rows.all():
        if engine is None or row.engine == engine:
            keys += [key for key in (row.object_key, row.preview_key) if key is not None]
            await session.delete(row)
    await session.flush()
    return keys


def _model_row(voice_id: str, engine: Engine, model: StoredObject) -> VoiceModelRow:
    return VoiceModelRow(
        voice_id=voice_id,
        engine=engine.name,
        engine_version=engine.version,
        object_key=model.key,
        preview_key=None,
    )


def _sample_rows(
    voice_id: str,
    kept: Sequence[_Kept],
    measured: Measured,
    remove_background_noise: bool,
    first: int,
) -> list[VoiceSampleRow]:
    return [
        VoiceSampleRow(
            sample_id=sample.sample_id,
            voice_id=voice_id,
            position=position,
            file_name=sample.file_name,
            mime_type=heard.mime_type,
            duration=heard.seconds,
            remove_background_noise=remove_background_noise,
            object_key=sample.object.key,
        )
        for position, (sample, heard) in enumerate(
            zip(kept, measured.heard, strict=True), start=first
        )
    ]


def _stored(settings: Mapping[str, Any] | None) -> VoiceSettings | None:
    return voice_settings(settings) if settings else None


def _clone(row: VoiceRow, samples: tuple[Sample, ...]) -> Voice:
    return Voice(
        voice_id=row.voice_id,
        own_id=row.voice_id,
        name=row.name,
        category="cloned",
        description=row.description,
        labels=row.labels,
        settings=_stored(row.settings),
        samples=samples,
        created_at=row.created_at,
        created_by=row.created_by,
        consent=row.consent,
        recording_quality=row.recording_quality,
        recording_quality_reason=row.recording_quality_reason,
    )
