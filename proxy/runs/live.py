"""The runs that this process has under way. Nobody else makes an `Execution`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import structlog

from proxy.adapter import RunInput
from proxy.errors import ProxyError, Unavailable
from proxy.events import Entry, Final, RunStarted, Usage
from proxy.model import Run, ThreadOutcome
from proxy.runs.agents import Agents
from proxy.runs.chores import Chores
from proxy.runs.cost import cost
from proxy.runs.ends import left
from proxy.runs.keeper import Keeper
from proxy.runs.limits import RunBounds, Slots
from proxy.runs.report import report, report_content
from proxy.runs.states import States
from proxy.runs.verdicts import GOING_DOWN, goes_on
from proxy.runs.worker import Execution
from proxy.settings import Agent as AgentSettings
from proxy.settings import Runs
from proxy.store.base import Store
from proxy.transcript import Tally, is_token

TAKEOVER = 10_000
"""How far ahead a run is numbered on that lost its process: beyond any number that a reader may have seen."""
PAGE = 1000

logger = structlog.get_logger(__name__)


class Former(msgspec.Struct, frozen=True):
    """What an earlier attempt of a run has left: the number of its last entry, and what it has used up."""

    last: int
    tally: Tally


class Live:
    """The runs of this process that have not ended, by their ids.

    `on_end` are told of each that has ended, once its end is in the store.
    """

    def __init__(
        self, store: Store, agents: Agents, settings: Runs, states: States | None, scrub: Callable[[str], str]
    ) -> None:
        self.closed = False
        """No more work is taken: what begins all the same is let go at once."""
        self.slots = Slots(counts=not store.shared)
        self.on_end: list[Callable[[Run], None]] = []
        self.chores = Chores()
        self._store = store
        self._agents = agents
        self._settings = settings
        self._states = states
        self._bounds = {agent.name: RunBounds.of(agent.settings, settings, scrub) for agent in agents}
        self._unbound = RunBounds.of(AgentSettings(adapter=""), settings, scrub)
        self._executions: dict[str, Execution] = {}
        self._coming: list[str] = []
        """Runs of which is being read what they came to before; they begin or end then."""
        store.lease.listen(self._renewed)

    def __iter__(self) -> Iterator[Execution]:
        return iter([*self._executions.values()])

    def __len__(self) -> int:
        return len(self._executions)

    def get(self, run_id: str) -> Execution | None:
        return self._executions.get(run_id)

    def has(self, run_id: str) -> bool:
        """Whether it is under way here, or about to be."""
        return run_id in self._executions or run_id in self._coming

    def owns(self, run: Run) -> bool:
        """Whether it is this process's to do: a run that was handed out before the lease was lost is not any more."""
        return run.owner == self._store.lease.owner

    def execute(self, run: Run, asked: RunInput, *, inserted: bool, former: Former | None = None) -> Execution:
        """Let the run's agent, which is here, begin. `former` is set where it goes on from an earlier attempt."""
        agent, bounds = self._agents.named(run.agent), self._bounds[run.agent]
        assert agent is not None
        keeper = None
        if self._states is not None:
            keeper = self._states.keeper(run, asked, agent, partial(self._page, run.run_id))
        execution = self._begin(run, keeper, inserted=inserted, former=former)
        last = None if former is None else former.last
        execution.log.append(
            RunStarted(
                run_id=run.run_id, thread_id=run.thread_id, agent=run.agent, attempt=run.attempt, resumes_after=last
            )
        )
        if asked.timeout != bounds.timeout:
            asked = msgspec.structs.replace(asked, timeout=bounds.timeout)
        execution.start(agent.adapter.stream, asked)
        if self.closed:  # it was being stored when the draining began, which therefore did not see it
            self.let_go(execution)
        return execution

    def finish(self, run: Run, final: Final, former: Former | None = None, *, leaves: bool = True) -> Execution:
        """End a run that is not to begin, or not again. `leaves`: a thread that lasts is told of it."""
        keeper = Undone() if leaves and not run.temporary else None
        execution = self._begin(run, keeper, inserted=True, former=former)
        execution.stop(final)
        return execution

    def let_go(self, execution: Execution) -> None:
        """The process goes down: hand the run over if another can go on with it, or else end it."""
        run = execution.run
        agent = self._agents.named(run.agent)
        if self._store.shared and goes_on(run, agent, self._settings.attempts):
            self.chores.add(self._hand_over(execution))
        else:
            execution.stop(GOING_DOWN)

    async def _hand_over(self, execution: Execution) -> None:
        """Stop an agent, and let its run wait for its next attempt, in whatever process."""
        run = execution.run
        if execution.hand_over() and await asyncio.shield(execution.done) is None and self.owns(run):
            await self._store.release(msgspec.structs.replace(run, attempt=run.attempt + 1))

    def _begin(self, run: Run, keeper: Keeper | None, *, inserted: bool, former: Former | None) -> Execution:
        after = 0 if former is None else former.last + TAKEOVER
        log = self._store.begin(run, inserted=inserted, after=after)
        bounds = self._bounds.get(run.agent, self._unbound)
        execution = Execution(log, bounds, self._over, keeper, Tally() if former is None else former.tally)
        self._executions[run.run_id] = execution
        return execution

    async def former(self, run: Run) -> Former | None:
        """What came of a run before this attempt; None for the first. Raises `Unavailable`.

        Of a log with a damaged piece it is what stands before that, and the number of the last entry all the same."""
        if run.attempt == 1:
            return None
        self._coming.append(run.run_id)
        try:
            return await self._former(run)
        finally:
            self._coming.remove(run.run_id)

    async def _former(self, run: Run) -> Former:
        tally, after = Tally(), 0
        try:
            while entries := await self._page(run.run_id, after):
                self._count(run, entries, tally)
                after = entries[-1].seq
        except Unavailable:
            raise
        except ProxyError as error:  # asked again it would be no better, and the run has to come to an end
            logger.error("a run goes on behind what cannot be read", run_id=run.run_id, error=error.message)
            after = await self._store.last(run.run_id)
        return Former(after, tally)

    def _count(self, run: Run, entries: list[Entry], tally: Tally) -> None:
        prices = self._settings.prices
        for entry in entries:
            if isinstance(entry.event, Usage):
                tally.add(entry.event, cost(entry.event, prices) if prices else 0.0)
            elif tally.first_token is None and is_token(entry.event):
                tally.first_token = entry.at - run.created_at

    async def _page(self, run_id: str, after: int) -> list[Entry]:
        return await self._store.read(run_id, after=after, limit=PAGE)

    def _over(self, execution: Execution) -> None:
        """A run has ended, or is not this process's any more."""
        run, known = execution.done.result(), execution.run
        if self._executions.get(known.run_id) is execution:
            del self._executions[known.run_id]
        self.slots.free(known.tenant, known.agent)
        if run is None:
            return
        report(run)
        if self._settings.log_content:
            self.chores.add(report_content(run, self._store.follow(run.run_id, idle=0)))
        if not (run.choices.store and self._settings.keep_content):
            self.chores.add(self._store.strip(run))
        for tell in self.on_end:
            tell(run)

    def _renewed(self, kept: bool) -> None:
        """After a loss, the runs are others', who write their logs and their ends."""
        if not kept:
            for execution in self:
                execution.lose()


class Undone:
    """The keeper of a run whose agent does not begin: its thread keeps what it has."""

    async def begin(self, asked: RunInput) -> RunInput:
        return asked

    async def end(self, final: Final) -> ThreadOutcome | None:
        return left(final)

    async def part(self) -> None: ...


async def ends(executions: list[Execution]) -> list[Run]:
    """The records of runs that are being ended, once they have."""
    runs = await asyncio.gather(*(asyncio.shield(execution.done) for execution in executions))
    return [run for run in runs if run is not None]
