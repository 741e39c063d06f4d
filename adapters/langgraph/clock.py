"""Keeps the ids of checkpoints in order across processes whose clocks differ.

The newest checkpoint of a thread is the one whose id is the greatest, and an id begins with the time at which it was
made. LangGraph makes ids grow within a process; here they also grow beyond those that were read from another's.
"""

from __future__ import annotations

from uuid import UUID

from langgraph.checkpoint.base import CheckpointTuple, id


def caught_up(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """The same, after which all new ids are greater than its own."""
    if found is not None:
        made = UUID(found.checkpoint["id"])
        if made.version == 6:
            vars(id)["_last_v6_timestamp"] = max(id._last_v6_timestamp or 0, _time(made))
    return found


def _time(made: UUID) -> int:
    return (made.int >> 80) << 12 | (made.int >> 64) & 0x0FFF
