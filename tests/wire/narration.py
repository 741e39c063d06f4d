"""Logs as the event protocol tells of them, for tests."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.events import (
    Entry,
    Event,
    Frame,
    Usage,
)
from proxy.model import Choices, Run
from proxy.wire.narrator import MODES
from proxy.wire.protocol import Chronicle, sent
from proxy.wire.thread_stream import Told
from tests.wire.entries import RUN, log, raw

GRAPH = Run(run_id=RUN, thread_id="t-1", agent="demo", choices=Choices(modes=tuple(sorted(MODES)), subgraphs=True))
PLAIN = Run(run_id=RUN, thread_id="t-1", agent="demo")
SPENT = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
USAGE = Usage(input_tokens=5, output_tokens=2)
SUB = ("inner:7a",)


def happenings(chronicle: Chronicle, run: Run, entries: list[Entry], *, frames: bool) -> list[dict[str, Any]]:
    chronicle.begin(run, frames=frames, before=[])
    tolds = [Told(run, entry) for entry in entries]
    return [msgspec.json.decode(sent(told, *one)) for told in tolds for one in chronicle.tell(told)]


def told(*events: Event, run: Run = PLAIN) -> list[tuple[str, Any]]:
    """(method, data) of all that is said of a run."""
    found = happenings(Chronicle(), run, log(*events), frames=run is GRAPH)
    return [(one["method"], one["params"]["data"]) for one in found]


def said(*events: Event, run: Run = PLAIN, method: str = "messages") -> list[Any]:
    return [data for name, data in told(*events, run=run) if name == method]


def frame(mode: str, data: Any, ns: tuple[str, ...] = ()) -> Frame:
    return Frame(mode=mode, data=raw(data), ns=ns)


def chunk(id: str = "m-1", ns: tuple[str, ...] = (), *, last: bool = False, **fields: Any) -> Frame:
    position = "last" if last else None
    piece = {"type": "AIMessageChunk", "id": id, "content": "", "chunk_position": position, **fields}
    return frame("messages", [piece, {"langgraph_node": "speak"}], ns)
