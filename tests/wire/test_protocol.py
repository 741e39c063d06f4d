"""The event protocol's numbers, and what a listener hears of a thread."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.events import (
    Completed,
    Entry,
    Event,
    Failed,
    Frame,
    TextDelta,
)
from proxy.wire.langgraph import OFFICIAL
from proxy.wire.protocol import Chronicle, ProtocolStream, View, is_channel
from proxy.wire.thread_stream import Told
from tests.wire.entries import AT, RUN, START, log
from tests.wire.narration import GRAPH, PLAIN, SUB, chunk, frame, happenings


def test_numbers_are_times_that_grow_and_are_the_same_for_everyone() -> None:
    entries = log(*(TextDelta(text=word, part="a") for word in "abc"), Completed())
    later = [Entry(one.seq, one.at + 1, one.event) for one in entries]
    second = msgspec.structs.replace(PLAIN, run_id=RUN[:-1] + "2")
    chronicle = Chronicle()
    first = happenings(chronicle, PLAIN, entries, frames=False)
    chronicle.end(PLAIN)
    found = [*first, *happenings(chronicle, second, later, frames=False)]
    numbers = [one["seq"] for one in found]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == int(AT * 1_000_000)
    assert numbers[-1] < 1 << 53
    alone = happenings(Chronicle(), second, later, frames=False)
    assert alone == found[len(first) :]
    assert len({one["event_id"] for one in found}) == len(found)


def test_numbers_grow_though_the_clock_goes_back() -> None:
    entries = [Entry(1, AT, START), Entry(2, AT - 5, TextDelta(text="x", part="a")), Entry(3, AT - 4, Completed())]
    numbers = [one["seq"] for one in happenings(Chronicle(), PLAIN, entries, frames=False)]
    assert numbers == sorted(set(numbers))


def streamed(view: View, *events: Event, since: int = 0) -> list[tuple[str, int]]:
    """Names and ids of the server-sent events."""
    stream = ProtocolStream(view, OFFICIAL, since=since)
    stream.chronicle.begin(GRAPH, frames=True, before=[])
    wire = b"".join(stream.encode(Told(GRAPH, entry)) for entry in log(*events))
    found = []
    for one in wire.decode().split("\r\n\r\n")[:-1]:
        name, data, id = (line.partition(": ")[2] for line in one.split("\r\n"))
        assert msgspec.json.decode(data)["method"] == name
        assert msgspec.json.decode(data)["seq"] == int(id)
        found.append((name, int(id)))
    return found


EVENTS = (
    frame("values", {"n": 1}),
    chunk(content="a", last=True),
    frame("custom", {"name": "mine", "payload": 1}),
    frame("custom", "loose"),
    frame("values", {}, SUB),
    frame("values", {}, (*SUB, "low:1")),
    Completed(),
)


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ({"lifecycle"}, ["lifecycle"] * 6),
        ({"custom"}, ["custom", "custom"]),
        ({"custom:mine"}, ["custom"]),
        ({"custom:other", "input", "checkpoints"}, []),
        ({"values"}, ["values"] * 3),
    ],
)
def test_a_listener_hears_its_channels(channels: set[str], names: list[str]) -> None:
    assert [name for name, _ in streamed(View(channels=frozenset(channels)), *EVENTS)] == names


@pytest.mark.parametrize(
    ("namespaces", "depth", "heard"),
    [
        ((), None, 3),
        (((),), 0, 1),
        (((),), 1, 2),
        (((),), None, 3),
        ((SUB,), None, 2),
        ((SUB,), 0, 1),
        ((("inner",),), None, 2),
        ((("inner:other",),), None, 0),
        ((("low",),), None, 0),
    ],
)
def test_a_listener_hears_the_places_it_names(namespaces: Any, depth: int | None, heard: int) -> None:
    view = View(channels=frozenset({"values"}), namespaces=namespaces, depth=depth)
    assert len(streamed(view, *EVENTS)) == heard


def test_numbers_do_not_depend_on_what_is_heard() -> None:
    everything = streamed(View(channels=frozenset({"values", "messages", "lifecycle", "custom"})), *EVENTS)
    assert set(streamed(View(channels=frozenset({"values"})), *EVENTS)) < set(everything)


def test_who_has_heard_up_to_a_number_hears_what_follows() -> None:
    view = View(channels=frozenset({"values", "lifecycle"}))
    everything = streamed(view, *EVENTS)
    assert streamed(view, *EVENTS, since=everything[2][1]) == everything[3:]


@pytest.mark.parametrize(
    ("name", "known"),
    [("values", True), ("custom:x", True), ("checkpoints", True), ("custom:", False), ("debug", False), (5, False)],
)
def test_channels_have_names(name: object, known: bool) -> None:
    assert is_channel(name) is known


def test_a_stream_that_breaks_says_so_in_the_protocols_form() -> None:
    stream = ProtocolStream(View(channels=frozenset({"values"})), OFFICIAL)
    told_last = stream.failure(Failed(code="x", message="gone"))
    assert told_last == (
        b'event: error\r\ndata: {"type":"error","id":null,"error":"unknown_error","message":"gone"}\r\n\r\n'
    )
    assert stream.ended


def test_raw_json_of_foreign_make_stays_on_its_line() -> None:
    stream = ProtocolStream(View(channels=frozenset({"values"})), OFFICIAL)
    stream.chronicle.begin(GRAPH, frames=True, before=[])
    pretty = Frame(mode="values", data=Raw(b'{\n "a": 1\n}'))
    wire = b"".join(stream.encode(Told(GRAPH, entry)) for entry in log(pretty))
    assert wire.count(b"\n") == 4
