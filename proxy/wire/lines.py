"""The events of a workflow run on the wire: a line each, or server-sent events. They are finished bytes already.

Source: the SDKs of ModelRelay. Every line ends in a line end, an empty line is all that keeps a stream of lines alive,
and all is ASCII: a client decodes each chunk by itself.
"""

from __future__ import annotations

import json
import re

import msgspec
from msgspec import Raw

from proxy.wire.base import SSE
from proxy.workflow_model import WorkflowEvent

NDJSON = "application/x-ndjson"
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_envelope = msgspec.json.Decoder(dict[str, Raw])


class Lines:
    """NDJSON."""

    media_type = NDJSON

    def encode(self, event: WorkflowEvent) -> bytes:
        return whole(event) + b"\n"

    def heartbeat(self) -> bytes:
        return b"\n"


class ServerSent:
    """Server-sent events: the event's type, its number as the id, and its envelope."""

    media_type = SSE

    def encode(self, event: WorkflowEvent) -> bytes:
        return b"event: %b\nid: %d\ndata: %b\n\n" % (event.type.encode(), event.seq, whole(event))

    def heartbeat(self) -> bytes:
        return b": keepalive\n\n"


def whole(event: WorkflowEvent) -> bytes:
    """The envelope, with the content of its artifact if the event brings it."""
    if event.content is None:
        return event.body
    envelope = _envelope.decode(event.body)
    name = "outputs" if "outputs" in envelope else "output"
    artifact = msgspec.json.decode(envelope[name])
    artifact["info"]["included"] = True
    artifact["content"] = Raw(ascii_only(event.content))
    return msgspec.json.encode({**envelope, name: artifact})


def ascii_only(text: bytes) -> bytes:
    """JSON with everything beyond ASCII escaped."""
    if text.isascii():
        return text
    return _FOREIGN.sub(lambda match: json.dumps(match[0])[1:-1], text.decode()).encode()
