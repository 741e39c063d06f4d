"""The events of a workflow run: an envelope each, on a line of ASCII JSON.

An envelope is written once and kept as bytes, so that every reader gets the same. The clients' parsers are closed:
they take no field that is not here, and no null for one that is absent; an absent field is UNSET.
Source: the event parsers of the ModelRelay SDKs (TypeScript 9, Rust 6.5, Go), envelope version v2.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from proxy.wire.base import PING
from proxy.wire.workflow_parts import (
    Artifact,
    Delta,
    LlmCall,
    Problem,
    ToolCalled,
    ToolResult,
    UserAnswer,
    UserAsk,
    Waiting,
)

NDJSON = "application/x-ndjson"
BLANK = b"\n"
"""A sign of life: all that the clients skip on a stream of lines."""
VERSION: Literal["v2"] = "v2"
LARGEST_INCLUDED = 1_000_000
"""Bytes of JSON of a payload that is shown within its event, where a reader asks for that."""

_WIDE = re.compile(r"[^\x00-\x7f]")

encode = msgspec.json.Encoder().encode


class Word(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of what an envelope holds besides its head."""


class RunWord(Word, frozen=True):
    plan_hash: str


class NodeWord(Word, frozen=True):
    node_id: str


class RunCompiled(RunWord, frozen=True, tag="run_compiled"):
    """Always the first event."""


class RunStarted(RunWord, frozen=True, tag="run_started"):
    """Always the second."""


class RunCompleted(RunWord, frozen=True, tag="run_completed"):
    """The last one of a run that succeeded."""

    outputs: Artifact


class RunFailed(RunWord, frozen=True, tag="run_failed"):
    error: Problem


class RunCanceled(RunWord, frozen=True, tag="run_canceled"):
    error: Problem


class NodeStarted(NodeWord, frozen=True, tag="node_started"):
    pass


class NodeOutputDelta(NodeWord, frozen=True, tag="node_output_delta"):
    delta: Delta


class NodeLlmCall(NodeWord, frozen=True, tag="node_llm_call"):
    """After each call of a model."""

    llm_call: LlmCall


class NodeToolCall(NodeWord, frozen=True, tag="node_tool_call"):
    tool_call: ToolCalled


class NodeUserAsk(NodeWord, frozen=True, tag="node_user_ask"):
    """Before the `node_waiting` of the same call."""

    user_ask: UserAsk


class NodeWaiting(NodeWord, frozen=True, tag="node_waiting"):
    waiting: Waiting


class NodeUserAnswer(NodeWord, frozen=True, tag="node_user_answer"):
    user_answer: UserAnswer


class NodeToolResult(NodeWord, frozen=True, tag="node_tool_result"):
    tool_result: ToolResult


class NodeOutput(NodeWord, frozen=True, tag="node_output"):
    """Before `node_succeeded`."""

    output: Artifact


class NodeSucceeded(NodeWord, frozen=True, tag="node_succeeded"):
    pass


class NodeFailed(NodeWord, frozen=True, tag="node_failed"):
    error: Problem


Event = (
    RunCompiled
    | RunStarted
    | RunCompleted
    | RunFailed
    | RunCanceled
    | NodeStarted
    | NodeOutputDelta
    | NodeLlmCall
    | NodeToolCall
    | NodeUserAsk
    | NodeWaiting
    | NodeUserAnswer
    | NodeToolResult
    | NodeOutput
    | NodeSucceeded
    | NodeFailed
)
FINAL = (RunCompleted, RunFailed, RunCanceled)


class Head(Struct, frozen=True, kw_only=True):
    """What every envelope begins with; `seq` counts from 1 without a gap, `ts` is RFC 3339 in UTC."""

    envelope_version: Literal["v2"] = VERSION
    run_id: str
    seq: int
    ts: str


_event = msgspec.json.Decoder(Event)
_head = msgspec.json.Decoder(Head)


def envelope(event: Event, *, run_id: str, seq: int, at: float) -> bytes:
    """The line of an event, with its end; `at` in seconds since 1970."""
    head = encode(Head(run_id=run_id, seq=seq, ts=stamp(at)))
    return ascii_only(head[:-1] + b"," + encode(event)[1:]) + b"\n"


def read(line: bytes) -> tuple[Head, Event]:
    """An event back from its line."""
    return _head.decode(line), _event.decode(line)


def stamp(at: float) -> str:
    """Seconds since 1970 in RFC 3339, with microseconds and Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ascii_only(json: bytes) -> bytes:
    """The same JSON in ASCII: some clients decode each piece of a stream by itself, wherever it is cut."""
    return json if json.isascii() else _WIDE.sub(_escaped, json.decode()).encode("ascii")


def _escaped(match: re.Match[str]) -> str:
    pair = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{pair[at : at + 4]}" for at in range(0, len(pair), 4))


def included(line: bytes, payload: bytes) -> bytes:
    """The line of a `node_output` or `run_completed` with its payload in it, if that is small enough."""
    if len(payload) > LARGEST_INCLUDED:
        return line
    whole: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Raw])
    name = "outputs" if "outputs" in whole else "output"
    artifact = msgspec.json.decode(whole[name], type=Artifact)
    info = msgspec.structs.replace(artifact.info, included=True, content=Raw(payload))
    whole[name] = msgspec.structs.replace(artifact, info=info)
    return ascii_only(encode(whole)) + b"\n"


def sse(line: bytes) -> bytes:
    """An event as a server-sent event."""
    head, event = read(line)
    name = event.__struct_config__.tag
    return b"event: %s\nid: %d\ndata: %s\n\n" % (str(name).encode(), head.seq, line.rstrip(b"\n"))


SSE_BLANK = PING
