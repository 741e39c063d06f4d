"""One message of a model's as content blocks: how the event protocol streams it.

Source: LangChain's description of the protocol (the npm package `@langchain/protocol`), and what the official server
sends. Pieces in LangChain's JSON in, in order; the data of `messages` events out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.wire.langchain import decode_object

TEXT = "text"
REASONING = "reasoning"
CALL_PIECE = "tool_call_chunk"
THOUGHTS = frozenset({"reasoning", "thinking"})
WRITTEN = frozenset({"tool_use", "tool_call", "tool_call_chunk", "input_json_delta", "function_call"})
"""Blocks of the content that say again what stands among the message's calls."""


class CallPiece(Struct, frozen=True):
    """A piece of a call; name and id stand on its first."""

    name: str | None = None
    args: str | None = None
    id: str | None = None
    index: int | str | None = None


class WholeCall(Struct, frozen=True):
    """A call of a message that came in one piece; `args` is an object, or what the model wrote in its place."""

    name: str | None = None
    args: Any = None
    id: str | None = None


class Piece(Struct, frozen=True):
    """What is new of a message, or a whole one, in LangChain's JSON."""

    type: str = ""
    id: str | None = None
    content: Any = ""
    additional_kwargs: dict[str, Any] = {}
    response_metadata: dict[str, Any] = {}
    tool_call_chunks: tuple[CallPiece, ...] = ()
    tool_calls: tuple[WholeCall, ...] = ()
    invalid_tool_calls: tuple[WholeCall, ...] = ()
    usage_metadata: dict[str, Any] | None = None
    chunk_position: str | None = None
    tool_call_id: str | None = None
    status: str | None = None


class Content(Struct, frozen=True, omit_defaults=True):
    """A block as it begins, as it ends, or what is added to it."""

    type: str
    text: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    args: str | Raw | UnsetType = UNSET
    error: str | UnsetType | None = UNSET
    index: int | str | UnsetType = UNSET


