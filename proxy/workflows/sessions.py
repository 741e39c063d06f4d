"""Sessions: conversations whose history callers keep here. Runs never read them; they only add what they said."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec

from proxy.errors import NotFound
from proxy.model import new_id
from proxy.store.session import SessionQuery, SessionStore, patched
from proxy.workflow_model import Said, Session, SessionMessage

__all__ = ["SessionQuery", "Sessions"]

T = TypeVar("T")

LARGEST = 32 * 1024 * 1024
"""Bytes of all contents of one session: they are read together."""


class Sessions:
    """All sessions of all tenants. `most` is how many one tenant may have, 0 for no bound."""

    def __init__(self, store: SessionStore, *, most: int = 0) -> None:
        self._store = store
        self._most = most

    async def create(self, tenant: str, *, customer_id: str | None, metadata: dict[str, Any]) -> Session:
        """Raises `BadRequest` for large metadata, and `Conflict` where there are too many."""
        now = time.time()
        session = Session(session_id=new_id(), tenant=tenant, customer_id=customer_id, created_at=now)
        session = patched(session, metadata, now)
        await self._store.insert_session(session, most=self._most)
        return session

    async def get(self, tenant: str, session_id: str) -> tuple[Session, list[SessionMessage]]:
        """With all its messages. Raises `NotFound`."""
        session = known(await self._store.get_session(tenant, session_id), session_id)
        return session, await self._store.messages(tenant, session_id)

    async def find(self, query: SessionQuery) -> tuple[list[Session], int | None]:
        """A page of them, and the offset of the next one; None where there is none."""
        found = await self._store.find_sessions(msgspec.structs.replace(query, limit=query.limit + 1))
        more = len(found) > query.limit
        return found[: query.limit], query.offset + query.limit if more else None

    async def patch(self, tenant: str, session_id: str, metadata: dict[str, Any]) -> Session:
        """Merge into the metadata, key by key; None removes a key. Raises `BadRequest`, `NotFound`."""
        return known(await self._store.patch_session(tenant, session_id, metadata, time.time()), session_id)

    async def clear(self, tenant: str, session_id: str) -> Session:
        """Delete its messages. Raises `NotFound`."""
        return known(await self._store.clear_session(tenant, session_id, time.time()), session_id)

    async def delete(self, tenant: str, session_id: str) -> None:
        """Raises `NotFound`."""
        if not await self._store.delete_session(tenant, session_id):
            raise missing(session_id)

    async def say(self, tenant: str, session_id: str, said: Said) -> SessionMessage:
        """Append a message, as of now. Raises `NotFound`, and `Conflict` where the session is full."""
        now = msgspec.structs.replace(said, at=time.time())
        _, message = known(await self._store.append_message(tenant, session_id, now, most=LARGEST), session_id)
        return message


def known(found: T | None, session_id: str) -> T:
    if found is None:
        raise missing(session_id)
    return found


def missing(session_id: str) -> NotFound:
    return NotFound(f"There is no session {session_id}.", param="session_id")
