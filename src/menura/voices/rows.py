"""Clones in the tables: what is read and written inside one transaction.

Functions that take a session leave it to the caller to commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from menura.engine.interface import Engine
from menura.errors import Conflict, VoiceNotFound
from menura.storage.tables import Account, StoredObject, VoiceModelRow, VoiceRow, VoiceSampleRow
from menura.voices.references import Heard
from menura.voices.settings import VoiceSettings, voice_settings
from menura.voices.voice import Sample, Voice


@dataclass(frozen=True, slots=True)
class NewSample:
    """A recording that has become an object but belongs to no row yet."""

    sample_id: str
    file_name: str
    remove_background_noise: bool
    object: StoredObject

    @property
    def object_key(self) -> str:
        """The key of the object."""
        return self.object.key


def unknown(voice_id: str) -> VoiceNotFound:
    """Return the refusal of an id that is no voice's, or no voice's that the caller may see."""
    return VoiceNotFound(f"A voice with id {voice_id[:64]!r} was not found.", param="voice_id")


async def own(
    session: AsyncSession, account_id: str, voice_id: str, *, to_change: bool = False
) -> VoiceRow:
    """Return a clone's row, locked if it is to be changed. Raises VoiceNotFound."""
    row = await session.get(VoiceRow, voice_id, with_for_update=to_change)
    # Another account's voice is not told from none at all.
    if row is None or row.account_id != account_id:
        raise unknown(voice_id)
    return row


async def one_at_a_time(session: AsyncSession, account_id: str) -> None:
    """Let one writer of an account go on from here, until its transaction ends, so that what it
    looks at stays as it is. A writing block of SQLite does so by itself."""
    mine = select(Account.account_id).where(Account.account_id == account_id)
    # Charges and leases refer to the account, and wait for no maker of voices.
    await session.execute(mine.with_for_update(key_share=True))


async def count(session: AsyncSession, account_id: str) -> int:
    """Return the number of the account's clones."""
    counted = await session.scalar(
        select(func.count()).select_from(VoiceRow).where(VoiceRow.account_id == account_id)
    )
    return counted or 0


async def samples(
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


async def check_samples(session: AsyncSession, voice_id: str, expected: Sequence[Sample]) -> None:
    """Raise Conflict if another process has changed a voice's samples in the meantime."""
    found = await session.scalars(
        select(VoiceSampleRow.sample_id).where(VoiceSampleRow.voice_id == voice_id)
    )
    if set(found) != {sample.sample_id for sample in expected}:
        raise Conflict(f"The samples of voice {voice_id!r} were changed meanwhile; try again.")


async def model(session: AsyncSession, voice_id: str, engine: Engine) -> VoiceModelRow | None:
    """Return a clone's measurement by this version of an engine, None if there is none."""
    row = await session.get(VoiceModelRow, (voice_id, engine.name))
    return row if row is not None and row.engine_version == engine.version else None


async def drop_models(session: AsyncSession, voice_id: str, engine: str | None = None) -> list[str]:
    """Delete a voice's measurements, or one engine's, and return the keys of their objects."""
    of_voice = select(VoiceModelRow).where(VoiceModelRow.voice_id == voice_id)
    # Locked, since a preview may be about to get its row: nobody would ever remove it.
    found = await session.scalars(of_voice.with_for_update())
    keys = []
    for row in found.all():
        if engine is None or row.engine == engine:
            keys += [key for key in (row.object_key, row.preview_key) if key is not None]
            await session.delete(row)
    await session.flush()
    return keys


async def replace_models(
    session: AsyncSession, new: VoiceModelRow, *, engine: str | None = None
) -> list[str]:
    """Put a measurement in the place of a voice's others, or of one engine's.

    Returns the keys of the objects that no row owns any more. The new one's is in the session.
    """
    freed = await drop_models(session, new.voice_id, engine)
    session.add(new)
    await session.flush()
    await session.execute(delete(StoredObject).where(StoredObject.key.in_(freed)))
    return freed


def model_row(voice_id: str, engine: Engine, stored: StoredObject) -> VoiceModelRow:
    """Return the row of a measurement that was stored as that object."""
    return VoiceModelRow(
        voice_id=voice_id,
        engine=engine.name,
        engine_version=engine.version,
        object_key=stored.key,
        preview_key=None,
    )


def sample_rows(
    voice_id: str, added: Sequence[NewSample], heard: Sequence[Heard], *, first: int
) -> list[VoiceSampleRow]:
    """Return the rows of new samples. heard: of each of them. first: position of the first."""
    return [
        VoiceSampleRow(
            sample_id=sample.sample_id,
            voice_id=voice_id,
            position=position,
            file_name=sample.file_name,
            mime_type=found.mime_type,
            duration=found.seconds,
            remove_background_noise=sample.remove_background_noise,
            object_key=sample.object_key,
        )
        for position, (sample, found) in enumerate(zip(added, heard, strict=True), start=first)
    ]


def stored_settings(settings: Mapping[str, Any] | None) -> VoiceSettings | None:
    """Return the settings of a row, None where it holds none."""
    return voice_settings(settings) if settings else None


def clone(row: VoiceRow, samples: tuple[Sample, ...]) -> Voice:
    """Return a clone as its account sees it."""
    return Voice(
        voice_id=row.voice_id,
        own_id=row.voice_id,
        name=row.name,
        category="cloned",
        description=row.description,
        labels=row.labels,
        settings=stored_settings(row.settings),
        samples=samples,
        created_at=row.created_at,
        created_by=row.created_by,
        consent=row.consent,
        recording_quality=row.recording_quality,
        recording_quality_reason=row.recording_quality_reason,
    )
