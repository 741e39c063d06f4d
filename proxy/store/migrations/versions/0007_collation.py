"""On PostgreSQL texts are compared by their bytes, whatever language the database has: ids sort as they are made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
TABLES = (
    "assistant_versions",
    "assistants",
    "crons",
    "idempotency",
    "pauses",
    "runs",
    "segments",
    "servers",
    "session_messages",
    "sessions",
    "states",
    "threads",
    "workflow_contents",
    "workflow_events",
    "workflow_keys",
    "workflow_outputs",
    "workflow_plans",
    "workflow_results",
    "workflows",
)


def upgrade() -> None:
    _collate('"C"')


def downgrade() -> None:
    _collate('"default"')


def _collate(name: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    inspector = sa.inspect(connection)
    for table in TABLES:
        texts = [column["name"] for column in inspector.get_columns(table) if isinstance(column["type"], sa.Text)]
        changes = (f"ALTER COLUMN {column} TYPE TEXT COLLATE {name}" for column in texts)
        op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
