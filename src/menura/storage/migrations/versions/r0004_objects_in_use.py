"""Indexes by object."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let an object be deleted without a look at every row that may refer to it."""
    for table, column in (
        ("history_items", "object_key"),
        ("voice_samples", "object_key"),
        ("voice_models", "object_key"),
        ("voice_models", "preview_key"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column], unique=False)
