"""The tables, and how records become rows and rows records. Every statement of the store is made of these.

Texts that are JSON are kept as bytes, as msgspec writes and reads them; NULL stands for the default value.
All times are seconds since 1970.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnClause,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    literal_column,
)

from proxy.events import NULL
from proxy.model import Choices, Lifetime, Outcome, Pause, Run, RunStatus, Thread, ThreadOutcome

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("group_id", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("turn_id", Text, nullable=False),
    Column("resumes", Text),
    Column("temporary", Boolean, nullable=False),
    Column("choices", LargeBinary),
    Column("input", LargeBinary),
    Column("outcome", LargeBinary),
    Column("not_before", Double),
    Column("cancel", Text),
    Column("gone_at", Double),
    Column("webhook", Text),
    Column("owner", Text),
    Column("attempt", Integer, nullable=False, default=1, server_default="1"),
    Column("losses", Integer, nullable=False, default=0, server_default="0"),
)
Index("runs_by_thread", runs.c.tenant, runs.c.thread_id, runs.c.status)
Index("runs_by_age", runs.c.status, runs.c.updated_at)
GROUPED = runs.c.group_id.is_not(None)
GONE = runs.c.gone_at.is_not(None)
CALLING = runs.c.webhook.is_not(None)
# Words in conditions of partial indexes are literal: such an index serves only statements that say the same.
PENDING: ColumnClause[str] = literal_column("'pending'")
WAITING = runs.c.status == PENDING
UNDER_WAY = runs.c.status == literal_column("'running'")
OPEN = runs.c.status.in_([PENDING, literal_column("'running'")])
AT_ONCE = WAITING & runs.c.not_before.is_(None)
DELAYED = WAITING & runs.c.not_before.is_not(None)
DOOMED = WAITING & runs.c.cancel.is_not(None)
OWNED = OPEN & runs.c.owner.is_not(None)
QUEUED = WAITING & runs.c.temporary.is_(False)
HAS_THE_THREAD = UNDER_WAY & runs.c.temporary.is_(False)
Index("runs_by_group", runs.c.tenant, runs.c.group_id, sqlite_where=GROUPED, postgresql_where=GROUPED)
Index("runs_gone", runs.c.gone_at, sqlite_where=GONE, postgresql_where=GONE)
Index("runs_calling", runs.c.status, sqlite_where=CALLING, postgresql_where=CALLING)
Index("runs_waiting", runs.c.agent, runs.c.tenant, runs.c.run_id, sqlite_where=AT_ONCE, postgresql_where=AT_ONCE)
Index("runs_delayed", runs.c.status, runs.c.agent, runs.c.not_before, sqlite_where=DELAYED, postgresql_where=DELAYED)
Index("runs_doomed", runs.c.status, runs.c.run_id, sqlite_where=DOOMED, postgresql_where=DOOMED)
Index("runs_owned", runs.c.owner, runs.c.status, sqlite_where=OWNED, postgresql_where=OWNED)
Index("runs_active", runs.c.tenant, runs.c.agent, sqlite_where=OPEN, postgresql_where=OPEN)
Index("runs_open", runs.c.run_id, sqlite_where=OPEN, postgresql_where=OPEN)
Index(
    "runs_queued",
    runs.c.tenant,
    runs.c.thread_id,
    runs.c.run_id,
    sqlite_where=QUEUED,
    postgresql_where=QUEUED,
)
Index(
    "runs_one_a_thread",
    runs.c.tenant,
    runs.c.thread_id,
    unique=True,
    sqlite_where=HAS_THE_THREAD,
    postgresql_where=HAS_THE_THREAD,
)
"""Whatever goes wrong elsewhere, a thread has one run under way."""

servers = Table(
    "servers",
    metadata,
    Column("server_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("agents", JSON, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("lease_until", Double, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("first_seq", Integer, primary_key=True, autoincrement=False),
    Column("last_seq", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("idempotency_by_age", idempotency.c.created_at)

pauses = Table(
    "pauses",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("answered_by", Text),
    Column("body", LargeBinary, nullable=False),
)
Index("pauses_by_thread", pauses.c.tenant, pauses.c.thread_id)

threads = Table(
    "threads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("state_updated_at", Double),
    Column("status", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("config", LargeBinary),
    Column("lifetime", LargeBinary),
    Column("outcome", LargeBinary),
    Column("state", LargeBinary),
    Column("ttl", Double),
    Column("swept_at", Double),
)
Index("threads_by_age", threads.c.tenant, threads.c.updated_at)
MORTAL = threads.c.ttl.is_not(None)
Index("threads_mortal", threads.c.updated_at, threads.c.ttl, sqlite_where=MORTAL, postgresql_where=MORTAL)

states = Table(
    "states",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("checkpoint_id", Text, primary_key=True),
    Column("run_id", Text),
    Column("body", LargeBinary, nullable=False),
)

assistants = Table(
    "assistants",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("assistant_id", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

versions = Table(
    "assistant_versions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("assistant_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

crons = Table(
    "crons",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("cron_id", Text, primary_key=True),
    Column("assistant_id", Text, nullable=False),
    Column("thread_id", Text),
    Column("enabled", Boolean, nullable=False),
    Column("next_at", Double),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
Index("crons_by_time", crons.c.enabled, crons.c.next_at)

encode = msgspec.json.Encoder().encode
decode_choices = msgspec.json.Decoder(Choices).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode
decode_pause = msgspec.json.Decoder(Pause).decode
decode_thread_outcome = msgspec.json.Decoder(ThreadOutcome).decode
decode_lifetime = msgspec.json.Decoder(Lifetime).decode
DEFAULT = b"{}"


def run_row(run: Run) -> tuple[Any, ...]:
    """The values of `runs`, in the order of its columns."""
    choices = encode(run.choices)
    return (
        run.tenant,
        run.run_id,
        run.thread_id,
        run.agent,
        str(run.status),
        run.group,
        run.created_at,
        run.updated_at,
        run.turn_id,
        run.resumes,
        run.temporary,
        None if choices == DEFAULT else choices,
        None if run.input == NULL else bytes(run.input),
        None if run.outcome is None else encode(run.outcome),
        run.not_before,
        run.cancel,
        run.gone_at,
        run.webhook,
        run.owner,
        run.attempt,
        run.losses,
    )


def run_of(row: Row[Any]) -> Run:
    return Run(
        tenant=row.tenant,
        run_id=row.run_id,
        thread_id=row.thread_id,
        agent=row.agent,
        status=RunStatus(row.status),
        group=row.group_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        turn_id=row.turn_id,
        resumes=row.resumes,
        temporary=row.temporary,
        choices=Choices() if row.choices is None else decode_choices(row.choices),
        input=NULL if row.input is None else Raw(row.input),
        outcome=None if row.outcome is None else decode_outcome(row.outcome),
        not_before=row.not_before,
        cancel=row.cancel,
        gone_at=row.gone_at,
        webhook=row.webhook,
        owner=row.owner,
        attempt=row.attempt,
        losses=row.losses,
    )


def pause_row(pause: Pause) -> tuple[Any, ...]:
    """The values of `pauses`, in the order of its columns."""
    return (
        pause.tenant,
        pause.run_id,
        pause.thread_id,
        pause.agent,
        pause.expires_at,
        pause.answered_by,
        encode(pause),
    )


def pause_of(row: Row[Any]) -> Pause:
    return msgspec.structs.replace(decode_pause(row.body), answered_by=row.answered_by)


def thread_values(thread: Thread) -> dict[str, Any]:
    """The values of `threads`, by the names of its columns."""
    return {
        "tenant": thread.tenant,
        "thread_id": thread.thread_id,
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "state_updated_at": thread.state_updated_at,
        "metadata": thread.metadata,
        "config": encode(thread.config) if thread.config else None,
        "state": None,
        **({} if thread.lifetime is None else lifetime_values(thread.lifetime)),
        **outcome_values(thread.outcome),
    }


def lifetime_values(lifetime: Lifetime) -> dict[str, Any]:
    """What of `threads` a lifetime sets; `ttl` is in minutes, for the database to look at."""
    return {"lifetime": encode(lifetime), "ttl": lifetime.ttl}


def outcome_values(outcome: ThreadOutcome) -> dict[str, Any]:
    """What of `threads` a run sets at its end; the state only where there is a new one."""
    row = {"status": str(outcome.status), "outcome": encode(msgspec.structs.replace(outcome, values=None))}
    return row if outcome.values is None else {**row, "state": bytes(outcome.values)}


def thread_of(row: Row[Any]) -> Thread:
    """The row has `busy` besides the columns."""
    outcome = ThreadOutcome() if row.outcome is None else decode_thread_outcome(row.outcome)
    return Thread(
        tenant=row.tenant,
        thread_id=row.thread_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        state_updated_at=row.state_updated_at,
        metadata=row.metadata,
        config={} if row.config is None else msgspec.json.decode(row.config),
        lifetime=None if row.lifetime is None else decode_lifetime(row.lifetime),
        outcome=msgspec.structs.replace(outcome, values=None if row.state is None else Raw(row.state)),
        busy=row.busy,
    )
