"""A process that shares its store with no other: its lease never runs out, and nobody else is up."""

from __future__ import annotations

import msgspec

from proxy.store.claims import Server
from proxy.store.lease import Lease


class Alone:
    """The part of a store that says which processes are up; see `proxy.store.claims` for the contracts."""

    lease: Lease

    def __init__(self) -> None:
        super().__init__()
        self._server: Server | None = None

    async def join(self, server: Server) -> None:
        self._server = msgspec.structs.replace(server, lease_until=self.lease.deadline)

    async def renew(self) -> bool:
        return True

    async def leave(self) -> None:
        self._server = None

    async def servers(self) -> list[Server]:
        mine = self._server
        return [] if mine is None else [msgspec.structs.replace(mine, server_id=self.lease.owner)]
