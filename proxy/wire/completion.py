"""The simple form, for clients without an SDK: a message in, `{content, ...}` out, streamed or whole."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Struct

from proxy.events import Cancelled, Completed, Entry, Event, Failed, Paused, RunStarted, Usage
from proxy.messages import Message
from proxy.transcript import LOST, goes_on, total
from proxy.wire.base import PING, SSE, sse
from proxy.wire.record import iso
from proxy.wire.shown import Presenter, Shown

json = msgspec.json.Encoder()


class CompletionRequest(Struct, frozen=True, kw_only=True):
    """`agent` or `model` names who answers; with both, `model` overrides the agent's own."""

    message: str
    agent: str | None = None
    model: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    conversation_history: tuple[Message, ...] | None = None
    conversation_id: str | None = None
    project_id: str | None = None
    sources: list[Any] | None = None


class Tokens(Struct, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class Metadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What belongs to an answer besides its text: who gave it on the first and the last event, its end on the last."""

    run_id: str = ""
    agent: str = ""
    reasoning_content: str = ""
    finish_reason: str = ""
    usage: Tokens | None = None


NOTHING = Metadata()


class Chunk(Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    content: str = ""
    done: bool = False
    metadata: Metadata = NOTHING
    conversation_id: str


class Complaint(Struct, frozen=True, kw_only=True):
    """The last event of a stream that failed."""

    error: str
    detail: str
    timestamp: str
    content: str = ""
    done: bool = True
    metadata: Metadata
    conversation_id: str


class Completion(Struct, frozen=True, kw_only=True):
    """The whole answer."""

    content: str
    conversation_id: str
    metadata: Metadata


class Origin(Struct, frozen=True, kw_only=True):
    """Where an answer comes from; `agent` is the name that was asked for."""

    run_id: str
    agent: str
    conversation_id: str


def finish_reason(event: Completed | Paused | Cancelled) -> str:
    """Why an answer ended. A question back to the user is an `interrupt`: the next message answers it."""
    match event:
        case Paused():
            return "interrupt"
        case Cancelled():
            return "cancelled"
        case Completed():
            return event.finish_reason


def tokens(usages: list[Usage]) -> Tokens:
    usage = total(usages)
    return Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
    )


class CompletionEncoder:
    """A stream of chunks; the last one has `done: true`, whatever happened."""

    media_type = SSE

    def __init__(self, origin: Origin, shown: Shown, *, chunk_pings: bool = False) -> None:
        self.ended = False
        self._origin = origin
        self._presenter = Presenter(shown)
        self._chunk_pings = chunk_pings
        self._greeted = False
        self._said = False
        """Something of the answer was sent."""
        self._usage: list[Usage] = []

    def encode(self, entry: Entry) -> bytes:
        event = entry.event
        if self.ended:
            return b""
        match event:
            case RunStarted():
                return self._complaint(LOST, entry.at) if self._said and goes_on(event) else self._greeting()
            case Usage():
                self._usage.append(event)
                return b""
            case Completed() | Paused() | Cancelled():
                return self._pieces(event) + self._last(event)
            case Failed():
                return self._complaint(event, entry.at)
            case _:
                return self._pieces(event)

    def heartbeat(self) -> bytes:
        """A comment, or a chunk that says nothing for clients that choke on comments."""
        if not self._chunk_pings:
            return PING
        return self._greeting() or self._chunk()

    def failure(self, failed: Failed) -> bytes:
        return self._complaint(failed, time.time())

    def end(self) -> bytes:
        return b""

    def _greeting(self) -> bytes:
        if self._greeted:
            return b""
        self._greeted = True
        return self._chunk(metadata=self._about())

    def _about(self, reason: str = "", usage: Tokens | None = None) -> Metadata:
        return Metadata(run_id=self._origin.run_id, agent=self._origin.agent, finish_reason=reason, usage=usage)

    def _pieces(self, event: Event) -> bytes:
        pieces = [piece for piece in self._presenter.pieces(event) if piece.call is None]
        self._said = self._said or bool(pieces)
        return b"".join(
            self._chunk(metadata=Metadata(reasoning_content=piece.text)) if piece.reasoning else self._chunk(piece.text)
            for piece in pieces
        )

    def _chunk(self, content: str = "", metadata: Metadata = NOTHING) -> bytes:
        conversation_id = self._origin.conversation_id
        return sse(json.encode(Chunk(content=content, metadata=metadata, conversation_id=conversation_id)))

    def _last(self, event: Completed | Paused | Cancelled) -> bytes:
        self.ended = True
        metadata = self._about(finish_reason(event), tokens(self._usage))
        return sse(json.encode(Chunk(done=True, metadata=metadata, conversation_id=self._origin.conversation_id)))

    def _complaint(self, failed: Failed, at: float) -> bytes:
        self.ended = True
        complaint = Complaint(
            error=failed.code,
            detail=failed.message,
            timestamp=iso(at),
            metadata=self._about("error", tokens(self._usage)),
            conversation_id=self._origin.conversation_id,
        )
        return sse(json.encode(complaint))


class CompletionFold:
    """The whole answer, folded from the same entries as a stream."""

    def __init__(self, origin: Origin, shown: Shown) -> None:
        self.failed: Failed | None = None
        """Set if the run failed: there is no answer then."""
        self._origin = origin
        self._presenter = Presenter(shown)
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._usage: list[Usage] = []
        self._reason = "stop"

    def feed(self, entry: Entry) -> None:
        event = entry.event
        match event:
            case RunStarted():
                if goes_on(event) and (self._content or self._reasoning):
                    self.failed = LOST
            case Usage():
                self._usage.append(event)
            case Failed():
                self.failed = event
            case Completed() | Paused() | Cancelled():
                self._reason = finish_reason(event)
        for piece in self._presenter.pieces(event):
            if piece.call is None:
                (self._reasoning if piece.reasoning else self._content).append(piece.text)

    def answer(self) -> bytes:
        metadata = Metadata(
            run_id=self._origin.run_id,
            agent=self._origin.agent,
            reasoning_content="".join(self._reasoning),
            finish_reason=self._reason,
            usage=tokens(self._usage),
        )
        content, conversation_id = "".join(self._content), self._origin.conversation_id
        return json.encode(Completion(content=content, conversation_id=conversation_id, metadata=metadata))
