"""The run of a cron whose time has come: made as if its owner had asked for it at that moment."""

from __future__ import annotations

import msgspec

from proxy.api.auth import Caller
from proxy.api.native.mounts import Mount
from proxy.api.native.orders import Asked, Orders
from proxy.api.native.rooms import Rooms
from proxy.model import Cron, Run
from proxy.wire.runs_body import RunCreate

_run = msgspec.json.Decoder(RunCreate)


class Schedule:
    """Makes the runs of crons, by the rules of one mount."""

    def __init__(self, mount: Mount, rooms: Rooms) -> None:
        self._orders = Orders(mount, rooms)
        self._manager = rooms.manager

    async def fire(self, cron: Cron) -> Run:
        """Make one run. Raises as `Orders.order` and `RunManager.create` do."""
        keep = "keep" if cron.keep else "delete"
        body = msgspec.structs.replace(_run.decode(cron.payload), on_completion=keep)
        caller = Caller(tenant=cron.tenant, user=cron.user)
        asked = Asked(body=body, caller=caller, headers={}, thread_id=cron.thread_id)
        return await self._manager.create(await self._orders.order(asked, background=True))
