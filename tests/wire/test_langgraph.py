from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from langgraph_sdk.sse import BytesLineDecoder, SSEDecoder
from msgspec import Raw

from proxy.events import Cancelled, Completed, Event, Failed, Frame, Interrupt, Paused, TextDelta, Usage
from proxy.wire.frames import FrameMaker
from proxy.wire.langgraph import (
    BEGINNING,
    DEERFLOW,
    OFFICIAL,
    Cursor,
    LangGraphEncoder,
    cursor_of,
)
from proxy.wire.waited import ValuesFold
from tests.wire.entries import RUN, log, raw

ALL = frozenset(
    {"values", "updates", "messages-tuple", "messages", "custom", "events", "debug", "tasks", "checkpoints"}
)
FAILURE = Failed(code="llm_timeout", message="The model was too slow.")


def frame(mode: str, value: Any, *ns: str) -> Frame:
    return Frame(mode=mode, data=raw(value), ns=ns)


def sent(events: Iterable[Event], encoder: LangGraphEncoder | None = None) -> bytes:
    wire = encoder or LangGraphEncoder(native=ALL)
    return b"".join(wire.encode(entry) for entry in log(*events)) + wire.end()


def read(stream: bytes, step: int = 7) -> list[tuple[str, Any, str | None]]:
    """(event, data, id) as the official client reads them, a few bytes at a time."""
    lines, decoder, parts = BytesLineDecoder(), SSEDecoder(), []
    for start in range(0, len(stream), step):
        for line in lines.decode(stream[start : start + step]):
            if (part := decoder.decode(bytes(line))) is not None:
                parts.append((part.event, part.data, part.id))
    assert not lines.flush(), "the stream ends within a line"
    return parts


def names(stream: bytes) -> list[str]:
    return [event for event, _, _ in read(stream)]


def ids(stream: bytes) -> list[str | None]:
    return [id for _, _, id in read(stream)]


def test_a_run_in_the_official_dialect() -> None:
    events = [frame("values", {"n": 1}), frame("messages", [{"content": "hi"}, {}], "child:7"), Completed()]
    assert sent(events) == (
        b'event: metadata\r\ndata: {"run_id":"' + RUN.encode() + b'","attempt":1}\r\nid: 1\r\n\r\n'
        b'event: values\r\ndata: {"n":1}\r\nid: 2\r\n\r\n'
        b'event: messages|child:7\r\ndata: [{"content":"hi"},{}]\r\nid: 3\r\n\r\n'
    )


def test_a_run_in_the_dialect_of_deerflow() -> None:
    assert sent([frame("values", {"n": 1}), Completed()], LangGraphEncoder(DEERFLOW, native=ALL)) == (
        b'event: metadata\ndata: {"run_id":"' + RUN.encode() + b'","thread_id":"t-1"}\nid: 1\n\n'
        b'event: values\ndata: {"n":1}\nid: 2\n\n'
        b"event: end\ndata: null\nid: 4\n\n"
    )


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (OFFICIAL, [("error", {"error": "LlmTimeout", "message": FAILURE.message}, "2")]),
        (
            DEERFLOW,
            [
                ("error", {"error": "LlmTimeout", "message": FAILURE.message, "name": "LlmTimeout"}, "2"),
                ("end", None, "3"),
            ],
        ),
    ],
)
def test_a_failure_is_an_event_with_an_id(dialect: Any, expected: list[Any]) -> None:
    encoder = LangGraphEncoder(dialect, native=ALL)
    assert read(sent([FAILURE], encoder))[1:] == expected
    assert encoder.ended


def test_an_exception_of_the_agents_own_keeps_its_class() -> None:
    failure = Failed(code="internal_error", message="boom: x", kind="ValueError")
    assert read(sent([failure]))[1][1] == {"error": "ValueError", "message": "boom: x"}


def test_an_error_outside_the_log_has_no_id_and_ends_the_stream() -> None:
    encoder = LangGraphEncoder()
    assert encoder.failure(FAILURE) == (
        b'event: error\r\ndata: {"error":"LlmTimeout","message":"The model was too slow."}\r\n\r\n'
    )
    assert encoder.ended


@pytest.mark.parametrize("final", [Completed(), Cancelled(), Cancelled(action="rollback"), Paused()])
def test_no_other_end_says_anything(final: Event) -> None:
    encoder = LangGraphEncoder(native=ALL)
    assert names(sent([final], encoder)) == ["metadata"]
    assert encoder.ended


def test_neutral_words_stay_silent() -> None:
    assert names(sent([TextDelta(text="a"), Usage(), Completed()])) == ["metadata"]


def test_frames_pass_byte_for_byte() -> None:
    data = b'{"a" : [1, 2.50,  "\\u00e4\xc3\xa4"]}'
    stream = sent([Frame(mode="values", data=Raw(data))])
    assert b"data: " + data + b"\r\n" in stream


def test_line_ends_within_json_do_not_break_an_event() -> None:
    stream = sent([Frame(mode="values", data=Raw('{\n "a":\r\n "x\u2028y\u0085"}'.encode()))])
    assert read(stream)[1] == ("values", {"a": "x\u2028y\u0085"}, "2")
    assert len(stream.decode().splitlines()) == 8


