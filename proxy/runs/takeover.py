"""Runs that the store hands to this process: those that waited, and those that have lost theirs.

A run that lost its process and may go on is put back into the queue, for whoever has room; its next attempt goes on in
the same log. Any other ends here.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from proxy.adapter import RunInput
from proxy.errors import ProxyError
from proxy.events import Cancelled, Failed, Final
from proxy.model import Run
from proxy.runs.agents import Agents
from proxy.runs.claims import Claims
from proxy.runs.leases import Leases
from proxy.runs.live import Former, Live, ends
from proxy.runs.verdicts import LOST, RESTARTED, UNREADABLE, deserted, goes_on
from proxy.runs.worker import Execution
from proxy.settings import Runs
from proxy.store.base import Store
from proxy.store.claims import Lost

EVERY = 1.0
"""Seconds between two looks for runs that lost their process."""
SIGHT = 15.0
"""Seconds between two looks for runs that this process has lost sight of: what it was only just given has begun, or is
to be seen here, by the next one."""
PATIENCE = 60.0
"""Seconds that a run waits in a shared store for a process that has its agent."""
MOST = 100
"""Runs that are taken at a time."""

logger = structlog.get_logger(__name__)
decode = msgspec.json.Decoder(RunInput).decode


class Arrivals:
    """Runs that were claimed: they begin, go on, or end at once."""

    def __init__(self, agents: Agents, live: Live, settings: Runs) -> None:
        self._agents = agents
        self._live = live
        self._settings = settings

    def begin(self, run: Run) -> asyncio.Future[Run | None] | None:
        """What to wait for until the run is over here; None if there is nothing to do. Where that raises, the run is
        still to be done."""
        if not self._live.owns(run):
            return None
        if run.attempt > 1 or run.cancel is not None:
            return asyncio.ensure_future(self._again(run))
        asked = self._asked(run)
        return (self._live.finish(run, asked) if isinstance(asked, Failed) else self._execute(run, asked)).done

    async def _again(self, run: Run) -> Run | None:
        former = await self._live.former(run)
        if not self._live.owns(run):
            return None
        asked: RunInput | Final
        if run.cancel is not None:
            asked = Cancelled(action=run.cancel)
        elif not goes_on(run, self._agents.named(run.agent), self._settings.attempts):
            asked = LOST
        else:
            asked = self._asked(run)
        if isinstance(asked, RunInput):
            logger.info("run goes on", run_id=run.run_id, agent=run.agent, attempt=run.attempt)
            execution = self._execute(run, asked, former)
        else:
            execution = self._live.finish(run, asked, former, leaves=former is not None)
        return await asyncio.shield(execution.done)

    def _execute(self, run: Run, asked: RunInput, former: Former | None = None) -> Execution:
        return self._live.execute(run, asked, inserted=True, former=former)

    def _asked(self, run: Run) -> RunInput | Failed:
        """What the agent is given, or why it cannot be done here."""
        agent = self._agents.named(run.agent)
        if agent is None or not agent.here:
            return deserted(run.agent)
        try:
            return _anew(decode(run.input), run.attempt)
        except msgspec.MsgspecError:  # also where its content was not to be kept
            return UNREADABLE


def _anew(asked: RunInput, attempt: int) -> RunInput:
    """The same for an agent that may have to look at which attempt it is."""
    if attempt == 1:
        return asked
    native = asked.native
    if native is not None:
        native = msgspec.structs.replace(native, metadata={**native.metadata, "run_attempt": attempt})
    return msgspec.structs.replace(asked, attempt=attempt, native=native)


class Reaper:
    """Looks after runs that nobody does: their process is gone, or no process has their agent."""

    def __init__(
        self, store: Store, agents: Agents, live: Live, leases: Leases, claims: Claims, *, attempts: int
    ) -> None:
        self._store = store
        self._agents = agents
        self._live = live
        self._leases = leases
        self._claims = claims
        self._attempts = attempts
        self._doomed: dict[str, tuple[Run, Final]] = {}
        """Runs that are this process's now and are to end, until they have."""
        self._unseen: dict[str, Run] = {}
        """Runs of this process that nobody here knew of at the last look, as they were then."""
        self._ending = asyncio.Lock()
        """Had while they are: who comes second would take an end for what was said before it, and write another."""

    async def open(self) -> None:
        """Of a store that nobody shares: end or put back what the process before left, whatever that was."""
        while await self.reap():
            pass
        while await self.desert(patience=0.0):
            pass

    async def run(self) -> None:
        """Of a shared store: look again and again, but not soon after it was away or this process was."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                while self._leases.steady and not self._live.closed and await self.reap():
                    pass
            except ProxyError as error:
                logger.warning("lost runs could not be looked for", error=error.code, message=error.message)

    async def reap(self) -> bool:
        """Take runs that lost their process; returns once they are put back or have ended. False if there were none."""
        found = [lost.run for lost in await self._store.take_lost(limit=MOST)]
        for run in found:
            self._live.slots.add(run.tenant, run.agent)
        await self._see_to(found, LOST if self._store.shared else RESTARTED)
        return bool(found)

    async def _see_to(self, found: list[Run], final: Final) -> None:
        """Put lost runs back, or end them so."""
        for run in found:
            again = run.cancel is None and self._may_go_on(run)
            logger.warning("run lost its process", run_id=run.run_id, agent=run.agent, goes_on=again)
            if again:
                self._claims.give_back(run)
            else:
                self._doomed[run.run_id] = run, final
        await self._end()

    def _may_go_on(self, run: Run) -> bool:
        """An agent that is other processes' alone is known to them."""
        agent = self._agents.named(run.agent)
        return goes_on(run, agent, self._attempts) if agent is not None else run.agent in self._leases.known

    async def keep_sight(self) -> None:
        """Look again and again for runs that this process has lost sight of."""
        while True:
            await asyncio.sleep(SIGHT)
            try:
                if not self._live.closed and (self._leases.steady or not self._store.shared):
                    await self.find_strays()
            except ProxyError as error:
                logger.warning("runs out of sight could not be looked for", error=error.code, message=error.message)

    async def find_strays(self) -> None:
        """Take runs that are this process's in the store, though nobody here knows of them, as they were at the last
        look too: whoever handed them out was not heard, or they could not be begun. They are lost like any others."""
        unseen = {run.run_id: run for run in await self._store.strays() if not self._knows(run.run_id)}
        strays = [run for run in unseen.values() if self._unseen.get(run.run_id) == run]
        self._unseen, found = unseen, list[Lost]()
        if strays:
            logger.warning("this process has runs that it knows nothing of", count=len(strays))
            found = await self._store.take_lost(limit=MOST, strays=strays[:MOST])
        # One may have begun after all: the writer had still been waiting for the answer that handed it out.
        await self._see_to([lost.run for lost in found if not self._knows(lost.run.run_id)], LOST)

    def _knows(self, run_id: str) -> bool:
        return self._live.has(run_id) or self._claims.returns(run_id) or run_id in self._doomed

    async def desert(self, *, patience: float = PATIENCE) -> bool:
        """End runs that wait for an agent which no process has; False if there were none."""
        known = self._leases.known.union(agent.name for agent in self._agents)
        found = await self._store.take_stranded(known, before=time.time() - patience, limit=MOST)
        self._doomed.update((run.run_id, (run, deserted(run.agent))) for run in found)
        await self._end()
        return bool(found)

    async def _end(self) -> None:
        """Raises `Unavailable` once all have ended or failed to; what has not ended then is tried again."""
        async with self._ending:
            ending = (self._end_one(run, final) for run, final in [*self._doomed.values()])
            for failed in await asyncio.gather(*ending, return_exceptions=True):
                if failed is not None:
                    raise failed

    async def _end_one(self, run: Run, final: Final) -> None:
        if self._live.owns(run):
            former = await self._live.former(run)
            final = final if run.cancel is None else Cancelled(action=run.cancel)
            await ends([self._live.finish(run, final, former)])
        self._doomed.pop(run.run_id, None)
