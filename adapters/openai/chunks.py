"""The shape of an upstream's chunks, as lenient as typed decoding can be: only what becomes an event is looked at."""

from __future__ import annotations

import msgspec

from adapters.openai.failures import Problem, problem_in
from proxy.errors import UpstreamError


class FunctionPiece(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool call; servers leave out any of these."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPiece] | None = None
    function_call: FunctionPiece | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """`message` takes the place of `delta` where the answer is not streamed."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class InputDetails(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int | None = None


class OutputDetails(msgspec.Struct, frozen=True, gc=False):
    reasoning_tokens: int | None = None


class Tokens(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    choices: list[Choice] | None = None
    usage: Tokens | None = None
    error: Problem | str | None = None

    def problem(self) -> Problem:
        """The error object, made up where the server sent a mere string."""
        return self.error if isinstance(self.error, Problem) else Problem(message=self.error)


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One line of the upstream's list of models."""

    id: str
    created: float | None = None
    owned_by: str | None = None


class Listing(msgspec.Struct, frozen=True, gc=False):
    data: list[Listed]


_decode = msgspec.json.Decoder(Chunk).decode


def decode(name: bytes, data: bytes) -> Chunk:
    """One frame of the stream. Raises `UpstreamError` for what is no chunk."""
    if name == b"error":
        return Chunk(error=problem_in(data))
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError("The model sent something that is not a chat completion.") from error


def listing(body: bytes) -> Listing:
    """The upstream's models. Raises `UpstreamError` for what is no list of models."""
    try:
        return msgspec.json.decode(body, type=Listing)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError("The upstream sent something that is not a list of models.") from error
