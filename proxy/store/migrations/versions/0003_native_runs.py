"""Runs that wait, are rolled back or call back; assistants, crons, and states made of transcripts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("not_before", sa.Double))
    op.add_column("runs", sa.Column("cancel", sa.Text))
    op.add_column("runs", sa.Column("gone_at", sa.Double))
    op.add_column("runs", sa.Column("webhook", sa.Text))
    _partial("runs_gone", "gone_at", "gone_at IS NOT NULL")
    _partial("runs_calling", "status", "webhook IS NOT NULL")
    op.create_table(
        "states",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("thread_id", sa.Text, primary_key=True),
        sa.Column("checkpoint_id", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "assistants",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("assistant_id", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "assistant_versions",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("assistant_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "crons",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("cron_id", sa.Text, primary_key=True),
        sa.Column("assistant_id", sa.Text, nullable=False),
        sa.Column("thread_id", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("next_at", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("crons_by_time", "crons", ["enabled", "next_at"])


def _partial(name: str, column: str, where: str) -> None:
    """An index of the few rows that a condition holds for."""
    condition = sa.text(where)
    op.create_index(name, "runs", [column], sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    for table in ("crons", "assistant_versions", "assistants", "states"):
        op.drop_table(table)
    op.drop_index("runs_calling", "runs")
    op.drop_index("runs_gone", "runs")
    with op.batch_alter_table("runs") as runs:
        for column in ("webhook", "gone_at", "cancel", "not_before"):
            runs.drop_column(column)
