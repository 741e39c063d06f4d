"""The runs that answer one request."""

from __future__ import annotations

from proxy.model import Run
from proxy.runs.manager import RunManager
from proxy.runs.order import Order


class Started:
    """The runs of a request: made by it, or only joined, because it repeats an earlier one."""

    __slots__ = ("_made", "_manager", "runs")

    def __init__(self, manager: RunManager) -> None:
        self.runs: list[Run] = []
        self._manager = manager
        self._made: list[Run] = []

    async def add(self, order: Order) -> None:
        """Start a run, or join the one that this idempotency key started. Raises as `RunManager.create` does."""
        run = await self._manager.create(order)
        self.runs.append(run)
        if run.run_id == order.input.run_id:
            self._made.append(run)

    def stop(self) -> None:
        """End what the request made; a request that only joined a run does not end it."""
        for run in self._made:
            self._manager.stop(run)

    async def undo(self) -> None:
        """Stop what the request made, and leave nothing of it."""
        self.stop()
        for run in self._made:
            await self._manager.delete(run.tenant, run.run_id)
