"""Threads whose lifetime runs out can be found."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("threads", sa.Column("ttl", sa.Double))
    op.add_column("threads", sa.Column("swept_at", sa.Double))
    mortal = sa.text("ttl IS NOT NULL")
    op.create_index("threads_mortal", "threads", ["updated_at", "ttl"], sqlite_where=mortal, postgresql_where=mortal)
    connection = op.get_bind()
    known = connection.execute(
        sa.text("SELECT tenant, thread_id, lifetime FROM threads WHERE lifetime IS NOT NULL")
    ).all()
    for tenant, thread_id, lifetime in known:
        connection.execute(
            sa.text("UPDATE threads SET ttl = :ttl WHERE tenant = :tenant AND thread_id = :thread_id"),
            {"ttl": json.loads(lifetime)["ttl"], "tenant": tenant, "thread_id": thread_id},
        )


def downgrade() -> None:
    op.drop_index("threads_mortal", "threads")
    with op.batch_alter_table("threads") as threads:
        for column in ("swept_at", "ttl"):
            threads.drop_column(column)
