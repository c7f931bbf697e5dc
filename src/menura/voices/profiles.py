"""Voices as an engine knows them: measured once, kept as objects, remembered while in use."""

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from menura.engine.interface import Engine
from menura.engine.interface import Voice as EngineVoice
from menura.engine.registry import engine_for
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.objects import ObjectMissing, Objects
from menura.storage.orphans import Unowned
from menura.storage.tables import VoiceModelRow, VoiceRow
from menura.voices import rows
from menura.voices.premade import Premade, find_premade, measured_premade, premade_file
from menura.voices.preview import make_preview
from menura.voices.references import Measured, Permit, Reference, measure
from menura.voices.voice import Sample, Voice

CACHED_VOICES = 128

_Key = tuple[str, str, str, str]
"""Id of a voice, name and version of an engine, key of the measurement: empty for a premade voice,
whose measurement never changes."""

_Result = TypeVar("_Result")


class Profiles:
    """Measures voices and lends what was measured. Belongs to the event loop that uses it.

    Whether a caller may use a voice is not asked here.
    """

    def __init__(
        self, settings: Settings, database: Database, objects: Objects, permit: Permit
    ) -> None:
        self._settings = settings
        self._database = database
        self._objects = objects
        self._permit = permit
        self._workers = ThreadPoolExecutor(settings.cores, thread_name_prefix="voices")
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._cache: OrderedDict[_Key, EngineVoice] = OrderedDict()

    async def close(self) -> None:
        """Let running measurements end and free the threads."""
        await asyncio.to_thread(self._workers.shutdown)

    async def get(self, voice_id: str, engine: Engine) -> EngineVoice:
        """Return a voice as an engine knows it: shared, read-only, measured anew if need be.

        Raises VoiceNotFound.
        """
        premade = find_premade(voice_id)
        if premade is not None:
            key = (premade.voice.own_id, engine.name, engine.version, "")
            if key not in self._cache:
                self._remember(key, await self._premade(premade, engine))
            return self._recall(key)
        gone: str | None = None
        while True:
            found = await self._model(voice_id, engine)
            if found is None:
                async with self.lock(voice_id):
                    found = await self._model(voice_id, engine) or await self._measure_anew(
                        voice_id, engine
                    )
            try:
                return await self._measured(found, engine)
            except ObjectMissing:
                # An edit puts another in its place; a voice that was deleted has none.
                if gone == found.object_key:
                    raise rows.unknown(voice_id) from None
                gone = found.object_key

    async def preview(self, voice: Voice) -> bytes:
        """Return an example spoken in a voice, a whole file in `preview.PREVIEW_FORMAT`; a clone's
        is made when first asked for. Raises VoiceNotFound."""
        premade = find_premade(voice.voice_id)
        if premade is not None:
            return await asyncio.to_thread(premade_file(premade.preview).read_bytes)
        engine, voice_id = engine_for(self._settings.default_model), voice.voice_id
        # Measured before the lock, which measuring takes.
        await self.get(voice_id, engine)
        # Of many who ask at once, one has it made.
        async with self.lock(voice_id):
            found = await self._model(voice_id, engine)
            if found is None:
                raise rows.unknown(voice_id)
            if found.preview_key is not None:
                with suppress(ObjectMissing):
                    return await self._objects.read(found.preview_key)
            try:
                profile = await self._measured(found, engine)
            except ObjectMissing:
                raise rows.unknown(voice_id) from None
            gender = voice.labels.get("gender")
            data = await self._run(lambda: make_preview(engine, profile, gender, self._permit))
            await self._keep_preview(found, data)
            return data

    def lock(self, voice_id: str) -> asyncio.Lock:
        """Return the lock to hold while a clone is measured and its measurement replaced, or its
        preview is made."""
        lock = self._locks.get(voice_id)
        if lock is None:
            lock = self._locks[voice_id] = asyncio.Lock()
        return lock

    async def measure(self, engine: Engine, samples: Sequence[Sample | rows.NewSample]) -> Measured:
        """Measure a clone from its recordings.

        Raises as `references.measure` does, ObjectMissing and FileNotFoundError for what is gone.
        """
        async with AsyncExitStack() as stack:
            references = []
            for sample in samples:
                path = await stack.enter_async_context(self._objects.local(sample.object_key))
                references.append(Reference(sample.file_name, path, sample.remove_background_noise))
            return await self._run(lambda: self._measure_now(engine, references))

    @asynccontextmanager
    async def while_there(self, voice_id: str, samples: Sequence[Sample]) -> AsyncIterator[None]:
        """Read a clone's recordings inside; when one is gone since somebody has deleted or changed
        the voice meanwhile, raise VoiceNotFound or Conflict."""
        try:
            yield
        except (ObjectMissing, FileNotFoundError):
            async with self._database.reading() as session:
                if await session.get(VoiceRow, voice_id) is None:
                    raise rows.unknown(voice_id) from None
                await rows.check_samples(session, voice_id, samples)
            raise

    async def _premade(self, premade: Premade, engine: Engine) -> EngineVoice:
        data = measured_premade(premade.voice.own_id, engine)
        if data is not None:
            return engine.load_voice(data)
        references = [Reference(name, premade_file(name)) for name in premade.references]
        measured = await self._run(lambda: self._measure_now(engine, references))
        return measured.measurement.voice

    async def _measure_anew(self, voice_id: str, engine: Engine) -> VoiceModelRow:
        """Measure a clone for an engine, or a version of it, that has not met it before."""
        async with self._database.reading() as session:
            if await session.get(VoiceRow, voice_id) is None:
                raise rows.unknown(voice_id)
            found = await rows.samples(session, VoiceRow.voice_id == voice_id)
        samples = found.get(voice_id, ())
        async with Unowned(self._database, self._objects) as unowned:
            async with self.while_there(voice_id, samples):
                measured = await self.measure(engine, samples)
            stored = await unowned.put("models", measured.measurement.voice.to_bytes())
            row = rows.model_row(voice_id, engine, stored)
            async with self._database.writing(durable=True) as session:
                if await session.get(VoiceRow, voice_id, with_for_update=True) is None:
                    raise rows.unknown(voice_id)
                await rows.check_samples(session, voice_id, samples)
                session.add(stored)
                await session.flush()
                freed = await rows.replace_models(session, row, engine=engine.name)
            unowned.hand_over()
        await self._objects.discard(freed)
        return row

    async def _measured(self, found: VoiceModelRow, engine: Engine) -> EngineVoice:
        """Return a clone's measurement. Raises ObjectMissing."""
        key = (found.voice_id, engine.name, engine.version, found.object_key)
        if key not in self._cache:
            self._remember(key, engine.load_voice(await self._objects.read(found.object_key)))
        return self._recall(key)

    async def _model(self, voice_id: str, engine: Engine) -> VoiceModelRow | None:
        async with self._database.reading() as session:
            return await rows.model(session, voice_id, engine)

    async def _keep_preview(self, found: VoiceModelRow, data: bytes) -> None:
        async with Unowned(self._database, self._objects) as unowned:
            stored = await unowned.put("previews", data)
            async with self._database.writing() as session:
                place = found.voice_id, found.engine
                row = await session.get(VoiceModelRow, place, with_for_update=True)
                if row is None or row.object_key != found.object_key or row.preview_key:
                    return
                session.add(stored)
                await session.flush()
                row.preview_key = stored.key
            unowned.hand_over()

    def _measure_now(self, engine: Engine, references: Sequence[Reference]) -> Measured:
        limit = self._settings.max_voice_seconds
        return measure(engine, references, max_seconds=limit, permit=self._permit)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    def _remember(self, key: _Key, profile: EngineVoice) -> None:
        # Another request may have read the same voice meanwhile: both are to share one.
        self._cache.setdefault(key, profile)
        while len(self._cache) > CACHED_VOICES:
            self._cache.popitem(last=False)

    def _recall(self, key: _Key) -> EngineVoice:
        self._cache.move_to_end(key)
        return self._cache[key]
