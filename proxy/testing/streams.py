"""What holds for every stream of events, whatever the agent: pure checks over a stream that was read to its end.

A check takes the stream and raises `Broken`; its docstring is the rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import get_args

import msgspec
from msgspec import Raw

from proxy.adapter import Adapter, RunInput
from proxy.events import (
    FINAL,
    Cancelled,
    Completed,
    Custom,
    Event,
    Failed,
    Frame,
    Paused,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolResult,
)

REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


class Broken(AssertionError):
    """A rule does not hold; the text says where it was seen."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter gave for one run, from the first event to the end."""

    adapter: Adapter
    run: RunInput
    events: list[Event]


Check = Callable[[Stream], None]


def require(holds: bool, seen: str) -> None:
    """Raise `Broken` with what was seen unless it `holds`."""
    if not holds:
        raise Broken(seen)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def gives_events_of_its_own(stream: Stream) -> None:
    """Everything is an event, and none is the worker's word: RunStarted and Cancelled are not for adapters."""
    for event in stream.events:
        require(isinstance(event, get_args(Event)), f"gave a {type(event).__name__}, which is no event")
        require(not isinstance(event, RunStarted | Cancelled), f"gave a {type(event).__name__}")


def survives_the_log(stream: Stream) -> None:
    """Every event can be written to the log and read back (no wrong types, no lone surrogates)."""
    for event in stream.events:
        try:
            written = msgspec.json.encode(event)
            read = msgspec.json.encode(msgspec.json.decode(written, type=Event))
        except (msgspec.MsgspecError, UnicodeError, TypeError) as error:
            raise Broken(f"{event!r:.200}: {error}") from error
        require(read == written, f"{event!r:.200} reads back as {read[:200]!r}")


def names_every_tool_call(stream: Stream) -> None:
    """Every piece of a tool call has the call's id and name, and the same name and `client` each time; a result
    has the id too."""
    calls: dict[str, tuple[str, bool]] = {}
    for event in stream.events:
        if isinstance(event, ToolCallDelta | ToolResult):
            require(bool(event.call_id), f"a {type(event).__name__} without call_id")
        if isinstance(event, ToolCallDelta):
            require(bool(event.name), f"call {event.call_id} has a piece without name")
            known = calls.setdefault(event.call_id, (event.name, event.client))
            require(known == (event.name, event.client), f"call {event.call_id} changes its name or `client` midway")


def joins_arguments_to_json(stream: Stream) -> None:
    """The pieces of one call's arguments, joined, are valid JSON."""
    arguments: dict[str, str] = {}
    for event in stream.events:
        if isinstance(event, ToolCallDelta):
            arguments[event.call_id] = arguments.get(event.call_id, "") + event.arguments
        elif isinstance(event, Paused):
            arguments.update((f"{call.call_id} (paused)", call.arguments) for call in event.calls)
    for call_id, joined in arguments.items():
        require(_is_json(joined), f"the arguments of call {call_id} are {joined!r:.200}")


def ends_once(stream: Stream) -> None:
    """At most one final event (Completed, Failed, Paused), and nothing after it."""
    finals = [at for at, event in enumerate(stream.events) if isinstance(event, FINAL)]
    require(len(finals) <= 1, f"{len(finals)} final events")
    after = stream.events[finals[0] + 1 :] if finals else []
    require(not after, f"{len(after)} events after the final one")


def gives_frames_only_when_asked(stream: Stream) -> None:
    """Frames come from `native` adapters only, and only of modes that the run was created with."""
    for event in stream.events:
        if isinstance(event, Frame):
            require(stream.adapter.native, "a Frame from an adapter that is not native")
            require(event.mode in stream.run.modes, f"a Frame of mode {event.mode!r}, which the run did not ask for")


def carries_json(stream: Stream) -> None:
    """What stands in `Raw` fields is valid JSON."""
    for event in stream.events:
        for raw in _raws(event):
            require(_is_json(bytes(raw)), f"{type(event).__name__} carries {bytes(raw)[:200]!r}")


def finishes_for_a_known_reason(stream: Stream) -> None:
    """`finish_reason` is a word of OpenAI's, and `tool_calls` only where the caller has a tool to run."""
    for event in stream.events:
        if not isinstance(event, Completed):
            continue
        require(event.finish_reason in REASONS, f"finish_reason {event.finish_reason!r}")
        called = any(isinstance(other, ToolCallDelta) and other.client for other in stream.events)
        require(called or event.finish_reason != "tool_calls", "finish_reason `tool_calls` without a client's call")


def pauses_for_something(stream: Stream) -> None:
    """A pause has a question or a call; their ids are there, and differ."""
    for event in stream.events:
        if isinstance(event, Paused):
            ids = [question.id for question in event.interrupts] + [call.call_id for call in event.calls]
            require(bool(ids), "a Paused that asks nothing")
            require(all(ids) and len(set(ids)) == len(ids), f"a Paused with the ids {ids}")


def does_not_fail_where_it_should_end(stream: Stream) -> None:
    """A run that is said to end well does not give Failed."""
    for event in stream.events:
        require(not isinstance(event, Failed), f"gave {event!r:.300}")


CHECKS: tuple[Check, ...] = (
    gives_events_of_its_own,
    survives_the_log,
    names_every_tool_call,
    joins_arguments_to_json,
    ends_once,
    gives_frames_only_when_asked,
    carries_json,
    finishes_for_a_known_reason,
    pauses_for_something,
    does_not_fail_where_it_should_end,
)


def _raws(event: Event) -> Iterator[Raw]:
    if isinstance(event, Custom | Frame):
        yield event.data
    elif isinstance(event, Paused):
        yield from (question.value for question in event.interrupts)


def _is_json(document: str | bytes) -> bool:
    try:
        json.loads(document)
    except ValueError:
        return False
    return True
