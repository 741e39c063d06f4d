"""Logs written by hand, and streams read back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from proxy.events import Entry, Event, RunStarted, ToolCallDelta

RUN = "0193e000-0000-7000-8000-000000000001"
START = RunStarted(run_id=RUN, thread_id="t-1", agent="demo")
AT = 1_700_000_000.25


def log(*events: Event) -> list[Entry]:
    """The log of a run that said this."""
    return [Entry(seq, AT, event) for seq, event in enumerate((START, *events), 1)]


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def own(call_id: str, name: str, arguments: str = "") -> ToolCallDelta:
    """A piece of a call that the agent runs itself."""
    return ToolCallDelta(call_id=call_id, name=name, arguments=arguments)


def client(call_id: str, name: str, arguments: str = "") -> ToolCallDelta:
    """A piece of a call that the caller is to run."""
    return ToolCallDelta(call_id=call_id, name=name, arguments=arguments, client=True)


def payloads(stream: Iterable[bytes]) -> list[Any]:
    """The data of a stream's unnamed events, decoded; fails on anything that is neither that nor a comment."""
    found = []
    for line in b"".join(stream).replace(b": ping\n", b"").split(b"\n\n"):
        if line and line != b"data: [DONE]":
            assert line.startswith(b"data: "), line
            assert len(line.splitlines()) == 1, line
            found.append(msgspec.json.decode(line[6:]))
    return found
