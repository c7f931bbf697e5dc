"""Voices: clones, their samples and measurements, stored settings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "voice_settings",
        sa.Column("account_id", IDENTIFIER, nullable=False),
        sa.Column("voice_id", IDENTIFIER, nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
        ),
        sa.PrimaryKeyConstraint("account_id", "voice_id"),
    )
    op.create_table(
        "voices",
        sa.Column("voice_id", IDENTIFIER, nullable=False),
        sa.Column("account_id", IDENTIFIER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", IDENTIFIER, nullable=True),
        sa.Column("consent", sa.Text(), nullable=True),
        sa.Column("recording_quality", sa.String(length=16), nullable=True),
        sa.Column("recording_quality_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
        ),
        sa.PrimaryKeyConstraint("voice_id"),
    )
    op.create_index("ix_voices_account", "voices", ["account_id", "voice_id"], unique=False)
    op.create_table(
        "voice_models",
        sa.Column("voice_id", IDENTIFIER, nullable=False),
        sa.Column("engine", sa.String(length=64), nullable=False),
        sa.Column("engine_version", sa.String(length=64), nullable=False),
        sa.Column("object_key", sa.String(length=255), nullable=False),
        sa.Column("preview_key", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(
            ["object_key"],
            ["objects.key"],
        ),
        sa.ForeignKeyConstraint(
            ["preview_key"],
            ["objects.key"],
        ),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.voice_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("voice_id", "engine"),
    )
    op.create_table(
        "voice_samples",
        sa.Column("sample_id", IDENTIFIER, nullable=False),
        sa.Column("voice_id", IDENTIFIER, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.String(length=64), nullable=False),
        sa.Column("duration", sa.Double(), nullable=True),
        sa.Column("remove_background_noise", sa.Boolean(), nullable=False),
        sa.Column("object_key", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_key"],
            ["objects.key"],
        ),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.voice_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sample_id"),
    )
    op.create_index("ix_voice_samples_voice_id", "voice_samples", ["voice_id"], unique=False)
