"""OpenAI's chat completions: the chunks of a stream. Whole answers are `chat_answer`'s, requests `chat_request`'s.

Source: OpenAI's API reference for `/v1/chat/completions`, and what its clients need in practice.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from proxy.events import (
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    Paused,
    RunStarted,
    TextDelta,
    Usage,
)
from proxy.transcript import LOST, goes_on, total
from proxy.wire.base import PING, SSE, one_line, sse
from proxy.wire.shown import Piece, Presenter, Shown

json = msgspec.json.Encoder()


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CallDelta(Struct, frozen=True):
    index: int
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET


class Delta(Struct, frozen=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: tuple[CallDelta, ...] | UnsetType = UNSET


class Details(Struct, frozen=True):
    cached_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    reasoning_tokens: int = 0


class Tokens(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Details
    completion_tokens_details: OutputDetails


class ErrorBody(Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class ErrorEnvelope(Struct, frozen=True):
    error: ErrorBody


class Head(Struct, frozen=True, kw_only=True):
    """What all chunks of one response share."""

    id: str
    created: int
    model: str


def tokens(usage: Usage) -> Tokens:
    return Tokens(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=Details(usage.cached_tokens),
        completion_tokens_details=OutputDetails(usage.reasoning_tokens),
    )


def failure(failed: Failed, param: str | None = None) -> bytes:
    """The error as OpenAI's object, for a body or for one event of a stream; `param` names the field at fault."""
    kind = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}.get(failed.status)
    kind = kind or ("invalid_request_error" if failed.status < 500 else "server_error")
    return json.encode(ErrorEnvelope(ErrorBody(failed.message, kind, param, failed.code)))


class ChatEncoder:
    """One choice of a stream of chunks."""

    media_type = SSE

    def __init__(
        self, head: Head, shown: Shown, *, index: int = 0, include_usage: bool = False, chunk_pings: bool = False
    ) -> None:
        self.ended = False
        self._chunk_pings = chunk_pings
        self._greeted = False
        self._said = False
        """Something of the answer was sent."""
        self._shown = shown
        self._presenter = Presenter(shown)
        self._usage: list[Usage] = []
        self._include_usage = include_usage
        self._part: str | None = None
        top = f'{{"id":{_text(head.id)},"object":"chat.completion.chunk","created":{head.created},'
        top += f'"model":{_text(head.model)},"system_fingerprint":null,"choices":['
        usage = ',"usage":null' if include_usage else ""
        self._top = top.encode()
        self._before = f'data: {top}{{"index":{index},"delta":'.encode()
        self._content = self._before + b'{"content":'
        self._after = f',"logprobs":null,"finish_reason":null}}]{usage}}}\n\n'.encode()
        self._after_content = b"}" + self._after
        self._finish = f',"logprobs":null,"finish_reason":"%s"}}]{usage}}}\n\n'

    def encode(self, entry: Entry) -> bytes:
        event = entry.event
        if type(event) is TextDelta and event.part == self._part and event.text:
            return self._content + one_line(json.encode(event.text)) + self._after_content
        if self.ended:
            return b""
        match event:
            case RunStarted():
                return self.failure(LOST) if self._said and goes_on(event) else self._greeting()
            case Usage():
                self._usage.append(event)
                return b""
            case Completed() | Paused():
                return self._pieces(event) + self._finished(finish_reason(event, self._presenter))
            case Cancelled():
                return self._pieces(event) + self._finished("stop")
            case Failed():
                return self.failure(event)
            case _:
                return self._pieces(event)

    def heartbeat(self) -> bytes:
        """A comment, or a chunk that says nothing for clients that choke on comments."""
        if not self._chunk_pings:
            return PING
        return self._greeting() or self._chunk(Delta(content=""))

    def failure(self, failed: Failed) -> bytes:
        self.ended, self._part = True, None
        return sse(failure(failed))

    def end(self) -> bytes:
        return DONE

    @property
    def usage(self) -> Usage:
        return total(self._usage)

    def usage_chunk(self, usage: Usage) -> bytes:
        """The chunk without choices that carries the sum."""
        return b"data: " + self._top + b'],"usage":' + json.encode(tokens(usage)) + b"}\n\n"

    def _greeting(self) -> bytes:
        """The chunk with the role, once."""
        if self._greeted:
            return b""
        self._greeted = True
        return self._chunk(Delta(role="assistant", content=""))

    def _pieces(self, event: Event) -> bytes:
        pieces = self._presenter.pieces(event)
        self._said = self._said or bool(pieces)
        self._part = self._presenter.plain_part
        return b"".join([self._chunk(delta(piece, self._shown)) for piece in pieces])

    def _chunk(self, delta: Delta) -> bytes:
        return self._before + one_line(json.encode(delta)) + self._after

    def _finished(self, reason: str) -> bytes:
        self.ended = True
        last = self._before + b"{}" + (self._finish % reason).encode()
        return last + self.usage_chunk(self.usage) if self._include_usage else last


DONE = b"data: [DONE]\n\n"
CUT_SHORT = frozenset({"length", "content_filter"})


def _text(value: str) -> str:
    return one_line(json.encode(value)).decode()


def delta(piece: Piece, shown: Shown) -> Delta:
    """What a piece of the answer looks like in a chunk."""
    call = piece.call
    if call is None and piece.reasoning:
        return Delta(reasoning=piece.text) if shown.reasoning == "reasoning" else Delta(reasoning_content=piece.text)
    if call is None:
        return Delta(content=piece.text)
    if call.id is None:
        return Delta(tool_calls=(CallDelta(call.index, function=FunctionDelta(arguments=call.arguments)),))
    function = FunctionDelta(name=call.name, arguments=call.arguments)
    return Delta(tool_calls=(CallDelta(call.index, call.id, "function", function),))


def finish_reason(event: Completed | Paused, presenter: Presenter) -> str:
    """OpenAI's word for how a run ended; clients fail on others. `tool_calls` only if the caller was given some."""
    if isinstance(event, Completed) and event.finish_reason in CUT_SHORT:
        return event.finish_reason
    return "tool_calls" if presenter.calls else "stop"
