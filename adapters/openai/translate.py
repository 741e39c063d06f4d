"""Chunks of one answer in, events out. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from adapters.openai.chunks import CallPiece, Choice, Chunk, Tokens
from proxy.errors import UpstreamError
from proxy.events import Completed, Event, ReasoningDelta, TextDelta, ToolCallDelta, Usage

FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class Call:
    """A tool call under way; `held` are arguments that came before its name. Its index is given with the name."""

    __slots__ = ("empty", "held", "id", "index", "name")

    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.name = ""
        self.index = -1
        self.held = ""
        self.empty = True


class Translator:
    """Translates one answer. Only the first choice counts: several answers are several runs."""

    def __init__(self, model: str) -> None:
        self.finish = ""
        """The upstream's finish reason once it is known: from then on the answer is whole."""
        self._model = model
        self._tokens: Tokens | None = None
        self._calls: list[Call] = []
        self._slots: dict[int, Call] = {}
        self._named = 0

    def feed(self, chunk: Chunk) -> list[Event]:
        """The events of one chunk."""
        events: list[Event] = []
        if chunk.usage is not None:
            self._tokens = chunk.usage
        for choice in chunk.choices or ():
            if not choice.index:
                self._choice(choice, events)
        return events

    def close(self) -> Iterator[Event]:
        """What is left to say when the answer is whole: usage, and the final event."""
        for call in self._calls:
            if not call.name:
                raise UpstreamError("The model asked for a tool without naming it.")
            if call.empty:
                yield self._piece(call, "{}")
        if self._tokens is not None:
            yield self._usage(self._tokens)
        reason = FINISH.get(self.finish, "stop")
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._calls else "stop"
        yield Completed(finish_reason=reason)

    def _choice(self, choice: Choice, events: list[Event]) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            if thought := delta.reasoning_content or delta.reasoning:
                events.append(ReasoningDelta(text=thought))
            if text := delta.content or delta.refusal:
                events.append(TextDelta(text=text))
            if delta.tool_calls or delta.function_call:
                pieces = delta.tool_calls or [CallPiece(index=0, function=delta.function_call)]
                events += [event for piece in pieces if (event := self._call(piece)) is not None]
        if choice.finish_reason == "error":
            raise UpstreamError("The model broke off its answer with an error.")
        self.finish = choice.finish_reason or self.finish

    def _call(self, piece: CallPiece) -> Event | None:
        name = (piece.function.name if piece.function else None) or ""
        arguments = (piece.function.arguments if piece.function else None) or ""
        call = self._call_of(piece, name)
        if not call.name:
            if not name:
                call.held += arguments
                return None
            call.name, call.index = name, self._named
            self._named += 1
            return self._piece(call, call.held + arguments)
        return self._piece(call, arguments) if arguments else None

    def _call_of(self, piece: CallPiece, name: str) -> Call:
        """The call a piece belongs to. The index says so, except where a server gives every call the same one, or
        none: then a new id with a name, or without an index a name alone, begins another call."""
        index, call_id = piece.index, piece.id or ""
        if index is None:
            known = next((call for call in self._calls if call.id == call_id), None)
            call = known or (None if name or not self._calls else self._calls[-1])
        else:
            call = self._slots.get(index)
            if call is not None and call.name and name and call_id and call_id != call.id:
                call = None
        if call is None:
            call = Call(call_id or f"call_{uuid.uuid4().hex[:24]}")
            self._calls.append(call)
        elif call_id and not call.name:
            call.id = call_id
        if index is not None:
            self._slots[index] = call
        return call

    def _piece(self, call: Call, arguments: str) -> Event:
        call.empty = call.empty and not arguments
        return ToolCallDelta(call_id=call.id, name=call.name, index=call.index, arguments=arguments, client=True)

    def _usage(self, tokens: Tokens) -> Event:
        cached = tokens.prompt_tokens_details and tokens.prompt_tokens_details.cached_tokens
        reasoning = tokens.completion_tokens_details and tokens.completion_tokens_details.reasoning_tokens
        return Usage(
            model=self._model,
            input_tokens=tokens.prompt_tokens or 0,
            output_tokens=tokens.completion_tokens or 0,
            cached_tokens=cached or 0,
            reasoning_tokens=reasoning or 0,
        )
