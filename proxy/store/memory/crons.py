"""The crons of `memory://`; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from collections.abc import Callable

from proxy.model import Cron
from proxy.store.native import CronQuery
from proxy.store.signals import Signal, Topic

CHANGED: Signal = (Topic.CRONS, "")


class MemoryCrons:
    """The part of a store that keeps crons."""

    _tell: Callable[[Signal], None]

    def __init__(self) -> None:
        super().__init__()
        self._crons: dict[tuple[str, str], Cron] = {}

    async def insert_cron(self, cron: Cron) -> None:
        self._crons[cron.tenant, cron.cron_id] = cron
        self._tell(CHANGED)

    async def get_cron(self, tenant: str, cron_id: str) -> Cron | None:
        return self._crons.get((tenant, cron_id))

    async def replace_cron(self, cron: Cron, *, was: Cron) -> bool:
        if self._crons.get((was.tenant, was.cron_id)) != was:
            return False
        self._crons[cron.tenant, cron.cron_id] = cron
        self._tell(CHANGED)
        return True

    async def delete_cron(self, tenant: str, cron_id: str) -> bool:
        known = self._crons.pop((tenant, cron_id), None)
        if known is not None:
            self._tell(CHANGED)
        return known is not None

    async def find_crons(self, query: CronQuery) -> list[Cron]:
        found = [cron for cron in self._crons.values() if query.matches(cron)]
        query.sort(found)
        return found[query.offset : query.offset + query.limit]

    async def count_crons(self, query: CronQuery) -> int:
        return sum(query.matches(cron) for cron in self._crons.values())

    async def due_crons(self, before: float, *, limit: int = 100) -> list[Cron]:
        due = [cron for cron in self._enabled() if cron.next_at is not None and cron.next_at <= before]
        return sorted(due, key=lambda cron: cron.next_at or 0.0)[:limit]

    async def next_cron(self) -> float | None:
        return min((cron.next_at for cron in self._enabled() if cron.next_at is not None), default=None)

    def _enabled(self) -> list[Cron]:
        return [cron for cron in self._crons.values() if cron.enabled]
