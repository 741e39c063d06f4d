"""Runs and workflow runs have owners, and the processes that may be owners are known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LASTING = sa.column("temporary", sa.Boolean).is_(False)
"""In the words of each database, since an index serves only statements that say the same."""


def upgrade() -> None:
    op.add_column("runs", sa.Column("owner", sa.Text))
    op.add_column("runs", sa.Column("attempt", sa.Integer, nullable=False, server_default="1"))
    op.add_column("workflows", sa.Column("owner", sa.Text))
    op.execute("UPDATE runs SET owner = '' WHERE status = 'running'")  # a process has them that nobody knows
    _partial("runs_waiting", ["agent", "tenant", "run_id"], "status = 'pending' AND not_before IS NULL")
    _partial("runs_delayed", ["status", "agent", "not_before"], "status = 'pending' AND not_before IS NOT NULL")
    _partial("runs_doomed", ["status", "run_id"], "status = 'pending' AND cancel IS NOT NULL")
    _partial("runs_queued", ["tenant", "thread_id", "run_id"], sa.text("status = 'pending'") & LASTING)
    _partial("runs_owned", ["owner", "status"], "status IN ('pending', 'running') AND owner IS NOT NULL")
    _partial("runs_active", ["tenant", "agent"], "status IN ('pending', 'running')")
    _partial("runs_open", ["run_id"], "status IN ('pending', 'running')")
    _partial("runs_one_a_thread", ["tenant", "thread_id"], "status = 'running' AND NOT temporary", unique=True)
    op.create_table(
        "servers",
        sa.Column("server_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("agents", sa.JSON, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
    )


def _partial(name: str, columns: list[str], where: str | sa.ColumnElement[bool], *, unique: bool = False) -> None:
    condition = sa.text(where) if isinstance(where, str) else where
    op.create_index(name, "runs", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    op.drop_table("servers")
    for index in (
        "runs_one_a_thread",
        "runs_open",
        "runs_active",
        "runs_owned",
        "runs_queued",
        "runs_doomed",
        "runs_delayed",
        "runs_waiting",
    ):
        op.drop_index(index, "runs")
    with op.batch_alter_table("workflows") as workflows:
        workflows.drop_column("owner")
    with op.batch_alter_table("runs") as runs:
        for column in ("attempt", "owner"):
            runs.drop_column(column)
