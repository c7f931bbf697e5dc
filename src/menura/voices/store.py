"""The voices of an account: premade ones, clones, their settings and samples.

A clone's recordings and measurement are stored as objects first; its rows come last and together,
so that a voice is listed exactly if it is whole. On deletion the rows go first. Objects left over
by a process that died belong to no row and are swept at the next start.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from menura.engine.interface import Engine
from menura.engine.interface import Voice as EngineVoice
from menura.engine.registry import engine_for
from menura.errors import (
    BadRequest,
    InvalidInput,
    InvalidParameters,
    MissingRequiredField,
    SampleNotFound,
    VoiceAccessDenied,
    VoiceLimitReached,
    VoiceNotFound,
)
from menura.ids import is_acceptable, new_id
from menura.settings import Settings
from menura.storage.database import Database
from menura.storage.objects import Objects, ObjectWriter
from menura.storage.orphans import Unowned
from menura.storage.tables import StoredObject, VoiceRow, VoiceSampleRow, VoiceSettingsRow
from menura.storage.text import folded
from menura.voices import rows
from menura.voices.card import Card, clean_file_name
from menura.voices.premade import find_premade, premade_voices
from menura.voices.profiles import Profiles
from menura.voices.references import Measured, judge
from menura.voices.search import VoicePage, VoiceQuery, search_voices
from menura.voices.settings import VoiceSettings, voice_settings
from menura.voices.voice import Sample, Voice

_MOST_CONSENT = 20_000
"""Characters of all that is declared about the consent to one voice."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes a voice. voices: how many clones the account may have."""

    account_id: str
    key_id: str | None
    voices: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording that has arrived whole. file_name: as the client claims."""

    file_name: str | None
    writer: ObjectWriter


class VoiceStore:
    """Every voice, for every account. Belongs to the event loop that uses it.

    Its methods raise VoiceNotFound for an id that is unknown or another account's, and
    VoiceAccessDenied for a change to a premade voice. Ids that clients know by heart are accepted
    wherever an id is, see `premade.aliases`.
    """

    def __init__(
        self, settings: Settings, database: Database, objects: Objects, profiles: Profiles
    ) -> None:
        self._settings = settings
        self._database = database
        self._objects = objects
        self._profiles = profiles

    async def all(self, account_id: str) -> list[Voice]:
        """Return every voice the account sees: clones, newest first, then the premade ones."""
        async with self._database.reading() as session:
            found = await session.scalars(
                select(VoiceRow)
                .where(VoiceRow.account_id == account_id)
                .order_by(VoiceRow.created_at.desc(), VoiceRow.voice_id)
            )
            clones = found.all()
            samples = await rows.samples(session, VoiceRow.account_id == account_id)
            stored = await session.scalars(
                select(VoiceSettingsRow).where(VoiceSettingsRow.account_id == account_id)
            )
            settings = {row.voice_id: rows.stored_settings(row.settings) for row in stored}
        return [rows.clone(row, samples.get(row.voice_id, ())) for row in clones] + [
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
        if not is_acceptable(voice_id):
            raise rows.unknown(voice_id)
        premade = find_premade(voice_id)
        async with self._database.reading() as session:
            if premade is not None:
                row = await session.get(VoiceSettingsRow, (account_id, premade.voice.own_id))
                settings = rows.stored_settings(row.settings) if row else None
                return replace(premade.voice, voice_id=voice_id, settings=settings)
            clone = await rows.own(session, account_id, voice_id)
            samples = await rows.samples(session, VoiceRow.voice_id == voice_id)
        return rows.clone(clone, samples.get(voice_id, ()))

    async def find(self, account_id: str, wanted: str) -> Voice:
        """Return the voice of that id, alias or name (upper and lower case alike).

        Raises VoiceNotFound, and InvalidParameters where the name is that of several.
        """
        with suppress(VoiceNotFound):
            return await self.get(account_id, wanted)
        voices = await self.all(account_id)
        named = [voice for voice in voices if folded(voice.name) == folded(wanted)]
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
            return await rows.count(session, account_id)

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
            card.check()
            self._check_uploads(len(uploads))
            if not uploads:
                raise MissingRequiredField("A voice needs at least one recording.", param="files")
            # Asked again with the rows; but to measure for nothing takes the cores from others.
            _check_room(await self.count(maker.account_id), maker)
            added = await _keep(uploads, unowned, remove_background_noise)
            measured = await self._profiles.measure(engine, added)
            model = await unowned.put("models", measured.measurement.voice.to_bytes())
            quality, reason = judge(measured.measurement.warnings)
            voice_id = new_id()
            async with self._database.writing(durable=True) as session:
                await rows.one_at_a_time(session, maker.account_id)
                _check_room(await rows.count(session, maker.account_id), maker)
                session.add_all([model, *(sample.object for sample in added)])
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
                session.add(rows.model_row(voice_id, engine, model))
                session.add_all(rows.sample_rows(voice_id, added, measured.heard, first=0))
                await session.flush()
                # Read here: once the voice is made, nothing may fail, or a client makes it again.
                row = await rows.own(session, maker.account_id, voice_id)
                samples = await rows.samples(session, VoiceRow.voice_id == voice_id)
            unowned.hand_over()
        return rows.clone(row, samples[voice_id])

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
        engine = engine_for(self._settings.default_model)
        async with self._unowned(uploads) as unowned, self._profiles.lock(voice_id):
            card.check()
            voice = await self.get(maker.account_id, voice_id)
            _require_clone(voice)
            before = voice.samples or ()
            self._check_uploads(len(before) + len(uploads))
            added = await _keep(uploads, unowned, remove_background_noise)
            measured = None
            if added:
                async with self._profiles.while_there(voice_id, before):
                    measured = await self._profiles.measure(engine, [*before, *added])
                model = await unowned.put("models", measured.measurement.voice.to_bytes())
            freed: list[str] = []
            async with self._database.writing(durable=True) as session:
                row = await rows.own(session, maker.account_id, voice_id, to_change=True)
                row.name = card.name.strip()
                if card.description is not None:
                    row.description = card.description
                if card.labels is not None:
                    row.labels = dict(card.labels)
                row.consent = _stated(row.consent, card.consent, maker)
                if measured is not None:
                    await rows.check_samples(session, voice_id, before)
                    session.add_all([model, *(sample.object for sample in added)])
                    await session.flush()
                    heard = measured.heard[len(before) :]
                    session.add_all(rows.sample_rows(voice_id, added, heard, first=len(before)))
                    freed = await _replace_measurement(session, row, engine, measured, model)
            unowned.hand_over()
        await self._objects.discard(freed)

    async def delete(self, account_id: str, voice_id: str) -> None:
        """Delete a clone with its recordings."""
        _require_clone(await self.get(account_id, voice_id))
        async with self._database.writing(durable=True) as session:
            row = await rows.own(session, account_id, voice_id, to_change=True)
            keys = list(
                await session.scalars(
                    select(VoiceSampleRow.object_key).where(VoiceSampleRow.voice_id == voice_id)
                )
            )
            keys += await rows.drop_models(session, voice_id)
            await session.execute(delete(VoiceSampleRow).where(VoiceSampleRow.voice_id == voice_id))
            await session.delete(row)
            await session.flush()
            await session.execute(delete(StoredObject).where(StoredObject.key.in_(keys)))
        await self._objects.discard(keys)

    async def delete_sample(self, account_id: str, voice_id: str, sample_id: str) -> None:
        """Delete one recording of a clone and measure the voice from the others.

        Raises SampleNotFound, BadRequest for the last one or if too little speech would remain.
        """
        _require_clone(await self.get(account_id, voice_id))
        engine = engine_for(self._settings.default_model)
        async with self._profiles.lock(voice_id), self._unowned() as unowned:
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
            async with self._profiles.while_there(voice_id, samples):
                try:
                    measured = await self._profiles.measure(engine, rest)
                except InvalidInput as error:
                    raise BadRequest(
                        f"Without this sample the voice cannot be made: {error.message}",
                        param="sample_id",
                    ) from None
            model = await unowned.put("models", measured.measurement.voice.to_bytes())
            async with self._database.writing(durable=True) as session:
                row = await rows.own(session, account_id, voice_id, to_change=True)
                await rows.check_samples(session, voice_id, samples)
                session.add(model)
                await session.flush()
                await session.execute(
                    delete(VoiceSampleRow).where(VoiceSampleRow.sample_id == sample_id)
                )
                await session.execute(
                    delete(StoredObject).where(StoredObject.key == gone.object_key)
                )
                freed = await _replace_measurement(session, row, engine, measured, model)
            unowned.hand_over()
        await self._objects.discard([gone.object_key, *freed])

    async def edit_settings(
        self, account_id: str, voice_id: str, changes: VoiceSettings
    ) -> VoiceSettings:
        """Merge changes into a voice's stored settings, a premade voice's too. Returns them."""
        voice = await self.get(account_id, voice_id)
        async with self._database.writing() as session:
            if voice.is_premade:
                await rows.one_at_a_time(session, account_id)
                row = await session.get(VoiceSettingsRow, (account_id, voice.own_id))
                if row is None:
                    row = VoiceSettingsRow(
                        account_id=account_id, voice_id=voice.own_id, settings={}
                    )
                    session.add(row)
                merged = changes.over(voice_settings(row.settings))
                row.settings = merged.given()
            else:
                clone = await rows.own(session, account_id, voice_id, to_change=True)
                merged = changes.over(voice_settings(clone.settings or {}))
                clone.settings = merged.given() or None
        return merged

    async def profile(self, voice_id: str, engine: Engine) -> EngineVoice:
        """Return a voice as an engine knows it: shared, read-only, measured anew if need be.

        Whether the caller may use the voice is not asked here; `get` tells that.
        """
        return await self._profiles.get(voice_id, engine)

    async def preview(self, account_id: str, voice_id: str) -> bytes:
        """Return an example spoken in the voice, a whole file in `preview.PREVIEW_FORMAT`; a
        clone's is made when first asked for."""
        return await self._profiles.preview(await self.get(account_id, voice_id))

    def _check_uploads(self, count: int) -> None:
        most = self._settings.max_voice_files
        if count > most:
            raise InvalidParameters(
                f"A voice may have at most {most} recordings, not {count}.", param="files"
            )

    def _unowned(self, uploads: Sequence[Upload] = ()) -> Unowned:
        return Unowned(self._database, self._objects, [upload.writer for upload in uploads])


