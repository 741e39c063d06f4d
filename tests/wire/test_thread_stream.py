from __future__ import annotations

import msgspec
import pytest

from proxy.events import Completed, Entry, Event
from proxy.model import Run
from proxy.wire.langgraph import Cursor, LangGraphEncoder
from proxy.wire.thread_stream import Place, ThreadEncoder, Told, place_of
from tests.wire.entries import AT, RUN, log
from tests.wire.test_langgraph import ALL, FAILURE, frame, names, read

OTHER = "0193e000-0000-7000-8000-000000000002"


def thread_run(run_id: str) -> Run:
    return Run(run_id=run_id, thread_id="t-1", agent="demo", created_at=AT, updated_at=AT, turn_id=run_id)


def told(run_id: str, *events: Event) -> list[Told]:
    entries = [msgspec.structs.replace(log()[0], event=msgspec.structs.replace(log()[0].event, run_id=run_id))]
    entries += [Entry(seq, AT, event) for seq, event in enumerate(events, 2)]
    return [Told(thread_run(run_id), entry) for entry in entries]


def test_the_stream_of_a_thread_tells_its_runs_apart_and_stays_open() -> None:
    wire = ThreadEncoder(lambda run, prefix: LangGraphEncoder(native=ALL, prefix=prefix))
    items = [*told(RUN, frame("values", 1), Completed()), *told(OTHER, FAILURE)]
    stream = b"".join(wire.encode(item) for item in items)
    assert read(stream) == [
        ("metadata", {"run_id": RUN, "attempt": 1}, f"{RUN}:1"),
        ("values", 1, f"{RUN}:2"),
        ("metadata", {"status": "run_done", "run_id": RUN}, f"{RUN}:2"),
        ("metadata", {"run_id": OTHER, "attempt": 1}, f"{OTHER}:1"),
        ("error", {"error": "LlmTimeout", "message": FAILURE.message}, f"{OTHER}:2"),
        ("metadata", {"status": "run_done", "run_id": OTHER}, f"{OTHER}:2"),
    ]
    assert b"".join(wire.encode(item) for item in items) == stream, "an ended run leaves nothing behind"
    assert not wire.ended
    assert wire.heartbeat() == b": heartbeat\r\n\r\n"
    assert names(wire.failure(FAILURE)) == ["error"]
    assert wire.ended


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("-", Place()),
        ("0", Place()),
        (f"{RUN}:4", Place(RUN, Cursor(4))),
        (f"{RUN}:3.1", Place(RUN, Cursor(3, 1))),
        ("4", None),
        ("x", None),
        (f"{RUN}:x", None),
    ],
)
def test_what_the_last_event_id_of_a_thread_stands_for(text: str, place: Place | None) -> None:
    assert place_of(text) == place
