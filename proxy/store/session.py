"""The port for sessions: conversations whose history callers keep here.

Each backend implements it beside those of `proxy.store.base`, and `check_store` holds it to it.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from proxy.errors import BadRequest, Conflict
from proxy.model import new_id
from proxy.workflow_model import Said, Session, SessionMessage

METADATA = 64 * 1024
"""Bytes that a session's metadata may have, as JSON."""


class SessionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list, newest first."""

    tenant: str
    customer_id: str | None = None
    limit: int = 50
    offset: int = 0

    def matches(self, session: Session) -> bool:
        return session.tenant == self.tenant and self.customer_id in (None, session.customer_id)


def check_sessions(count: int, most: int) -> None:
    """Raises `Conflict` where one session more is one too many."""
    if most and count >= most:
        raise Conflict(f"There are {most} sessions already; delete some.")


def patched(session: Session, metadata: dict[str, Any], at: float) -> Session:
    """With the metadata merged, key by key; None removes a key. Raises `BadRequest` where there is too much of it."""
    merged = {name: value for name, value in {**session.metadata, **metadata}.items() if value is not None}
    if len(msgspec.json.encode(merged)) > METADATA:
        raise BadRequest(f"The metadata of a session has at most {METADATA} bytes.", param="metadata")
    return msgspec.structs.replace(session, metadata=merged, updated_at=at)


def cleared(session: Session, at: float) -> Session:
    """Without messages."""
    return msgspec.structs.replace(session, message_count=0, size=0, updated_at=at)


def appended(session: Session, said: Said, most: int) -> tuple[Session, SessionMessage]:
    """With one more message, and that message. Raises `Conflict` where it would be larger than `most` bytes."""
    size = session.size + len(bytes(said.content))
    if most and size > most:
        raise Conflict(f"A session holds at most {most} bytes; clear it, or go on in another.")
    seq = session.message_count + 1
    message = SessionMessage(
        message_id=new_id(), seq=seq, role=said.role, content=said.content, run_id=said.run_id, created_at=said.at
    )
    return msgspec.structs.replace(session, message_count=seq, size=size, updated_at=said.at), message


class SessionStore(Protocol):
    """Sessions and their messages."""

    async def insert_session(self, session: Session, *, most: int = 0) -> None:
        """Store a new one durably. Raises `Conflict` if its tenant has `most` already (0: no bound)."""
        ...

    async def get_session(self, tenant: str, session_id: str) -> Session | None: ...

    async def patch_session(self, tenant: str, session_id: str, metadata: dict[str, Any], at: float) -> Session | None:
        """Merge into the metadata, key by key; None removes a key. None if there is no such session.

        Raises `BadRequest` if it had more than `METADATA` bytes then."""
        ...

    async def clear_session(self, tenant: str, session_id: str, at: float) -> Session | None:
        """Delete its messages; the next one is number 1 again. None if there is no such session."""
        ...

    async def delete_session(self, tenant: str, session_id: str) -> bool:
        """With its messages. False if there is none."""
        ...

    async def find_sessions(self, query: SessionQuery) -> list[Session]: ...

    async def append_message(
        self, tenant: str, session_id: str, said: Said, *, most: int = 0
    ) -> tuple[Session, SessionMessage] | None:
        """Append a message, numbered one above the last, and return it with the session as it is then.

        Raises `Conflict` if the contents of the session would have more than `most` bytes (0: no bound). None if there
        is no such session."""
        ...

    async def messages(self, tenant: str, session_id: str) -> list[SessionMessage]:
        """All messages, in the order in which they were appended."""
        ...
