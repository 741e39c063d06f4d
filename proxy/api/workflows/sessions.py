"""Sessions of the workflow dialect: history that clients keep on the server."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta, Struct

from proxy.api.openapi import BODY
from proxy.api.params import tenant_of
from proxy.api.workflows.asked import body_of, id_of, query_of
from proxy.settings import RequestLimits
from proxy.wire import workflow_sessions as wire
from proxy.wire.workflow_sessions import (
    MessageCreate,
    Session,
    SessionCreate,
    SessionMessage,
    SessionPatch,
    message_record,
    session_record,
)
from proxy.workflows.sessions import SessionQuery, Sessions

_create = msgspec.json.Decoder(SessionCreate)
_patch = msgspec.json.Decoder(SessionPatch)
_message = msgspec.json.Decoder(MessageCreate)

Offset = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Page(Struct, frozen=True, kw_only=True):
    """The query of a list; `cursor` is another word for `offset`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    offset: Offset = 0
    cursor: Offset | None = None
    customer_id: str | None = None


def routes(sessions: Sessions, limits: RequestLimits) -> list[HTTPRouteHandler]:
    return [*lists(sessions, limits), *records(sessions, limits), *contents(sessions, limits)]


def lists(sessions: Sessions, limits: RequestLimits) -> list[HTTPRouteHandler]:
    @get("/sessions")
    async def list_sessions(request: Request[Any, Any, Any]) -> wire.Sessions:
        page = query_of(request, Page)
        query = SessionQuery(
            tenant=tenant_of(request),
            customer_id=page.customer_id,
            limit=page.limit,
            offset=page.offset if page.cursor is None else page.cursor,
        )
        return wire.page(*await sessions.find(query))

    @post("/sessions", opt={BODY: SessionCreate})
    async def create_session(request: Request[Any, Any, Any]) -> Session:
        asked = await body_of(request, _create, limits)
        session = await sessions.create(
            tenant_of(request), customer_id=asked.customer_id, metadata=asked.metadata or {}
        )
        return session_record(session)

    return [list_sessions, create_session]


def records(sessions: Sessions, limits: RequestLimits) -> list[HTTPRouteHandler]:
    @get("/sessions/{session_id:str}")
    async def show_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Session:
        return session_record(*await sessions.get(tenant_of(request), id_of(session_id, "session")))

    @patch("/sessions/{session_id:str}", opt={BODY: SessionPatch})
    async def patch_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Session:
        name = id_of(session_id, "session")
        asked = await body_of(request, _patch, limits)
        return session_record(await sessions.patch(tenant_of(request), name, asked.metadata or {}))

    @delete("/sessions/{session_id:str}")
    async def delete_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> None:
        await sessions.delete(tenant_of(request), id_of(session_id, "session"))

    return [show_session, patch_session, delete_session]


def contents(sessions: Sessions, limits: RequestLimits) -> list[HTTPRouteHandler]:
    @post("/sessions/{session_id:str}/clear", status_code=200)
    async def clear_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Session:
        return session_record(await sessions.clear(tenant_of(request), id_of(session_id, "session")))

    @post("/sessions/{session_id:str}/messages", opt={BODY: MessageCreate})
    async def add_message(request: Request[Any, Any, Any], session_id: FromPath[str]) -> SessionMessage:
        name = id_of(session_id, "session")
        asked = await body_of(request, _message, limits)
        return message_record(await sessions.say(tenant_of(request), name, asked.said()))

    return [clear_session, add_message]
