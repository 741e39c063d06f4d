"""What the checkpoints in PostgreSQL are written and taken back with, beside LangGraph's own reads.

The tables are LangGraph's, and `checkpoint_marks`: how each thread was before its last run.
"""

from __future__ import annotations

HELD = "SELECT 1 FROM servers WHERE server_id = %(owner)s FOR KEY SHARE"
"""The row of this process, which nobody deletes until the transaction ends. None: its runs are another's now."""
ANYBODY = "SELECT 1"

MARKS = """
CREATE TABLE IF NOT EXISTS checkpoint_marks (thread_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, before BYTEA NOT NULL)
"""

VERSION = "SELECT max(v) FROM checkpoint_migrations LEFT JOIN checkpoint_marks ON false"

PUT = """
WITH held AS ({held}), blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(thread)s, %(ns)s, new.* FROM held,
        unnest(%(channels)s::text[], %(versions)s::text[], %(types)s::text[], %(blobs)s::bytea[]) AS new
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
), put AS (
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT %(thread)s, %(ns)s, %(id)s, %(parent)s, %(checkpoint)s::jsonb, %(metadata)s::jsonb FROM held
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
    DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata
) SELECT count(*) FROM held
"""
"""Answers 0 where nothing was put, since this process may not write; so do all below that have `held`."""
_WRITE = """
WITH held AS ({{held}}), put AS (
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT %(thread)s, %(ns)s, %(id)s, %(task)s, %(path)s, new.* FROM held,
        unnest(%(idxs)s::int[], %(channels)s::text[], %(types)s::text[], %(blobs)s::bytea[]) AS new
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) {conflict}
) SELECT count(*) FROM held
"""
PUT_WRITES = _WRITE.format(conflict="DO NOTHING")
REPLACE_WRITES = _WRITE.format(
    conflict="DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob"
)

FIND_MARK = "SELECT before FROM checkpoint_marks WHERE thread_id = %(thread)s AND run_id = %(run)s"
PUT_MARK = """
WITH held AS ({held}), put AS (
    INSERT INTO checkpoint_marks (thread_id, run_id, before) SELECT %(thread)s, %(run)s, %(before)s::bytea FROM held
    ON CONFLICT (thread_id) DO UPDATE SET run_id = EXCLUDED.run_id, before = EXCLUDED.before
) SELECT count(*) FROM held
"""
NEWEST = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = %(thread)s"
MOVED = """
SELECT DISTINCT checkpoint_ns FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_id > %(newest)s
"""
_OPEN = """
FROM checkpoint_writes WHERE thread_id = %(thread)s AND (%(anywhere)s OR (checkpoint_ns, checkpoint_id) IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints
    WHERE thread_id = %(thread)s AND checkpoint_id <= %(newest)s GROUP BY checkpoint_ns
))
"""
OPEN_WRITES = "SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob" + _OPEN
"""Writes to the newest checkpoint of the graph and of each sub-graph, or to any."""

_UNUSED_BLOBS = """
DELETE FROM checkpoint_blobs WHERE thread_id = %(thread)s AND (checkpoint_ns, channel, version) NOT IN (
    SELECT checkpoint_ns, used.key, used.value
    FROM checkpoints, jsonb_each_text(checkpoint -> 'channel_versions') AS used
    WHERE thread_id = %(thread)s AND used.value IS NOT NULL
)
"""
REWIND = (
    "DELETE FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_id > %(newest)s",
    "DELETE FROM checkpoint_writes WHERE thread_id = %(thread)s AND checkpoint_id > %(newest)s",
    "DELETE" + _OPEN,
    _UNUSED_BLOBS,
)
_GIVEN = """
unnest(%(ns)s::text[], %(checkpoint_id)s::text[], %(task_id)s::text[], %(task_path)s::text[], %(idx)s::int[],
    %(channel)s::text[], %(type)s::text[], %(value)s::bytea[])
    AS given (ns, id, task_id, task_path, idx, channel, type, blob)
"""
_PUT_BACK = """
INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
SELECT %(thread)s, given.* FROM {given}
"""
PUT_BACK = _PUT_BACK.format(given=_GIVEN)
_DROP_WRITES = """
DELETE FROM checkpoint_writes AS old USING {given}
WHERE old.thread_id = %(thread)s AND old.checkpoint_ns = given.ns AND old.checkpoint_id = given.id
    AND old.task_id = given.task_id AND old.idx = given.idx
"""
DROP_WRITES = _DROP_WRITES.format(given=_GIVEN)
_DELETE_OLD = """
DELETE FROM {table} WHERE thread_id = %(thread)s AND (checkpoint_ns, checkpoint_id) NOT IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = %(thread)s GROUP BY checkpoint_ns
)
"""
KEEP_NEWEST = (
    _DELETE_OLD.format(table="checkpoint_writes"),
    _DELETE_OLD.format(table="checkpoints"),
    _UNUSED_BLOBS,
)

_DELETE = "DELETE FROM {table} WHERE thread_id = %(thread)s"
DELETE_THREAD = (
    _DELETE.format(table="checkpoints"),
    _DELETE.format(table="checkpoint_blobs"),
    _DELETE.format(table="checkpoint_writes"),
    _DELETE.format(table="checkpoint_marks"),
)
_COPY = """
INSERT INTO {table} (thread_id, {columns}) SELECT %(target)s, {columns} FROM {table} WHERE thread_id = %(source)s
ON CONFLICT DO NOTHING
"""
_COPIED = {
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob",
}
COPY_THREAD = tuple(_COPY.format(table=table, columns=columns) for table, columns in _COPIED.items())
