"""Turns what a graph streams into events. No I/O: parts in, events out.

LangGraph itself leaves out messages that a node was given, so a whole message that arrives is new to its node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from msgspec import Raw

from adapters.langgraph.calls import Calls, Path
from adapters.langgraph.messages import loose_answer, pieces, text_of, utf8
from adapters.langgraph.meter import Meter
from adapters.langgraph.options import GraphOptions
from proxy.events import Completed, Custom, Event, Interrupt, Paused, ReasoningDelta, TextDelta, ToolResult

MODES: tuple[Literal["messages", "updates", "custom"], ...] = ("messages", "updates", "custom")
BREAKPOINT = "breakpoint"
"""The id of the question that a static breakpoint asks."""
Handler = Callable[..., Iterable[Event]]
NOTHING: tuple[Event, ...] = ()
REASONS = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
"""Why a model stopped, in the providers' words and in OpenAI's."""


class Source:
    """One message under way: where it comes from, whether it is part of the answer, and what it said of it."""

    __slots__ = ("id", "path", "said", "streamed", "visible")

    def __init__(self, id: str, path: Path, *, visible: bool, streamed: bool) -> None:
        self.id = id
        self.path = path
        self.visible = visible
        self.streamed = streamed
        self.said: list[str] = []


class Translator:
    """For one run. `known` are the ids of the messages that went in, `client_tools` the names of the caller's tools."""

    def __init__(
        self, options: GraphOptions, *, client_tools: frozenset[str] = frozenset(), known: Iterable[str] = ()
    ) -> None:
        self.meter = Meter()
        self.interrupts: dict[str, Interrupt] = {}
        self.paused = False
        self._options = options
        self._calls = Calls(client_tools)
        self._sources: dict[str, Source] = {}
        self._seen = set(known)
        self._answer = ""
        self._finish = "stop"
        self._stop_reason = ""
        self._modes: dict[str, Handler] = {
            "messages": self._message,
            "updates": self._updates,
            "custom": self._custom,
        }
        self._kinds: dict[str, Handler] = {
            "AIMessageChunk": self._chunk,
            "ai": self._whole,
            "tool": self._result,
        }

    def feed(self, ns: Path, mode: str, payload: Any) -> Iterable[Event]:
        """Events for one part of the stream; none for kinds that have no word."""
        handle = self._modes.get(mode)
        return NOTHING if handle is None else handle(ns, payload)

    def close(self) -> list[Event]:
        """What is left to say once the stream has ended, the final event last."""
        events: list[Event] = list(self._calls.close())
        if self._answer and not any(source.said for source in self._sources.values()):
            events.append(TextDelta(text=utf8(self._answer), part="answer"))
        waiting = self._calls.waiting()
        if self.paused:
            events.append(Paused(interrupts=tuple(self.interrupts.values()), calls=waiting))
        elif waiting and not self._stop_reason:
            events.append(Completed(finish_reason="tool_calls"))
        else:
            events.append(Completed(finish_reason=self._finish, stop_reason=self._stop_reason))
        return events

    def out_of_steps(self) -> None:
        """The graph used up its steps."""
        self._finish, self._stop_reason = "length", "max_steps"

    def halted_before(self, nodes: Sequence[str]) -> None:
        """The graph stands at a static breakpoint, which asks nothing by itself."""
        question = f"The agent stopped before {', '.join(nodes)}. Any answer lets it go on."
        self.interrupts[BREAKPOINT] = Interrupt(id=BREAKPOINT, value=_raw(question))

    def _message(self, ns: Path, payload: tuple[BaseMessage, dict[str, Any]]) -> Iterable[Event]:
        message, about = payload
        handle = self._kinds.get(message.type)
        return NOTHING if handle is None else handle(ns, message, about)

    def _chunk(self, ns: Path, chunk: AIMessageChunk, about: dict[str, Any]) -> Iterable[Event]:
        source = self._sources.get(chunk.id or "")
        if source is None:
            source = self._begin(ns, chunk, about)
        content = chunk.content
        rich = chunk.tool_call_chunks or chunk.additional_kwargs or chunk.response_metadata
        if rich or not isinstance(content, str):
            return self._rich_chunk(source, chunk)
        if not content or not source.visible:
            return NOTHING
        source.said.append(content)
        return (TextDelta(text=content if content.isascii() else utf8(content), part=source.id, path=source.path),)

    def _rich_chunk(self, source: Source, chunk: AIMessageChunk) -> Iterator[Event]:
        yield from self._said(source, chunk)
        if chunk.tool_call_chunks:
            yield from self._calls.streamed(source.id, chunk.tool_call_chunks, source.path)

    def _whole(self, ns: Path, message: AIMessage, about: dict[str, Any]) -> Iterator[Event]:
        id = message.id or ""
        if id in self._seen or id in self._sources:
            return
        self.meter.count_foreign(message)
        if id in self.meter.muted or self._is_repeated(text_of(message.content)):
            path = _names(ns)
        else:
            source = self._begin(ns, message, about)
            path = source.path
            yield from self._said(source, message)
        yield from self._calls.whole(message, path)

    def _result(self, ns: Path, message: ToolMessage, about: dict[str, Any]) -> Iterator[Event]:
        if message.id in self._seen:
            return
        self._seen.add(message.id or "")
        yield from self._calls.answered(message.tool_call_id)
        yield ToolResult(
            call_id=message.tool_call_id,
            output=utf8(text_of(message.content)),
            is_error=message.status == "error",
            path=_names(ns),
        )

    def _updates(self, ns: Path, payload: dict[str, Any]) -> Iterator[Event]:
        for node, update in payload.items():
            if node == "__interrupt__":
                self._pause(update)
            elif not ns and not node.startswith("__") and self._options.shows_node(node):
                for written in update if isinstance(update, list) else (update,):
                    yield from self._written(node, written)

    def _custom(self, ns: Path, payload: Any) -> Iterable[Event]:
        return (Custom(name="custom", data=_raw(payload), path=_names(ns)),)

    def _begin(self, ns: Path, message: AIMessage, about: dict[str, Any]) -> Source:
        streamed = isinstance(message, AIMessageChunk)
        source = Source(message.id or "", _names(ns), visible=self._options.shows(about), streamed=streamed)
        self._sources[source.id] = source
        if source.visible:
            self._finish = "stop"
        return source

    def _said(self, source: Source, message: AIMessage) -> Iterator[Event]:
        if not source.visible:
            return
        self._note_finish(message)
        extra = message.additional_kwargs
        thought = extra.get("reasoning_content") or extra.get("reasoning")
        if isinstance(thought, str) and thought:
            yield ReasoningDelta(text=utf8(thought), part=source.id, path=source.path)
        content = message.content
        for text, reasoning in ((content, ""),) if isinstance(content, str) else pieces(content):
            if reasoning:
                yield ReasoningDelta(text=utf8(reasoning), part=source.id, path=source.path)
            if text:
                source.said.append(text)
                yield TextDelta(text=utf8(text), part=source.id, path=source.path)

    def _is_repeated(self, text: str) -> bool:
        """Whether a node wraps text that a model has streamed into a message of its own."""
        return bool(text) and any(source.streamed and "".join(source.said) == text for source in self._sources.values())

    def _note_finish(self, message: AIMessage) -> None:
        about = message.response_metadata
        reason = about.get("finish_reason") or about.get("stop_reason")
        if reason is None and isinstance(details := about.get("incomplete_details"), dict):
            reason = details.get("reason")
        if isinstance(reason, str):
            self._finish = REASONS.get(reason.lower(), "stop")

    def _pause(self, interrupts: Iterable[Any]) -> None:
        """A sub-graph's question arrives once more from the root."""
        self.paused = True
        for asked in interrupts:
            self.interrupts[asked.id] = Interrupt(id=asked.id, value=_raw(asked.value))

    def _written(self, node: str, update: Any) -> Iterator[Event]:
        """What a node wrote under the output key: messages in any form, or a value that is the answer itself."""
        key = self._options.output_key
        value = update.get(key) if isinstance(update, dict) else getattr(update, key, update)
        if isinstance(value, str):
            self._answer = self._answer if key == "messages" and isinstance(update, dict) else value
            return
        items = value if isinstance(value, list) else (value,)
        for item in items:
            loose = loose_answer(item)
            if loose is not None:
                loose.id = loose.id or f"{node}-{len(self._sources)}"
                yield from self._whole((), loose, {"langgraph_node": node})
        last = items[-1] if items else None
        if isinstance(last, AIMessage) and last.id not in self._seen:
            source = self._sources.get(last.id or "")
            self._answer = text_of(last.content) if source is None or source.visible else self._answer


def _names(ns: Path) -> Path:
    """`("researcher:4f1c...",)` without the task ids."""
    return tuple(part.partition(":")[0] for part in ns) if ns else ns


def _raw(value: Any) -> Raw:
    try:
        return Raw(msgspec.json.encode(value, enc_hook=_plain))
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=_plain), ensure_ascii=False)
        return Raw(utf8(text).encode())


def _plain(value: Any) -> Any:
    """What JSON has no word for: a pydantic object (messages are) as its fields, anything else as its text."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) and not isinstance(value, type) else str(value)
