"""Threads that callers know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "threads",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("thread_id", sa.Text, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("state_updated_at", sa.Double),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("config", sa.LargeBinary),
        sa.Column("lifetime", sa.LargeBinary),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("state", sa.LargeBinary),
    )
    op.create_index("threads_by_age", "threads", ["tenant", "updated_at"])


def downgrade() -> None:
    op.drop_table("threads")
