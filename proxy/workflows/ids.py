"""Ids of tool calls. Clients take up to 256 characters; a longer one, as an agent may make it, is told as another.

What comes from a child run passes `told` first, so that only who speaks to its agent knows of the longer ones.
"""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from proxy.events import Event, Paused, ToolCallDelta, ToolResult

LONGEST = 256


def short(call_id: str) -> str:
    """The id under which clients know a call; always the same one."""
    if len(call_id) <= LONGEST:
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()


def told(event: Event) -> Event:
    """An event of a child run with the ids that clients know."""
    match event:
        case ToolCallDelta(call_id=call_id) | ToolResult(call_id=call_id):
            return event if len(call_id) <= LONGEST else replace(event, call_id=short(call_id))
        case Paused(calls=calls) if any(len(call.call_id) > LONGEST for call in calls):
            return replace(event, calls=tuple(replace(call, call_id=short(call.call_id)) for call in calls))
    return event
