"""The states of `memory://`; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.model import Run, SavedState, Thread


class MemoryStates:
    """The part of a store that keeps states."""

    _runs: dict[tuple[str, str], Run]
    _threads: dict[tuple[str, str], Thread]

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[tuple[str, str], dict[str, SavedState]] = {}
        """Of each thread by checkpoint."""

    async def put_states(self, states: Sequence[SavedState]) -> None:
        for state in states:
            self._states.setdefault((state.tenant, state.thread_id), {})[state.checkpoint_id] = state

    async def get_state(self, tenant: str, thread_id: str, checkpoint_id: str | None = None) -> SavedState | None:
        known = self._states.get((tenant, thread_id))
        return known.get(max(known) if checkpoint_id is None else checkpoint_id) if known else None

    async def states(
        self, tenant: str, thread_id: str, *, before: str | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[SavedState]:
        known = self._states.get((tenant, thread_id), {})
        found = [known[id] for id in sorted(known, reverse=True) if before is None or id < before]
        return [state for state in found if run_id in (None, state.run_id)][:limit]

    async def cut_states(self, tenant: str, thread_id: str, *, after: str = "") -> None:
        known = self._states.pop((tenant, thread_id), {})
        if kept := {id: state for id, state in known.items() if id <= after}:
            self._states[tenant, thread_id] = kept

    async def keep_newest_state(self, tenant: str, thread_id: str) -> None:
        if known := self._states.get((tenant, thread_id)):
            newest = max(known)
            self._states[tenant, thread_id] = {newest: known[newest]}

    async def copy_states(self, tenant: str, source: str, target: str) -> None:
        known = self._states.get((tenant, source), {})
        await self.put_states([msgspec.structs.replace(state, thread_id=target) for state in known.values()])

    def _drop_left(self, tenant: str, thread_id: str) -> None:
        """Delete the states of a thread that has neither a record nor a run any more."""
        thread = (tenant, thread_id)
        if thread not in self._states or thread in self._threads:
            return
        if not any((run.tenant, run.thread_id) == thread for run in self._runs.values()):
            del self._states[thread]
