"""What a workflow says: the nodes that callers post, once they have been read and found sound.

A `Workflow` is a spec in its normal form: nulls, empty fields and defaults are absent, `depends_on` names all that a
node needs. It reads back from its own JSON, and posting that JSON again gives the same workflow.
Source: the workflow part of the ModelRelay SDKs (TypeScript 9, Rust 6.5, Go), whose form has no published schema.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

NodeType = Literal["llm", "join.all", "join.any", "join.collect", "transform.json", "map.fanout"]
InputType = Literal["string", "number", "object", "array", "boolean", "null", "json"]
Mode = Literal["server", "client", "agentic"]
Role = Literal["system", "developer", "user", "assistant", "tool"]
RetryWord = Literal["invalid_json", "truncated", "rate_limit", "timeout"]
Scalar = str | int | float | bool | None

KIND: Literal["workflow"] = "workflow"
ITEM = "item"
"""What the subnode of a fan-out calls its item, in placeholders and as the `from` of a transform."""


class Piece(Struct, frozen=True, omit_defaults=True):
    """Base of all parts of a workflow."""


class Condition(Piece, frozen=True, kw_only=True):
    """What a branch must be like to be accepted; `path` is JSONPath over its value."""

    source: Literal["node_output", "node_status"]
    op: Literal["equals", "matches", "exists"]
    path: str = "$"
    value: Scalar = None


class Retry(Piece, frozen=True, kw_only=True):
    """How often a model is asked in all, and after which failures again; `backoff_ms` doubles with each."""

    max_attempts: int = 1
    retryable_errors: tuple[RetryWord, ...] = ("invalid_json", "truncated")
    backoff_ms: int = 1000


class JsonSchema(Piece, frozen=True, kw_only=True):
    name: str
    schema: dict[str, Any] | None = None
    strict: bool = False
    description: str = ""


class OutputFormat(Piece, frozen=True, kw_only=True):
    """What the answer of a model has to be; `json_schema` is set for that type alone."""

    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None


class Content(Piece, frozen=True, kw_only=True):
    """A piece of a message: text with placeholders, or a file with `data_base64` and `mime_type`."""

    type: Literal["text", "file"]
    text: str = ""
    file: dict[str, Any] | None = None


class Called(Piece, frozen=True, kw_only=True):
    """A tool call that an earlier assistant message made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str = "{}"


class InputItem(Piece, frozen=True, kw_only=True):
    """One message of a node's conversation."""

    role: Role
    content: tuple[Content, ...] = ()
    tool_calls: tuple[Called, ...] = ()
    tool_call_id: str = ""


class ToolExecution(Piece, frozen=True, kw_only=True):
    mode: Mode


class Source(Piece, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Where a value comes from: a node, and an RFC 6901 pointer into what it gave."""

    from_: str
    pointer: str = ""


class Value(Source, frozen=True, kw_only=True):
    """One value of a transform."""


class Output(Source, frozen=True, kw_only=True):
    """One output of the run."""

    name: str


class Input(Piece, frozen=True, kw_only=True):
    """An input that a workflow declares; what it does not declare may be given as well."""

    name: str
    type: InputType = "json"
    required: bool = False
    description: str = ""
    default: Any = None


class NodeBase(Piece, frozen=True, kw_only=True, tag_field="type"):
    """Base of all nodes."""

    id: str
    depends_on: tuple[str, ...] = ()


class Llm(NodeBase, frozen=True, kw_only=True, tag="llm"):
    """One model, asked until it has no more tools to call. `tools` are names, or definitions as callers wrote them."""

    model: str = ""
    system: str = ""
    user: str = ""
    input: tuple[InputItem, ...] = ()
    stream: bool = False
    tools: tuple[str | dict[str, Any], ...] = ()
    tool_execution: ToolExecution | None = None
    retry: Retry | None = None
    max_output_tokens: int | None = None
    output_format: OutputFormat | None = None
    stop: tuple[str, ...] = ()

    @property
    def mode(self) -> Mode:
        return self.tool_execution.mode if self.tool_execution else "server"


class JoinAll(NodeBase, frozen=True, kw_only=True, tag="join.all"):
    """All its branches."""


class JoinAny(NodeBase, frozen=True, kw_only=True, tag="join.any"):
    """The first branch that succeeds and is accepted."""

    predicate: Condition | None = None


class JoinCollect(NodeBase, frozen=True, kw_only=True, tag="join.collect"):
    """Accepted branches: `limit` of them, or those that there are when all have ended or `timeout_ms` is over."""

    predicate: Condition | None = None
    limit: int | None = None
    timeout_ms: int | None = None


class Transform(NodeBase, frozen=True, kw_only=True, tag="transform.json"):
    """An object, put together of values or merged of objects; exactly one of both is set."""

    object: dict[str, Value] | None = None
    merge: tuple[Value, ...] = ()


class Fanout(NodeBase, frozen=True, kw_only=True, tag="map.fanout"):
    """A subnode for each item of an array that comes from a node or a run's input."""

    subnode: Llm | Transform
    items_from: str = ""
    items_from_input: str = ""
    items_pointer: str = ""
    items_path: str = ""
    max_parallelism: int | None = None


Racing = JoinAny | JoinCollect
"""Nodes that can go on without all their branches."""
Node = Llm | JoinAll | JoinAny | JoinCollect | Transform | Fanout


class Workflow(Piece, frozen=True, kw_only=True):
    """The whole of a spec."""

    kind: Literal["workflow"]
    name: str = ""
    model: str = ""
    max_parallelism: int | None = None
    inputs: tuple[Input, ...] = ()
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]


class Bounds(Struct, frozen=True, kw_only=True):
    """How large a spec may be, so that none can keep the server busy, and how large what comes of it."""

    depth: int = 100
    values: int = 200_000
    nodes: int = 1000
    edges: int = 20_000
    placeholders: int = 50_000
    inputs: int = 200
    outputs: int = 200
    attempts: int = 10
    schemas: int = 5_000
    """Objects within all schemas of answers."""
    pattern: int = 500
    """Characters of a regular expression."""
    items: int = 1000
    """Items of one fan-out."""
    calls: int = 10_000
    """Models asked in one run, repetitions included."""
    value_bytes: int = 8 * 1024 * 1024
    """JSON of one node's value, of one prompt and of all outputs."""
    run_bytes: int = 64 * 1024 * 1024
    """JSON of the values of all nodes of a run."""
