"""How a reader gets the events of a workflow run: a line each, or as server-sent events."""

from __future__ import annotations

from proxy.wire.base import SSE
from proxy.wire.workflow import BLANK, NDJSON, SSE_BLANK, included, sse
from proxy.workflow_model import WorkflowEvent


class Lines:
    """NDJSON."""

    media_type = NDJSON
    blank = BLANK

    def encode(self, event: WorkflowEvent) -> bytes:
        return whole(event)


class ServerSent:
    """Server-sent events: the event's type, its number as the id, and its envelope."""

    media_type = SSE
    blank = SSE_BLANK

    def encode(self, event: WorkflowEvent) -> bytes:
        return sse(whole(event))


def whole(event: WorkflowEvent) -> bytes:
    """The line of an event, with its payload in it if the event brings it."""
    return event.body if event.content is None else included(event.body, event.content)