async def _keep(
    uploads: Sequence[Upload], unowned: Unowned, remove_background_noise: bool
) -> list[rows.NewSample]:
    return [
        rows.NewSample(
            sample_id=new_id(),
            file_name=clean_file_name(upload.file_name) or f"sample_{number}",
            remove_background_noise=remove_background_noise,
            object=await unowned.keep("samples", upload.writer),
        )
        for number, upload in enumerate(uploads, start=1)
    ]


async def _replace_measurement(
    session: AsyncSession, row: VoiceRow, engine: Engine, measured: Measured, model: StoredObject
) -> list[str]:
    """Put a measurement in the place of all others. Returns the keys of objects that are free."""
    row.recording_quality, row.recording_quality_reason = judge(measured.measurement.warnings)
    return await rows.replace_models(session, rows.model_row(row.voice_id, engine, model))


def _stated(before: str | None, added: str | None, maker: Maker) -> str | None:
    """Return what is on record of the speaker's consent once more is said.

    Nothing that was once declared is lost, or a key that may change a voice could take back what
    its maker answers for. Raises InvalidParameters where it becomes too much.
    """
    said = before is not None and (before == added or before.endswith(f": {added}"))
    if added is None or said:
        return before
    by = f" by key {maker.key_id}" if maker.key_id else ""
    later = f"Added {datetime.now(UTC):%Y-%m-%d}{by}: {added}"
    stated = later if before is None else f"{before}\n\n{later}"
    if len(stated) > _MOST_CONSENT:
        raise InvalidParameters(
            f"All statements of consent of a voice may have at most {_MOST_CONSENT} characters, "
            f"not {len(stated)}.",
            param="consent",
        )
    return stated


def _check_room(count: int, maker: Maker) -> None:
    if count >= maker.voices:
        raise VoiceLimitReached(
            f"The account's tier limits the number of cloned voices to {maker.voices}; delete one "
            "to make another."
        )


def _require_clone(voice: Voice) -> None:
    if voice.is_premade:
        raise VoiceAccessDenied(
            f"Voice {voice.name} ({voice.voice_id}) came with Menura and cannot be changed.",
            param="voice_id",
        )


def _no_sample(voice_id: str, sample_id: str) -> SampleNotFound:
    return SampleNotFound(
        f"Voice {voice_id!r} has no sample with id {sample_id[:64]!r}.", param="sample_id"
    )
