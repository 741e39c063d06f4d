"""All routes of the workflow dialect."""

from __future__ import annotations

from litestar import Router
from litestar.handlers import HTTPRouteHandler

from proxy.api.workflows import events, models, plans, progress, runs, schemas, sessions, tools
from proxy.api.workflows.rooms import WorkflowRooms

PREFIX = "/api/v1"


def routes(rooms: WorkflowRooms) -> list[HTTPRouteHandler]:
    return [
        *schemas.routes(),
        *plans.routes(rooms.plans, rooms.limits),
        *runs.routes(rooms.engine, rooms.plans, rooms.limits),
        *tools.routes(rooms.engine, rooms.limits),
        *progress.routes(rooms.journal, rooms.plans),
        *events.routes(rooms.journal, rooms.settings),
        *sessions.routes(rooms.sessions, rooms.limits),
        *models.routes(rooms.agents, rooms.prices),
    ]


def mounted(rooms: WorkflowRooms) -> Router:
    """The routes where they stand; a router of their own for each call."""
    return Router(PREFIX, route_handlers=routes(rooms))
