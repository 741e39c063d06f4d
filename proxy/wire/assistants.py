"""Assistants in LangGraph's API: what is told of them, and what callers ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy.events import NULL
from proxy.model import Assistant
from proxy.wire.asked import Body, Config, IfExists, Limit, Name, Offset, Order
from proxy.wire.record import iso

encode = msgspec.json.Encoder().encode
START, END = "__start__", "__end__"
MESSAGE = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["human", "ai", "system", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "id": {"type": "string"},
    },
    "required": ["type", "content"],
}


class AssistantRecord(Struct, frozen=True, kw_only=True):
    """One assistant: an agent (`graph_id`) with its settings, in one of its versions."""

    assistant_id: str
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    name: str
    description: str | None
    version: int
    created_at: str
    updated_at: str


class Node(Struct, frozen=True, kw_only=True):
    """A node of a drawing of the graph; the one that ends it has but an id."""

    id: str
    type: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class Edge(Struct, frozen=True, kw_only=True):
    """A way from one node to another."""

    source: str
    target: str
    data: str | UnsetType = UNSET
    conditional: bool | UnsetType = UNSET


class GraphRecord(Struct, frozen=True):
    """A drawing of the graph."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class SchemasRecord(Struct, frozen=True, kw_only=True):
    """JSON schemas of what a graph takes, gives and holds; null where it says nothing."""

    graph_id: str
    input_schema: Raw = NULL
    output_schema: Raw = NULL
    state_schema: Raw = NULL
    config_schema: Raw = NULL
    context_schema: Raw = NULL


def assistant_record(assistant: Assistant) -> AssistantRecord:
    return AssistantRecord(
        assistant_id=assistant.assistant_id,
        graph_id=assistant.agent,
        config=assistant.config,
        context=assistant.context,
        metadata=assistant.metadata,
        name=assistant.name,
        description=assistant.description,
        version=assistant.version,
        created_at=iso(assistant.created_at),
        updated_at=iso(assistant.updated_at),
    )


def plain_graph(agent: str) -> GraphRecord:
    """The drawing of an agent that does not say what it is made of: one node."""
    start, node = (Node(id=name, type="runnable", data=Raw(encode({"name": name}))) for name in (START, agent))
    return GraphRecord((start, node, Node(id=END)), (Edge(source=START, target=agent), Edge(source=agent, target=END)))


def plain_schemas(agent: str, context_keys: Sequence[str]) -> SchemasRecord:
    """The schemas of such an agent: messages in, messages out, and the keys of a request's context that it takes."""
    return SchemasRecord(
        graph_id=agent,
        input_schema=_conversation("Input"),
        output_schema=_conversation("Output"),
        state_schema=_conversation("State"),
        context_schema=_object("Context", {key: {} for key in context_keys}) if context_keys else NULL,
    )


def _conversation(title: str) -> Raw:
    return _object(title, {"messages": {"title": "Messages", "type": "array", "items": MESSAGE}}, required=["messages"])


def _object(title: str, properties: dict[str, Any], **more: Any) -> Raw:
    return Raw(encode({"title": title, "type": "object", "properties": properties, **more}))


class AssistantCreate(Body, frozen=True, kw_only=True):
    graph_id: Name
    assistant_id: UUID | None = None
    config: Config | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    if_exists: IfExists | None = None
    name: str | None = None
    description: str | None = None


class AssistantPatch(Body, frozen=True, kw_only=True):
    """A new version: what is left out stays as it was, `metadata` is merged."""

    graph_id: Name | None = None
    config: Config | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None


class AssistantCount(Body, frozen=True, kw_only=True):
    metadata: dict[str, Any] | None = None
    graph_id: str | None = None
    name: str | None = None


class AssistantSearch(AssistantCount, frozen=True, kw_only=True):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"] | None = None
    sort_order: Order | None = None
    select: tuple[str, ...] | None = None


class AssistantVersions(Body, frozen=True, kw_only=True):
    metadata: dict[str, Any] | None = None
    limit: Limit = 10
    offset: Offset = 0


class AssistantLatest(Body, frozen=True, kw_only=True):
    """The version to go back to."""

    version: Annotated[int, Meta(ge=1)]