def test_a_filter_by_mode_keeps_what_subgraphs_say() -> None:
    events = [
        frame("values", {}),
        frame("values", {}, "child:1", "grandchild:2"),
        frame("messages", [], "child:1"),
        frame("messages/partial", []),
        frame("messages/metadata", {}),
        frame("messages/complete", [], "child:1"),
    ]
    for mode, expected in {
        "values": ["values", "values|child:1|grandchild:2"],
        "messages-tuple": ["messages|child:1"],
        "messages": ["messages/partial", "messages/metadata", "messages/complete|child:1"],
        "updates": [],
    }.items():
        assert names(sent(events, LangGraphEncoder(native=frozenset({mode})))) == ["metadata", *expected]


def test_a_heartbeat_is_no_event() -> None:
    encoder = LangGraphEncoder(native=ALL)
    assert encoder.heartbeat() == b": heartbeat\r\n\r\n"
    assert LangGraphEncoder(DEERFLOW).heartbeat() == b": heartbeat\n\n"
    stream = b"".join(encoder.heartbeat() + encoder.encode(entry) for entry in log(frame("values", {})))
    assert names(stream) == ["metadata", "values"]


def test_a_takeover_is_announced_again() -> None:
    start = log()[0].event
    again = msgspec.structs.replace(start, attempt=2)
    assert [data for _, data, _ in read(sent([again]))] == [
        {"run_id": RUN, "attempt": 1},
        {"run_id": RUN, "attempt": 2},
    ]


TURN = [TextDelta(text="a", part="m"), TextDelta(text="b", part="m"), Usage(output_tokens=2), Completed()]


def making(cursor: Cursor = BEGINNING, modes: frozenset[str] = frozenset({"values", "messages"})) -> LangGraphEncoder:
    return LangGraphEncoder(native=frozenset({"updates"}), made=FrameMaker(modes), cursor=cursor)


def test_every_frame_has_an_id_of_its_own_and_ids_increase() -> None:
    found = ids(sent(TURN, making()))
    assert found == ["0.1", "1", "1.1", "2", "3", "4", "5"]
    assert sorted(found, key=lambda id: cursor_of(id or "") or BEGINNING) == found


def test_a_reader_can_go_on_after_every_single_frame() -> None:
    whole = read(sent([frame("updates", 1), *TURN], making()))
    for at, (_, _, id) in enumerate(whole):
        cursor = cursor_of(id or "")
        assert cursor is not None
        assert read(sent([frame("updates", 1), *TURN], making(cursor))) == whole[at + 1 :]


def test_only_an_encoder_that_makes_frames_needs_the_log_from_the_start() -> None:
    assert making(Cursor(7)).start == 0
    encoder = LangGraphEncoder(native=ALL, cursor=Cursor(2))
    assert encoder.start == 2
    tail = b"".join(encoder.encode(entry) for entry in log(frame("values", 1), frame("values", 2))[2:])
    assert read(tail) == [("values", 2, "3")]


def test_a_reader_that_has_all_is_told_of_the_end_only() -> None:
    cursor = Cursor(len(TURN) + 1)
    assert sent(TURN, LangGraphEncoder(native=ALL, cursor=cursor)) == b""
    assert read(sent(TURN, LangGraphEncoder(DEERFLOW, native=ALL, cursor=cursor))) == [("end", None, "6")]


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("-1", BEGINNING),
        ("-", BEGINNING),
        ("0", BEGINNING),
        (" 17 ", Cursor(17)),
        ("16.2", Cursor(16, 2)),
        ("", None),
        ("1795215538373-0", None),
        ("x", None),
        ("-2", None),
        ("1.", None),
        ("٣", None),
        ("9" * 16, None),
    ],
)
def test_what_a_last_event_id_stands_for(text: str, cursor: Cursor | None) -> None:
    assert cursor_of(text) == cursor


def test_a_gap_is_named_and_ends_the_stream_where_clients_know_it() -> None:
    official, deerflow = LangGraphEncoder(), LangGraphEncoder(DEERFLOW)
    bodies = [wire.gap(RUN, Cursor(3, 1), 10, 20) + wire.end() for wire in (official, deerflow)]
    for body in bodies:
        assert read(body) == [
            (
                "gap",
                {
                    "code": "stream_replay_gap",
                    "run_id": RUN,
                    "requested_event_id": "3",
                    "earliest_available_event_id": "10",
                    "latest_available_event_id": "20",
                    "recovery": "reload_durable_state",
                },
                None,
            )
        ]
    assert (official.ended, deerflow.ended) == (False, True)


def waited(*events: Event, made: FrameMaker | None = None) -> Any:
    fold = ValuesFold(made)
    for entry in log(*events):
        fold.feed(entry)
    assert fold.failed is None
    return msgspec.json.decode(fold.answer())


def test_waiting_gives_the_last_values_of_the_root() -> None:
    frames = [frame("values", {"n": 1}), frame("values", {"n": 2}), frame("values", 3, "child"), frame("updates", 4)]
    assert waited(*frames, Completed()) == {"n": 2}
    assert waited(Completed()) == {}


def test_waiting_gives_what_is_asked_and_why_a_run_failed() -> None:
    maker = FrameMaker(frozenset({"values"}))
    asked = waited(Paused(interrupts=(Interrupt(id="i", value=raw("ok?")),)), made=maker)
    assert asked == {"messages": [], "__interrupt__": [{"value": "ok?", "id": "i", "response_schema": None}]}
    assert waited(frame("values", 1), FAILURE) == {
        "__error__": {"error": "LlmTimeout", "message": "The model was too slow."}
    }
