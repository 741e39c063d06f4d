"""Sessions of the workflow dialect as JSON. Source: the OpenAPI document and the SDKs of ModelRelay.

What a field has no value for is left out. The dialect knows projects: here a tenant is one, under an id of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy.workflow_model import Session, SessionMessage

PROJECTS = uuid.UUID("6b0f5c1e-2f0f-4f57-8a58-5d1b8a6b3a0c")
Text = Annotated[str, Meta(min_length=1, max_length=256)]


class SessionCreate(Struct, frozen=True, kw_only=True):
    customer_id: Text | None = None
    metadata: dict[str, Any] | None = None


class SessionPatch(Struct, frozen=True, kw_only=True):
    """`metadata` is merged key by key; null removes a key."""

    metadata: dict[str, Any] | None = None


class MessageCreate(Struct, frozen=True, kw_only=True):
    """`content` are parts, as in `{"type": "text", "text": "..."}`; they are kept as they are."""

    role: Literal["user", "assistant", "tool", "system"]
    content: Annotated[tuple[dict[str, Raw], ...], Meta(min_length=1)]
    run_id: uuid.UUID | None = None


class SessionRecord(Struct, frozen=True, kw_only=True):
    id: str
    project_id: str
    customer_id: str | UnsetType = UNSET
    metadata: dict[str, Any]
    message_count: int
    created_at: datetime
    updated_at: datetime


class MessageRecord(Struct, frozen=True, kw_only=True):
    id: str
    seq: int
    role: str
    content: Raw
    run_id: str | UnsetType = UNSET
    created_at: datetime


class WholeSession(SessionRecord, frozen=True, kw_only=True):
    messages: list[MessageRecord]


class SessionList(Struct, frozen=True, kw_only=True):
    """`next_cursor` is the offset of the next page."""

    sessions: list[SessionRecord]
    next_cursor: str | UnsetType = UNSET


def session_record(session: Session) -> SessionRecord:
    return SessionRecord(**_fields(session))


def whole_session(session: Session, messages: Sequence[SessionMessage]) -> WholeSession:
    return WholeSession(**_fields(session), messages=[message_record(message) for message in messages])


def session_list(sessions: Sequence[Session], following: int | None) -> SessionList:
    return SessionList(
        sessions=[session_record(session) for session in sessions],
        next_cursor=UNSET if following is None else str(following),
    )


def message_record(message: SessionMessage) -> MessageRecord:
    return MessageRecord(
        id=message.message_id,
        seq=message.seq,
        role=message.role,
        content=message.content,
        run_id=message.run_id or UNSET,
        created_at=moment(message.created_at),
    )


def content_of(asked: MessageCreate) -> Raw:
    """The parts as they are kept."""
    return Raw(msgspec.json.encode(asked.content))


def _fields(session: Session) -> dict[str, Any]:
    return {
        "id": session.session_id,
        "project_id": str(uuid.uuid5(PROJECTS, session.tenant)),
        "customer_id": session.customer_id or UNSET,
        "metadata": session.metadata,
        "message_count": session.message_count,
        "created_at": moment(session.created_at),
        "updated_at": moment(session.updated_at),
    }


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
