"""The only way in: runs are made, followed, waited for, cancelled and deleted here. Routes never touch a store.

How they are made stands in `admission.py`, what is under way in `live.py`, cancelling in `cancels.py`; which runs of
the queue this process takes in `claims.py`, what becomes of those that lost their process in `takeover.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine

from proxy.adapter import thread_key
from proxy.errors import Draining, NotFound
from proxy.events import Entry
from proxy.model import Action, Pause, Run
from proxy.runs.admission import Admission
from proxy.runs.agents import Agents
from proxy.runs.cancels import Cancels
from proxy.runs.chores import Chores
from proxy.runs.claims import Claims, Post, Room
from proxy.runs.leases import Leases
from proxy.runs.live import TAKEOVER, Live
from proxy.runs.order import Order
from proxy.runs.readers import Readers
from proxy.runs.states import States
from proxy.runs.sweeper import Sweep, Sweeper
from proxy.runs.takeover import Arrivals, Reaper
from proxy.runs.waits import end_of, known
from proxy.settings import Runs
from proxy.store.base import RunQuery, Store
from proxy.store.claims import Server

__all__ = ["Post", "RunManager", "RunQuery"]

SERVER = Post()


class RunManager:
    """All runs of this process, and the way to all others; `scrub` blots secrets out of a text."""

    def __init__(
        self,
        store: Store,
        agents: Agents,
        settings: Runs,
        states: States | None = None,
        *,
        scrub: Callable[[str], str] = str,
        post: Post = SERVER,
    ) -> None:
        self.agents = agents
        self.sweeps: list[Sweep] = []
        """What is swept besides runs."""
        self._store = store
        self._settings = settings
        self._post = post
        self._live = Live(store, agents, settings, states, scrub)
        self._leases = Leases(store, _server(post, agents))
        self._cancels = Cancels(store, self._live)
        self._claims = Claims(
            store,
            Room(post.concurrent, {agent.name: agent.settings.limits.process for agent in agents}),
            self._claimable,
            Arrivals(agents, self._live, settings).begin,
        )
        self._reaper = Reaper(store, agents, self._live, self._leases, self._claims, attempts=settings.attempts)
        self._admission = Admission(store, agents, self._live, self._cancels, self._leases, settings)
        self.watch = self._admission.watch
        self._readers = Readers()
        self._work = Chores()
        """What goes on for as long as the process serves."""

    @property
    def draining(self) -> bool:
        """No more work is taken."""
        return self._live.closed

    @property
    def live(self) -> list[Run]:
        """The runs of this process that have not ended."""
        return [execution.run for execution in self._live]

    @property
    def on_end(self) -> list[Callable[[Run], None]]:
        """Who is told of each run of this process that has ended."""
        return self._live.on_end

    def _claimable(self) -> frozenset[str]:
        """Whose runs this process takes from the queue: a server leaves them to workers, where there are some."""
        here = self.agents.here
        return here if self._post.kind == "worker" else here - self._leases.served

    async def open(self) -> None:
        """Be one of those that share the store, or close what an earlier process left unfinished; begin to work."""
        await self._leases.open()
        work: list[Callable[[], Coroutine[None, None, None]]] = [self._cancels.run, self._reaper.keep_sight]
        if self._store.shared:
            work += [self._leases.run, self._reaper.run, self.watch.run]
        else:
            for (tenant, agent), count in (await self._store.waiting()).items():
                self._live.slots.add(tenant, agent, count)
            await self._reaper.open()
        sweeps: list[Sweep] = [self._reaper.desert, *self.sweeps]
        work.append(Sweeper(self._store, self._settings, self._forget, sweeps, runs=self._post.sweeps).run)
        for each in work:
            self._work.keep(each)
        self._live.chores.keep(self._claims.run)

    async def close(self) -> None:
        """Stop, and finish what was begun: content that is not to be kept has to go. Then be gone."""
        self._claims.close()
        await self._work.stop()
        await self._live.chores.done()
        await self._leases.close()

    async def ready(self) -> None:
        """Raises `Draining`, or `Unavailable` if the store cannot be reached."""
        if self.draining:
            raise Draining
        await self._store.ping()

    async def create(self, order: Order) -> Run:
        """Start a run, or let it wait for its thread, its time or a process that takes it. With an idempotency key that
        was used before, the run that was made then.

        Raises `Draining`, `TooMany`, `Busy`, `Conflict`, `NotWaiting`, `Unavailable`.
        """
        return await self._admission.make(order)

    async def get(self, tenant: str, run_id: str) -> Run:
        """Also one that was rolled back. Raises `NotFound`, also for another tenant's run."""
        return await known(self._store, tenant, run_id)

    async def named(self, tenant: str, name: str) -> list[Run]:
        """The run of that id, or all runs of that group, oldest first. Raises `NotFound`."""
        run = await self._store.get(tenant, name)
        runs = [run] if run else await self._store.find(RunQuery(tenant=tenant, group=name))
        if not runs:
            raise NotFound(f"There is no run `{name[:64]}`.")
        return runs[::-1]

    async def find(self, query: RunQuery) -> list[Run]:
        return await self._store.find(query)

    async def read(self, run: Run, *, after: int, limit: int) -> list[Entry]:
        """A page of the run's log."""
        return await self._store.read(run.run_id, after=after, limit=limit)

    async def last(self, run: Run) -> int | None:
        """The number of the last entry of a run's log, as far as it has come; None if the run has ended."""
        execution = self._live.get(run.run_id)
        if execution is not None or run.ended:
            return None if execution is None else execution.log.last
        found = await self._store.get(run.tenant, run.run_id)
        return None if found is None or found.ended else await self._store.last(run.run_id)

    async def reach(self, run: Run) -> int | None:
        """The highest number that a reader of a run may have seen, None if the run has ended: what another process has
        shown of it may have been lost with that."""
        last = await self.last(run)
        return last if last is None or self._live.get(run.run_id) is not None else last + TAKEOVER - 1

    def follow(
        self,
        run: Run,
        *,
        after: int = 0,
        idle: float = 15.0,
        first: float | None = None,
        sink: Callable[[Entry], bool] | None = None,
    ) -> AsyncGenerator[list[Entry]]:
        """See `EventLog.follow`."""
        return self._store.follow(run.run_id, after=after, idle=idle, first=first, sink=sink)

    def attend(
        self,
        run: Run,
        *,
        idle: float = 15.0,
        first: float | None = None,
        sink: Callable[[Entry], bool] | None = None,
    ) -> AsyncGenerator[list[Entry]]:
        """As `follow`, for who cannot come back for the rest: a drain waits for such readers as for runs."""
        batches = self.follow(run, idle=idle, first=first, sink=sink)
        # A run of this process is waited for itself; where nobody shares the store, no other comes to an end now.
        elsewhere = self._store.shared and self._live.get(run.run_id) is None
        return self._readers.counted(batches) if elsewhere else batches

    async def wait(self, run: Run) -> Run:
        """The record of the run once it has ended, whoever has it. Raises `NotFound`, and `Draining` if this process
        cannot wait so long."""
        return await end_of(self._store, self._live, run)

    def stop(self, run: Run, action: Action = "interrupt") -> None:
        """Cancel a run without waiting for anything, if it is still under way."""
        self._cancels.stop(run, action)

    async def cancel(self, tenant: str, run_id: str, action: Action = "interrupt") -> list[Run]:
        """Cancel a run, the run of its turn that is under way, or all runs of a group; return their records.

        A run that has ended already, or whose other end is being stored, is returned as it ended. When this returns it
        is durable that the runs are to be cancelled, and that one which waited never starts. Raises `NotFound`.
        """
        return await self._cancels.cancel(await self.named(tenant, run_id), action)

    async def cancel_key(self, tenant: str, key: str, action: Action = "interrupt") -> list[Run]:
        """Cancel the run that was asked for with this idempotency key; one that is still to come never starts."""
        run_id = await self._store.cancel_key(tenant, key)
        return [] if run_id is None else await self.cancel(tenant, run_id, action)

    async def delete(self, tenant: str, run_id: str) -> None:
        """Cancel the run if need be, then remove its record, its log, and the agent's state if no run is left on it.

        Raises `NotFound`, and what `Adapter.check_forget` does."""
        run = await self.get(tenant, run_id)
        if (agent := self.agents.named(run.agent)) is not None:
            await agent.adapter.check_forget()
        if not run.ended:
            await self._cancels.one(run, "interrupt")
            await self.wait(run)
        await self._store.delete(tenant, run_id)
        await self._forget(run)

    async def _forget(self, run: Run) -> None:
        """Let the agent forget a thread that has neither a record nor a run."""
        agent = self.agents.named(run.agent)
        query = RunQuery(tenant=run.tenant, thread_id=run.thread_id, gone=True, limit=1)
        if agent is None or await self._store.find(query):
            return
        if run.temporary or await self._store.get_thread(run.tenant, run.thread_id) is None:
            await agent.adapter.forget(thread_key(run.tenant, run.thread_id))
            await self._store.cut_states(run.tenant, run.thread_id)

    async def pauses(self, tenant: str, thread_id: str | None, agent: str, *, answered: bool = False) -> list[Pause]:
        """See `RunStore.pauses`."""
        return await self._store.pauses(tenant, thread_id, agent=agent, answered=answered)

    async def drain(self, seconds: float) -> None:
        """Take no more work, give running runs that long, and those who `attend` one of another process; then hand the
        runs over, or end them as `server_shutting_down`.

        Runs that wait go on waiting for the next process; who follows one that this process does not end is told to
        come back.
        """
        self._close()
        await self._wait_for_runs(seconds, *self._readers.done)
        self.abort()
        await self._wait_for_runs(self._settings.cancel_grace + 1)

    async def _wait_for_runs(self, seconds: float, *readers: asyncio.Future[None]) -> None:
        runs = [execution.done for execution in self._live]
        under_way: list[asyncio.Future[None] | asyncio.Future[Run | None]] = [*readers, *runs]
        if under_way:
            await asyncio.wait(under_way, timeout=seconds)

    def _close(self) -> None:
        self._live.closed = True
        self._claims.close()

    def abort(self) -> None:
        """Hand over or end all runs now."""
        self._close()
        self.watch.close()
        for execution in self._live:
            self._live.let_go(execution)
        self._store.leave_logs()


def _server(post: Post, agents: Agents) -> Server:
    """This process, as others see it. What a server's config names may wait, though no worker is up that has it."""
    configured = frozenset(agent.name for agent in agents)
    return Server(
        server_id="",
        kind=post.kind,
        host=socket.gethostname(),
        pid=os.getpid(),
        agents=agents.here if post.kind == "worker" else configured,
        started_at=time.time(),
    )
