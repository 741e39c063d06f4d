"""What the runs of `memory://` ask; see `proxy.store.base` for the contracts."""

from __future__ import annotations

import time
from itertools import islice

import msgspec

from proxy.errors import NotWaiting
from proxy.model import Pause, Run
from proxy.store.base import MOST_PAUSES


class MemoryPauses:
    """The part of a store that keeps open questions."""

    def __init__(self) -> None:
        super().__init__()
        self._pauses: dict[str, Pause] = {}

    def _close_pauses(self, run: Run) -> None:
        for pause in self._pauses.values():
            if (pause.tenant, pause.thread_id, pause.answered_by) == (run.tenant, run.thread_id, None):
                self._pauses[pause.run_id] = msgspec.structs.replace(pause, answered_by=run.run_id)

    def _reopen_pauses(self, run: Run) -> None:
        for pause in self._pauses.values():
            if (pause.tenant, pause.answered_by) == (run.tenant, run.run_id):
                self._pauses[pause.run_id] = msgspec.structs.replace(pause, answered_by=None)

    def _answer(self, run: Run, paused: str) -> None:
        known = self._pauses.get(paused)
        if known is None or known.tenant != run.tenant or known.answered_by is not None:
            raise NotWaiting
        self._pauses[paused] = msgspec.structs.replace(known, answered_by=run.run_id)

    async def pauses(
        self, tenant: str, thread_id: str | None = None, *, agent: str | None = None, answered: bool = False
    ) -> list[Pause]:
        now = time.time()
        found = (
            pause
            for pause in reversed(self._pauses.values())
            if pause.tenant == tenant
            and (pause.answered_by is not None) is answered
            and pause.expires_at > now
            and thread_id in (None, pause.thread_id)
            and agent in (None, pause.agent)
        )
        return list(islice(found, MOST_PAUSES))

    async def drop_pause(self, tenant: str, run_id: str) -> None:
        known = self._pauses.get(run_id)
        if known is not None and known.tenant == tenant and known.answered_by is None:
            del self._pauses[run_id]
