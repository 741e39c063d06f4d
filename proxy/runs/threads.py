"""The threads that callers know: their records, their states, and what is done to them between runs.

Whatever changes a thread holds it, and finds it without a run; see `ThreadStore.hold`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import msgspec
import structlog

from proxy.adapter import Checkpoint, State, ThreadName, ThreadState, Update
from proxy.errors import BadRequest, Busy, NotFound, ProxyError, Unprocessable
from proxy.events import Completed
from proxy.model import ACTIVE, Lifetime, Run, Thread, new_id, system_id
from proxy.runs.agents import Agent
from proxy.runs.manager import RunManager
from proxy.runs.quota import Quota
from proxy.runs.states import States, outcome_of
from proxy.store.base import RunQuery, Store, ThreadQuery

__all__ = ["ThreadManager", "ThreadQuery"]

logger = structlog.get_logger(__name__)

METADATA = 64 * 1024
"""Bytes that a thread's metadata may have, as JSON."""
MOST_RUNS = 10_000
"""Runs of one thread that are stopped at most."""
SWEEP = 100
"""Threads that one sweep takes at most."""
UNASSIGNED = "This thread has no assigned graph ID: run an agent on it, or name one as `graph_id` in its metadata."

Steps = Sequence[Sequence[Update]]
Strategy = Literal["delete", "keep_latest"]


