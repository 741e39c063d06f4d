"""Deletes workflow runs that are older or more than the config keeps."""

from __future__ import annotations

import time

from proxy.settings import Runs
from proxy.store.workflow import WorkflowStore


class Leftovers:
    """What ended workflow runs leave behind, as the retention of all runs says.

    Where no content is kept, a run goes whole: its clients read outputs and events after its end, so not at once, but
    after the time for which logs of other runs that are to go can still be read.
    """

    def __init__(self, store: WorkflowStore, settings: Runs) -> None:
        self._store = store
        self._settings = settings

    async def sweep(self) -> bool:
        """Delete a bounded number of runs; False if there were none."""
        keep = self._settings.retention
        ages = [keep.age] if keep.age else []
        if not self._settings.keep_content:
            ages.append(self._settings.replay_grace)
        before = time.time() - min(ages) if ages else 0.0
        return await self._store.sweep_workflows(before=before, keep=keep.count)
