"""The sessions of `memory://`; see `proxy.store.session` for the contracts."""

from __future__ import annotations

from typing import Any

from proxy.store.session import SessionQuery, appended, check_sessions, cleared, patched
from proxy.workflow_model import Said, Session, SessionMessage


class MemorySessions:
    """The part of a store that keeps sessions."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[tuple[str, str], Session] = {}
        self._messages: dict[tuple[str, str], list[SessionMessage]] = {}

    async def insert_session(self, session: Session, *, most: int = 0) -> None:
        check_sessions(sum(tenant == session.tenant for tenant, _ in self._sessions) if most else 0, most)
        self._sessions[session.tenant, session.session_id] = session

    async def get_session(self, tenant: str, session_id: str) -> Session | None:
        return self._sessions.get((tenant, session_id))

    async def patch_session(self, tenant: str, session_id: str, metadata: dict[str, Any], at: float) -> Session | None:
        known = self._sessions.get((tenant, session_id))
        if known is not None:
            self._sessions[tenant, session_id] = known = patched(known, metadata, at)
        return known

    async def clear_session(self, tenant: str, session_id: str, at: float) -> Session | None:
        known = self._sessions.get((tenant, session_id))
        if known is not None:
            self._messages.pop((tenant, session_id), None)
            self._sessions[tenant, session_id] = known = cleared(known, at)
        return known

    async def delete_session(self, tenant: str, session_id: str) -> bool:
        self._messages.pop((tenant, session_id), None)
        return self._sessions.pop((tenant, session_id), None) is not None

    async def find_sessions(self, query: SessionQuery) -> list[Session]:
        found = [session for session in self._sessions.values() if query.matches(session)]
        found.sort(key=lambda session: session.session_id, reverse=True)
        return found[query.offset : query.offset + query.limit]

    async def append_message(
        self, tenant: str, session_id: str, said: Said, *, most: int = 0
    ) -> tuple[Session, SessionMessage] | None:
        known = self._sessions.get((tenant, session_id))
        if known is None:
            return None
        session, message = appended(known, said, most)
        self._sessions[tenant, session_id] = session
        self._messages.setdefault((tenant, session_id), []).append(message)
        return session, message

    async def messages(self, tenant: str, session_id: str) -> list[SessionMessage]:
        return list(self._messages.get((tenant, session_id), ()))