class ThreadManager:
    """All threads of all tenants. `most` is how many one tenant may have, 0 for no bound."""

    def __init__(self, store: Store, manager: RunManager, states: States, *, most: int = 0) -> None:
        self._store = store
        self._manager = manager
        self._states = states
        self._quota = Quota(store, most)

    async def create(
        self, thread: Thread, *, steps: Steps = (), if_exists: Literal["raise", "do_nothing"] = "raise"
    ) -> Thread:
        """Store a new thread and write the steps to its state, or with `do_nothing` return the one there is.

        Raises `Conflict`, `Unprocessable`, `TooManyThreads`, and for steps what `update` raises; there is no thread
        then.
        """
        _check_size(thread.metadata)
        if if_exists == "do_nothing":
            known = await self._store.get_thread(thread.tenant, thread.thread_id)
            if known is not None:
                return known
        async with self._quota.one_more(thread.tenant):
            return await self._made(thread, steps, if_exists)

    async def _made(self, thread: Thread, steps: Steps, if_exists: Literal["raise", "do_nothing"]) -> Thread:
        if not steps:
            return await self._store.insert_thread(thread, if_exists=if_exists)
        async with self._store.hold(thread.tenant, thread.thread_id):
            made = await self._store.insert_thread(thread)
            try:
                await self._write(made, steps)
            except BaseException:
                await self._erase(name_of(made))
                raise
            return await self.get(made.tenant, made.thread_id)

    async def known(self, tenant: str, thread_id: str) -> Thread | None:
        """The record, if there is one."""
        return await self._store.get_thread(tenant, thread_id)

    async def get(self, tenant: str, thread_id: str) -> Thread:
        """Raises `NotFound`, also for another tenant's."""
        thread = await self._store.get_thread(tenant, thread_id)
        if thread is None:
            raise _unknown(thread_id)
        return thread

    async def patch(
        self, tenant: str, thread_id: str, *, metadata: dict[str, Any], lifetime: Lifetime | None = None
    ) -> Thread:
        """Merge into the metadata, key by key. Raises `NotFound`, `Unprocessable`."""
        _check_size({**(await self.get(tenant, thread_id)).metadata, **metadata})
        thread = await self._store.patch_thread(tenant, thread_id, metadata=metadata, lifetime=lifetime)
        if thread is None:
            raise _unknown(thread_id)
        return thread

    async def delete(self, tenant: str, thread_id: str) -> None:
        """Stop its runs, wait until their work has ended, then remove all that there is of it. Raises `NotFound`."""
        async with self._store.hold(tenant, thread_id):
            thread = await self.get(tenant, thread_id)
            await self._stop_runs(thread)
            await self._erase(name_of(thread))

    async def find(self, query: ThreadQuery) -> list[Thread]:
        return await self._store.find_threads(query)

    async def count(self, query: ThreadQuery) -> int:
        return await self._store.count_threads(query)

    async def copy(self, tenant: str, thread_id: str) -> Thread:
        """A new thread with the same metadata, checkpoints and states. Raises `NotFound`, `Busy`, `TooManyThreads`."""
        async with self._quota.one_more(tenant), self._quiet(tenant, thread_id) as source:
            now = time.time()
            target = msgspec.structs.replace(source, thread_id=new_id(), created_at=now, updated_at=now)
            if (threads := await self._threads(source)) is not None:
                await threads.copy(name_of(source), name_of(target))
            return await self._store.insert_thread(target)

    async def prune(self, tenant: str, thread_ids: Sequence[str], strategy: Strategy = "delete") -> int:
        """Delete threads, or of each all states but the newest; returns of how many. Those that are not there are
        passed over, and with `keep_latest` those that are busy."""
        count = 0
        for thread_id in dict.fromkeys(thread_ids):
            with suppress(NotFound, Busy):
                if strategy == "delete":
                    await self.delete(tenant, thread_id)
                else:
                    async with self._quiet(tenant, thread_id) as thread:
                        await self._keep_newest(thread)
                count += 1
        return count

    async def state(
        self, tenant: str, thread_id: str, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        """The state now, in the midst of a run too, or at a checkpoint; else empty. Raises `NotFound`."""
        thread = await self.get(tenant, thread_id)
        threads = await self._threads(thread)
        return State() if threads is None else await threads.state(name_of(thread), checkpoint, subgraphs=subgraphs)

    async def history(
        self,
        tenant: str,
        thread_id: str,
        *,
        limit: int,
        before: Checkpoint | None = None,
        checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[State]:
        """See `ThreadState.history`. Raises `NotFound`."""
        thread = await self.get(tenant, thread_id)
        threads = await self._threads(thread)
        if threads is None:
            return []
        return await threads.history(
            name_of(thread), limit=limit, before=before, checkpoint=checkpoint, metadata=metadata
        )

    async def update(
        self, tenant: str, thread_id: str, update: Update, checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        """Write to the state. Raises `NotFound`, `Busy` naming the run, and `BadRequest` for what the agent refuses."""
        async with self._quiet(tenant, thread_id) as thread:
            return await self._write(thread, [[update]], checkpoint)

    async def sweep(self) -> bool:
        """End a bounded number of threads whose lifetime has run out; False if there was nothing to do."""
        swept = False
        for thread in await self._store.expired_threads(time.time(), limit=SWEEP):
            try:
                swept |= await self._expire(thread)
            except ProxyError as error:
                logger.warning("a thread could not be swept", thread_id=thread.thread_id, error=error.code)
        return swept

    async def _expire(self, thread: Thread) -> bool:
        """False where somebody was faster."""
        with suppress(NotFound, Busy):
            async with self._quiet(thread.tenant, thread.thread_id) as now:
                if now.updated_at != thread.updated_at or now.lifetime is None:
                    return False
                if now.lifetime.strategy == "delete":
                    await self._erase(name_of(now))
                else:
                    await self._keep_newest(now)
                    await self._store.mark_swept(now.tenant, now.thread_id)
                return True
        return False

    async def _keep_newest(self, thread: Thread) -> None:
        if (threads := await self._threads(thread)) is not None:
            await threads.keep_newest(name_of(thread))

    @asynccontextmanager
    async def _quiet(self, tenant: str, thread_id: str) -> AsyncIterator[Thread]:
        """The thread, while it has no run and gets none. Raises `NotFound`, `Busy`."""
        async with self._store.hold(tenant, thread_id):
            thread = await self.get(tenant, thread_id)
            if runs := await self._runs(thread):
                run = runs[-1]
                raise Busy(f"The thread is busy with run {run.run_id}.", run_id=run.run_id)
            yield thread

    async def _runs(self, thread: Thread) -> list[Run]:
        """Its runs that have not ended, newest first."""
        query = RunQuery(tenant=thread.tenant, thread_id=thread.thread_id, statuses=ACTIVE, limit=MOST_RUNS)
        return await self._manager.find(query)

    async def _stop_runs(self, thread: Thread) -> None:
        async def end(run: Run) -> None:
            with suppress(NotFound):  # another run of its turn, or a sweep, was faster
                await self._manager.cancel(run.tenant, run.run_id)
                await self._manager.wait(run)

        await asyncio.gather(*map(end, await self._runs(thread)))

    async def _erase(self, thread: ThreadName) -> None:
        """The agents' part goes first: what is left of a thread whose record is gone would come back with its id."""
        for agent in self._manager.agents:
            await agent.adapter.check_forget()
        for agent in self._manager.agents:
            await agent.adapter.forget(thread.key)
        await self._store.delete_thread(thread.tenant, thread.thread_id)

    async def _write(self, thread: Thread, steps: Steps, checkpoint: Checkpoint | None = None) -> Checkpoint:
        threads = await self._threads(thread)
        if threads is None:
            raise BadRequest(UNASSIGNED)
        name = name_of(thread)
        made = await threads.update(name, steps, checkpoint)
        state = await threads.state(name)
        outcome = outcome_of(Completed(finish_reason="stop"), state)
        # Why the last run broke off stays known: its next run has to mend what that left.
        outcome = msgspec.structs.replace(outcome, fault=thread.outcome.fault)
        await self._store.leave_thread(thread.tenant, thread.thread_id, outcome)
        if not state.next:
            await self._drop_questions(thread)
        return made

    async def _drop_questions(self, thread: Thread) -> None:
        """A thread with nothing left to do waits for no answer; what its client was asked to do, it may still do."""
        for pause in await self._store.pauses(thread.tenant, thread.thread_id):
            if pause.interrupts:
                await self._store.drop_pause(thread.tenant, pause.run_id)

    async def _threads(self, thread: Thread) -> ThreadState | None:
        """Who keeps the thread's state; None where it has no agent."""
        agent = await self._agent(thread)
        return None if agent is None else self._states.of(agent)

    async def _agent(self, thread: Thread) -> Agent | None:
        """The agent that its metadata names, or that the assistant named there has."""
        agents = self._manager.agents
        graph, assistant = thread.metadata.get("graph_id"), thread.metadata.get("assistant_id")
        if isinstance(graph, str):
            return agents.named(graph)
        if not isinstance(assistant, str):
            return None
        known = await self._store.get_assistant(thread.tenant, assistant)
        if known is not None:
            return agents.named(known.agent)
        return next((agent for agent in agents if assistant in (agent.name, system_id(agent.name))), None)


def name_of(thread: Thread) -> ThreadName:
    return ThreadName(tenant=thread.tenant, thread_id=thread.thread_id)


def _check_size(metadata: dict[str, Any]) -> None:
    if len(msgspec.json.encode(metadata)) > METADATA:
        raise Unprocessable(f"`metadata` has more than {METADATA} bytes.", param="metadata")


def _unknown(thread_id: str) -> NotFound:
    return NotFound(f"There is no thread {thread_id}.", param="thread_id")
