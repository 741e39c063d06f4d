"""All routes of one mount of the native runs API."""

from __future__ import annotations

from litestar.handlers import HTTPRouteHandler

from proxy.api import runs as any_runs
from proxy.api.native import (
    about,
    assistants,
    crons,
    hearing,
    items,
    joins,
    protocol,
    records,
    runs,
    states,
    threads,
)
from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.runs.crons import Crons


def routes(mount: Mount, rooms: Rooms, timetable: Crons) -> list[HTTPRouteHandler]:
    """But for its web socket, which is no HTTP route: see `sockets`."""
    schedules = crons.CronRooms(
        crons=timetable, assistants=rooms.assistants, webhooks=rooms.webhooks, limits=rooms.limits
    )
    return [
        *runs.routes(mount, rooms),
        *records.routes(mount, rooms),
        *joins.routes(mount, rooms),
        *hearing.routes(mount, rooms),
        *protocol.routes(mount, rooms),
        *threads.routes(rooms.threads, rooms.limits),
        *states.routes(rooms.threads, rooms.limits),
        *assistants.routes(rooms.assistants, rooms.limits),
        *crons.routes(schedules),
        *items.routes(rooms.memories, rooms.limits),
        *any_runs.routes(rooms.manager, shows_gone=mount.shows_gone),
        *about.routes(),
    ]
