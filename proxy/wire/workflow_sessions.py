"""Histories that the server keeps for the workflow dialect, and the models that it tells of.

Source: the sessions and models routes of the ModelRelay SDKs, and the API's OpenAPI document 0.7.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

Role = Literal["system", "user", "assistant", "tool"]


class SessionCreate(Struct, frozen=True, kw_only=True):
    customer_id: str | None = None
    metadata: dict[str, Any] | None = None


class SessionPatch(Struct, frozen=True, kw_only=True):
    """A null takes a key of the metadata out; other keys stay."""

    metadata: dict[str, Any]


class MessageCreate(Struct, frozen=True, kw_only=True):
    role: Role
    content: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1)]
    run_id: UUID | None = None


class SessionMessage(Struct, frozen=True, kw_only=True):
    """One message; `seq` counts from 1."""

    id: str
    seq: int
    role: str
    content: tuple[dict[str, Any], ...]
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


def metadata_patched(metadata: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (metadata | patch).items() if value is not None}
