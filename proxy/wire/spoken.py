"""One message of an agent's, put together from its pieces, in LangChain's form."""

from __future__ import annotations

from io import StringIO

import msgspec
from msgspec import Raw

from proxy.events import ReasoningDelta, TextDelta, ToolCallDelta, Usage
from proxy.transcript import Calls
from proxy.wire.langchain import AI, CallChunk, Chunk, Tokens, calls_of

json = msgspec.json.Encoder()
Path = tuple[str, ...]


class Spoken:
    """A message of the agent's, as far as it has come."""

    __slots__ = ("_calls", "_text", "_thought", "about", "changed", "id", "ns", "sealed", "told", "usage")

    def __init__(self, id: str, ns: Path, about: Raw) -> None:
        self.id = id
        self.ns = ns
        self.about = about
        """`About` it, as JSON."""
        self.told: Raw | None = None
        """The whole message, as JSON, when it was last told of."""
        self.changed = False
        """It has grown since."""
        self.usage: Usage | None = None
        self.sealed = False
        """A tool has answered it: more of the same part is a new message."""
        self._calls = Calls()
        # Not lists of pieces: a piece takes ten times the memory of its few letters, and there may be a million.
        self._text = StringIO()
        self._thought = StringIO()

    def add(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> Chunk:
        """Add a piece; the piece by itself in LangChain's form."""
        self.changed = True
        match event:
            case TextDelta(text=text):
                self._text.write(text)
                return Chunk(content=text, id=self.id)
            case ReasoningDelta(text=text):
                self._thought.write(text)
                return Chunk(content="", id=self.id, additional_kwargs={"reasoning_content": text})
            case _:
                return Chunk(content="", id=self.id, tool_call_chunks=(self._piece(event),))

    def _piece(self, event: ToolCallDelta) -> CallChunk:
        first = self._calls.add(event)
        name, id = (event.name, event.call_id) if first else (None, None)
        return CallChunk(name=name, args=event.arguments, id=id, index=self._calls.index(event.call_id))

    def count(self, usage: Usage) -> Chunk:
        self.changed = True
        self.usage = usage
        return Chunk(content="", id=self.id, usage_metadata=tokens(usage))

    @property
    def call_ids(self) -> frozenset[str]:
        return frozenset(call.call_id for call in self._calls.all())

    def tell(self) -> AI:
        """The message as it is now, from now on part of the values."""
        whole = self.whole()
        self.told, self.changed = Raw(json.encode(whole)), False
        return whole

    def whole(self) -> AI:
        thought = self._thought.getvalue()
        calls, invalid = calls_of((call.call_id, call.name, call.arguments) for call in self._calls.all())
        return AI(
            content=self._text.getvalue(),
            additional_kwargs={"reasoning_content": thought} if thought else {},
            id=self.id,
            tool_calls=calls,
            invalid_tool_calls=invalid,
            usage_metadata=None if self.usage is None else tokens(self.usage),
        )


def tokens(usage: Usage) -> Tokens:
    return Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_token_details={"cache_read": usage.cached_tokens} if usage.cached_tokens else {},
        output_token_details={"reasoning": usage.reasoning_tokens} if usage.reasoning_tokens else {},
    )
