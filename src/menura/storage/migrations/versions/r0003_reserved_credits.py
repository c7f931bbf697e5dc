"""Credits reserved by running requests."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a lease hold credits."""
    op.add_column(
        "leases", sa.Column("reserved", sa.BigInteger(), nullable=False, server_default="0")
    )
