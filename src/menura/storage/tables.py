"""Every table, as typed rows.

Times are Unix seconds (usage: milliseconds). Identifiers are the contract's 20 characters and
compare byte by byte. A change here needs a revision in `migrations/versions`.
"""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Identifier = String(64).with_variant(String(64, collation="C"), "postgresql")


class Base(DeclarativeBase):
    """The tables' registry."""

    type_annotation_map: ClassVar[Any] = {
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


class Account(Base):
    """Who owns keys, voices and history. `tier` null follows the setting `default_tier`."""

    __tablename__ = "accounts"

    account_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    workspace_id: Mapped[str] = mapped_column(Identifier)
    name: Mapped[str] = mapped_column(Text)
    tier: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(BigInteger)


class ServiceAccount(Base):
    """A named holder of keys inside an account."""

    __tablename__ = "service_accounts"

    service_account_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger)


class ApiKey(Base):
    """An API key: its SHA-256 and what it may do. The key itself is stored nowhere.

    permissions: null means all. hint: the key's first characters, to tell keys apart.
    character_limit: credits a month. allowed_ips: addresses or networks; null means any.
    """

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    service_account_id: Mapped[str | None] = mapped_column(
        ForeignKey("service_accounts.service_account_id"), index=True
    )
    name: Mapped[str] = mapped_column(Text)
    hint: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    permissions: Mapped[list[str] | None]
    character_limit: Mapped[int | None] = mapped_column(BigInteger)
    concurrency_limit: Mapped[int | None]
    allowed_ips: Mapped[list[str] | None]
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(BigInteger)


class SingleUseToken(Base):
    """A token that stands in for a key once. The token itself is stored nowhere."""

    __tablename__ = "single_use_tokens"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.key_id", ondelete="CASCADE"))
    token_type: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


class CountedCredits(Base):
    """Credits used in one calendar month (`YYYY-MM`, UTC) by an account or by a key."""

    __tablename__ = "counted_credits"

    owner_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    used: Mapped[int] = mapped_column(BigInteger)


class UsageRecord(Base):
    """One charged request, for the usage statistics. Never written under zero retention.

    at, duration: milliseconds. first_byte: milliseconds to the first audio byte.
    """

    __tablename__ = "usage_records"
    __table_args__ = (Index("ix_usage_records_account_at", "account_id", "at"),)

    request_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    key_id: Mapped[str] = mapped_column(Identifier)
    at: Mapped[int] = mapped_column(BigInteger)
    credits: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    product: Mapped[str] = mapped_column(String(64))
    model_id: Mapped[str | None] = mapped_column(String(64))
    voice_id: Mapped[str | None] = mapped_column(Identifier)
    voice_name: Mapped[str | None] = mapped_column(Text)
    first_byte: Mapped[int | None]
    duration: Mapped[int | None]


class LeaseRow(Base):
    """A running request's place under its concurrency limit. Void once expired.

    reserved: credits it will be charged.
    """

    __tablename__ = "leases"

    lease_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    key_id: Mapped[str] = mapped_column(Identifier)
    process_id: Mapped[str] = mapped_column(Identifier, index=True)
    expires_at: Mapped[float]
    reserved: Mapped[int] = mapped_column(BigInteger, server_default="0")


class StoredObject(Base):
    """An object that belongs to a row. Objects in the store without one are orphans.

    Each column that refers to it has an index: before an object goes, the database looks whether a
    row refers to it still.
    """

    __tablename__ = "objects"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class HistoryItem(Base):
    """A conversion whose audio was stored whole. Identifiers sort by time."""

    __tablename__ = "history_items"
    __table_args__ = (Index("ix_history_items_account", "account_id", "history_item_id"),)

    history_item_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    request_id: Mapped[str] = mapped_column(Identifier)
    created_at: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str] = mapped_column(String(16))
    voice_id: Mapped[str | None] = mapped_column(Identifier)
    voice_name: Mapped[str | None] = mapped_column(Text)
    voice_category: Mapped[str | None] = mapped_column(String(32))
    model_id: Mapped[str | None] = mapped_column(String(64))
    characters_from: Mapped[int] = mapped_column(BigInteger)
    characters_to: Mapped[int] = mapped_column(BigInteger)
    content_type: Mapped[str] = mapped_column(String(64))
    output_format: Mapped[str] = mapped_column(String(32))
    settings: Mapped[dict[str, Any] | None]
    object_key: Mapped[str] = mapped_column(ForeignKey("objects.key"), index=True)


class VoiceRow(Base):
    """A clone. Premade voices are not rows. settings: null means the defaults.

    created_by: the key it was made with. consent: what the maker declared about the speaker's
    consent, and what was declared later; null when nothing was. recording_quality: see
    `voices.references.judge`.
    """

    __tablename__ = "voices"
    __table_args__ = (Index("ix_voices_account", "account_id", "voice_id"),)

    voice_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    labels: Mapped[dict[str, Any]]
    settings: Mapped[dict[str, Any] | None]
    created_at: Mapped[int] = mapped_column(BigInteger)
    created_by: Mapped[str | None] = mapped_column(Identifier)
    consent: Mapped[str | None] = mapped_column(Text)
    recording_quality: Mapped[str | None] = mapped_column(String(16))
    recording_quality_reason: Mapped[str | None] = mapped_column(Text)


class VoiceSampleRow(Base):
    """A recording a clone was made from: the original bytes are the object."""

    __tablename__ = "voice_samples"

    sample_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    voice_id: Mapped[str] = mapped_column(
        ForeignKey("voices.voice_id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    file_name: Mapped[str] = mapped_column(Text)
    mime_type: Mapped[str] = mapped_column(String(64))
    duration: Mapped[float | None]
    remove_background_noise: Mapped[bool] = mapped_column(default=False)
    object_key: Mapped[str] = mapped_column(ForeignKey("objects.key"), index=True)


class VoiceModelRow(Base):
    """A clone as one engine measured it: the object holds `Voice.to_bytes()`.

    preview_key: an example spoken in the voice as measured, once somebody has asked for it.
    """

    __tablename__ = "voice_models"

    voice_id: Mapped[str] = mapped_column(
        ForeignKey("voices.voice_id", ondelete="CASCADE"), primary_key=True
    )
    engine: Mapped[str] = mapped_column(String(64), primary_key=True)
    engine_version: Mapped[str] = mapped_column(String(64))
    object_key: Mapped[str] = mapped_column(ForeignKey("objects.key"), index=True)
    preview_key: Mapped[str | None] = mapped_column(ForeignKey("objects.key"), index=True)


class VoiceSettingsRow(Base):
    """An account's stored settings for a voice that is not a row, that is, a premade one."""

    __tablename__ = "voice_settings"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), primary_key=True)
    voice_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    settings: Mapped[dict[str, Any]]