class Said(Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of what a `messages` event says."""

    id: str | UnsetType = UNSET
    """The message, where several come from one place at once: a reader cannot else tell whose event it is."""
    run_id: str | UnsetType = UNSET
    """The same once more, where readers in JavaScript look for it."""


class Start(Said, frozen=True, kw_only=True, tag="message-start"):
    role: str


class BlockStart(Said, frozen=True, kw_only=True, tag="content-block-start"):
    index: int
    content: Content | Raw


class BlockDelta(Said, frozen=True, kw_only=True, tag="content-block-delta"):
    """`content` is the same piece in an older form, the only one that all readers know for the pieces of calls."""

    index: int
    delta: Content
    content: Content | UnsetType = UNSET


class BlockFinish(Said, frozen=True, kw_only=True, tag="content-block-finish"):
    index: int
    content: Content | Raw


class Finish(Said, frozen=True, kw_only=True, tag="message-finish"):
    usage: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Broken(Said, frozen=True, kw_only=True, tag="error"):
    """The message ends here, and is not whole."""

    message: str


class Block:
    """One block under way."""

    __slots__ = ("call", "kind", "pieces", "whole")

    def __init__(self, kind: str, *, call: CallPiece | None = None, whole: Raw | None = None) -> None:
        self.kind = kind
        self.call = call
        self.whole = whole
        """A block that came in one piece and stays as it is."""
        self.pieces: list[str] = []

    def begun(self) -> Content | Raw:
        return self.whole or self._content("")

    def add(self, text: str) -> tuple[Content, Content | UnsetType]:
        """The piece, in both forms."""
        self.pieces.append(text)
        if self.kind == TEXT:
            return Content("text-delta", text=text), UNSET
        if self.kind == REASONING:
            return Content("reasoning-delta", reasoning=text), UNSET
        return Content("tool-call-delta", args=text), Content(CALL_PIECE, args=text)

    def finished(self) -> Content | Raw:
        if self.whole is not None:
            return self.whole
        text = "".join(self.pieces)
        return self._content(text) if self.call is None else finished_call(self.call.id, self.call.name, text)

    def _content(self, text: str) -> Content:
        if self.kind == TEXT:
            return Content(TEXT, text=text)
        if self.kind == REASONING:
            return Content(REASONING, reasoning=text)
        assert self.call is not None
        index = UNSET if self.call.index is None else self.call.index
        return Content(CALL_PIECE, id=self.call.id, name=self.call.name, args=text, index=index)


def finished_call(id: str | None, name: str | None, args: str) -> Content:
    """A call whose arguments are all there."""
    text = args or "{}"
    try:
        decode_object(text)
    except (msgspec.MsgspecError, RecursionError):
        return Content("invalid_tool_call", id=id, name=name, args=args, error=None)
    return Content("tool_call", id=id, name=name, args=Raw(text.encode()))


class Speech:
    """One message as it comes. Its blocks are finished together, with the message."""

    def __init__(self, id: str) -> None:
        self.id = id
        self._blocks: list[Block] = []
        self._usage: dict[str, Any] = {}
        self._about: dict[str, Any] = {}

    @property
    def calls(self) -> list[Content]:
        """Its calls that can be read."""
        ends = (block.finished() for block in self._blocks if block.call is not None)
        return [end for end in ends if isinstance(end, Content) and end.type == "tool_call"]

    def start(self) -> Start:
        return Start(role="ai", id=self.id)

    def add(self, piece: Piece) -> Iterator[Said]:
        """What a piece adds to the message, or a whole message to nothing."""
        thought = piece.additional_kwargs.get("reasoning_content")
        if isinstance(thought, str) and thought:
            yield from self._grow(REASONING, thought)
        for kind, content in _parts(piece.content):
            yield from self._grow(kind, content) if isinstance(content, str) else self._put(kind, content)
        for call in (*piece.tool_call_chunks, *_called(piece)):
            yield from self._call(call)
        self._about.update(piece.response_metadata)
        self._usage = _sum(self._usage, piece.usage_metadata or {})

    def finish(self) -> Iterator[Said]:
        for index, block in enumerate(self._blocks):
            yield BlockFinish(index=index, content=block.finished())
        yield Finish(usage=self._usage or UNSET, metadata=self._about or UNSET)

    def _grow(self, kind: str, text: str) -> Iterator[Said]:
        """Go on with the last block, or begin one if that is of another kind."""
        if not self._blocks or self._blocks[-1].kind != kind:
            yield self._begin(Block(kind))
        yield self._delta(len(self._blocks) - 1, text)

    def _put(self, kind: str, whole: Raw) -> Iterator[Said]:
        yield self._begin(Block(kind, whole=whole))

    def _call(self, piece: CallPiece) -> Iterator[Said]:
        at = self._place(piece)
        if at is None:
            at = len(self._blocks)
            yield self._begin(Block(CALL_PIECE, call=piece))
        if piece.args:
            yield self._delta(at, piece.args)

    def _place(self, piece: CallPiece) -> int | None:
        """The block that a piece of a call goes on with: the last of its index, unless it names another call."""
        for at in reversed(range(len(self._blocks))):
            call = self._blocks[at].call
            if call is not None and (piece.index is None or call.index == piece.index):
                return at if not piece.id or piece.id == call.id else None
        return None

    def _begin(self, block: Block) -> BlockStart:
        self._blocks.append(block)
        return BlockStart(index=len(self._blocks) - 1, content=block.begun())

    def _delta(self, at: int, text: str) -> BlockDelta:
        delta, content = self._blocks[at].add(text)
        return BlockDelta(index=at, delta=delta, content=content)


def _parts(content: Any) -> Iterator[tuple[str, str | Raw]]:
    """Text and thoughts of a content by kind; any other block as its JSON."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            if part:
                yield TEXT, part
        elif isinstance(part, dict) and (kind := part.get("type")) not in WRITTEN:
            name = "thinking" if kind == "thinking" else str(kind)
            said = part.get(name)
            if kind == TEXT or kind in THOUGHTS:
                if isinstance(said, str) and said:
                    yield TEXT if kind == TEXT else REASONING, said
            elif isinstance(kind, str):
                yield kind, Raw(msgspec.json.encode(part))


def _called(piece: Piece) -> Iterable[CallPiece]:
    """The calls of a message that came in one piece; one that streams has them in pieces."""
    if piece.type == "AIMessageChunk":
        return
    for index, call in enumerate((*piece.tool_calls, *piece.invalid_tool_calls)):
        args = call.args if isinstance(call.args, str) else msgspec.json.encode(call.args or {}).decode()
        yield CallPiece(name=call.name, args=args, id=call.id, index=index)


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Counts of tokens added up, those within them as well."""
    total = dict(one)
    for name, value in other.items():
        known = total.get(name)
        if isinstance(value, dict):
            total[name] = _sum(known if isinstance(known, dict) else {}, value)
        elif isinstance(value, int) and isinstance(known, int):
            total[name] = known + value
        else:
            total[name] = value
    return total
