"""Histories that the server keeps for the workflow dialect, and the models that it tells of.

The dialect knows projects: here a tenant is one, under an id of its own.
Source: the sessions and models routes of the ModelRelay SDKs, and the API's OpenAPI document 0.7.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy import workflow_model
from proxy.settings import Price
from proxy.wire.workflow import encode, stamp

PROJECTS = UUID("6b0f5c1e-2f0f-4f57-8a58-5d1b8a6b3a0c")
Text = Annotated[str, Meta(min_length=1, max_length=256)]
Role = Literal["system", "user", "assistant", "tool"]


class SessionCreate(Struct, frozen=True, kw_only=True):
    customer_id: Text | None = None
    metadata: dict[str, Any] | None = None


class SessionPatch(Struct, frozen=True, kw_only=True):
    """A null takes a key of the metadata out; other keys stay."""

    metadata: dict[str, Any] | None = None


class MessageCreate(Struct, frozen=True, kw_only=True):
    """`content` are parts, as in `{"type": "text", "text": "..."}`."""

    role: Role
    content: Annotated[tuple[dict[str, Raw], ...], Meta(min_length=1)]
    run_id: UUID | None = None

    def said(self) -> workflow_model.Said:
        """The message as it is kept."""
        run_id = None if self.run_id is None else str(self.run_id)
        return workflow_model.Said(role=self.role, content=Raw(encode(self.content)), run_id=run_id)


class SessionMessage(Struct, frozen=True, kw_only=True):
    """One message; `seq` counts from 1."""

    id: str
    seq: int
    role: str
    content: Raw
    created_at: str
    run_id: str | UnsetType = UNSET


class Session(Struct, frozen=True, kw_only=True):
    id: str
    project_id: str
    metadata: dict[str, Any]
    message_count: int
    created_at: str
    updated_at: str
    customer_id: str | UnsetType = UNSET
    messages: tuple[SessionMessage, ...] | UnsetType = UNSET


class Sessions(Struct, frozen=True, kw_only=True):
    """One page; `next_cursor` is the `offset` of the next, as clients pass it back."""

    sessions: tuple[Session, ...]
    next_cursor: str | UnsetType = UNSET


class ModelCard(Struct, frozen=True, kw_only=True):
    """A model that nodes may name. What is not known is 0 or empty: the clients require every field."""

    model_id: str
    provider: str = "openai"
    display_name: str = ""
    description: str = ""
    capabilities: tuple[str, ...] = ()
    context_window: int = 0
    max_output_tokens: int = 0
    training_cutoff: str = ""
    deprecated: bool = False
    deprecation_message: str = ""
    input_cost_per_million_cents: int = 0
    output_cost_per_million_cents: int = 0


class ModelCards(Struct, frozen=True, kw_only=True):
    models: tuple[ModelCard, ...]


def session_record(
    session: workflow_model.Session, messages: Sequence[workflow_model.SessionMessage] | None = None
) -> Session:
    """With all its messages, or without any."""
    return Session(
        id=session.session_id,
        project_id=str(uuid5(PROJECTS, session.tenant)),
        customer_id=session.customer_id or UNSET,
        metadata=session.metadata,
        message_count=session.message_count,
        created_at=stamp(session.created_at),
        updated_at=stamp(session.updated_at),
        messages=UNSET if messages is None else tuple(map(message_record, messages)),
    )


def message_record(message: workflow_model.SessionMessage) -> SessionMessage:
    return SessionMessage(
        id=message.message_id,
        seq=message.seq,
        role=message.role,
        content=message.content,
        run_id=message.run_id or UNSET,
        created_at=stamp(message.created_at),
    )


def page(sessions: Sequence[workflow_model.Session], following: int | None) -> Sessions:
    """`following` is the offset of the next page, None if there is none."""
    cursor = UNSET if following is None else str(following)
    return Sessions(sessions=tuple(map(session_record, sessions)), next_cursor=cursor)


def card(name: str, description: str, price: Price, *, tools: bool) -> ModelCard:
    """`tools`: the model takes the tools of its caller."""
    return ModelCard(
        model_id=name,
        display_name=name,
        description=description,
        capabilities=("tools",) if tools else (),
        input_cost_per_million_cents=round(price.input * 100),
        output_cost_per_million_cents=round(price.output * 100),
    )
