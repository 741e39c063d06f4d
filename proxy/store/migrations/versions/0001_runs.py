"""Runs, the segments of their logs, idempotency keys, pauses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("group_id", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("turn_id", sa.Text, nullable=False),
        sa.Column("resumes", sa.Text),
        sa.Column("temporary", sa.Boolean, nullable=False),
        sa.Column("choices", sa.LargeBinary),
        sa.Column("input", sa.LargeBinary),
        sa.Column("outcome", sa.LargeBinary),
    )
    grouped = sa.text("group_id IS NOT NULL")
    op.create_index("runs_by_thread", "runs", ["tenant", "thread_id", "status"])
    op.create_index("runs_by_age", "runs", ["status", "updated_at"])
    op.create_index("runs_by_group", "runs", ["tenant", "group_id"], sqlite_where=grouped, postgresql_where=grouped)
    op.create_table(
        "segments",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("first_seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("idempotency_by_age", "idempotency", ["created_at"])
    op.create_table(
        "pauses",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("answered_by", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("pauses_by_thread", "pauses", ["tenant", "thread_id"])


def downgrade() -> None:
    for table in ("pauses", "idempotency", "segments", "runs"):
        op.drop_table(table)
