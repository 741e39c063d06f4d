"""Who keeps the state of a thread: the agent itself, or else the transcript of its runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Raw

from proxy.adapter import Mark, RunInput, State, ThreadName, ThreadState
from proxy.errors import BadRequest
from proxy.events import Cancelled, Entry, Failed, Final, Interrupt
from proxy.model import Run, ThreadOutcome, ThreadStatus
from proxy.runs.agents import Agent
from proxy.runs.ends import left
from proxy.runs.keeper import Keeper
from proxy.runs.starts import before
from proxy.runs.teller import Teller
from proxy.runs.transcript_keeper import TranscriptKeeper
from proxy.runs.transcripts import Transcripts
from proxy.store.base import Store, ThreadStore

Read = Callable[[int], Awaitable[list[Entry]]]
"""A page of the run's log after that number; empty at the end."""


class States:
    """The states of all agents' threads; `teller` speaks of conversations as callers of the native API do."""

    def __init__(self, store: Store, teller: Teller) -> None:
        self._store = store
        self._teller = teller

    def of(self, agent: Agent) -> ThreadState:
        return agent.adapter.threads or self.transcripts(agent)

    def transcripts(self, agent: Agent) -> Transcripts:
        return Transcripts(agent, self._store, self._teller)

    async def before(self, run: Run) -> Raw:
        """The state that a run of an agent that keeps none itself started with, its input included."""
        return await before(run, self._store, self._teller)

    def keeper(self, run: Run, asked: RunInput, agent: Agent, read: Read) -> Keeper | None:
        """The keeper of a run's thread; None where the thread is hidden and the agent takes its input as it is."""
        if agent.adapter.threads is not None:
            return None if run.temporary else StateKeeper(agent.adapter.threads, run, self._store)
        if run.temporary and asked.native is None:
            return None
        return TranscriptKeeper(self.transcripts(agent), run, read)


class StateKeeper:
    """For an agent that keeps its threads itself."""

    def __init__(self, threads: ThreadState, run: Run, store: ThreadStore) -> None:
        self._threads = threads
        self._store = store
        self._thread = ThreadName(tenant=run.tenant, thread_id=run.thread_id)
        self._begun = False
        self._asked: dict[str, tuple[Interrupt, ...]] = {}
        """The questions that were open when the run began."""
        self._mark: Mark | None = None

    async def begin(self, asked: RunInput) -> RunInput:
        if asked.native is not None:
            anywhere = asked.native.checkpoint is not None
            self._mark = await self._threads.mark(self._thread, anywhere=anywhere, run_id=asked.run_id)
        before = await self._store.get_thread(self._thread.tenant, self._thread.thread_id)
        self._begun = True
        if before is not None:
            self._asked = before.outcome.interrupts
        broken_off = before is not None and before.outcome.fault is not None
        return msgspec.structs.replace(asked, broken_off=True) if broken_off else asked

    async def end(self, final: Final) -> ThreadOutcome | None:
        if not self._begun:
            return None
        await self._threads.seal(self._thread)
        if isinstance(final, Cancelled) and final.action == "rollback" and self._mark is not None:
            await self._threads.rollback(self._thread, self._mark)
            return self._asking_again(outcome_of(final, await self._state()))
        return outcome_of(final, await self._state())

    def _asking_again(self, outcome: ThreadOutcome) -> ThreadOutcome:
        """What was asked before is asked again, though this agent may be another than asked it, and not know of it."""
        if not self._asked:
            return outcome
        return msgspec.structs.replace(outcome, status=ThreadStatus.INTERRUPTED, interrupts=self._asked)

    async def part(self) -> None:
        await self._threads.seal(self._thread)

    async def _state(self) -> State:
        """How the run leaves its thread. An input that the agent cannot make a state of would meet all that come after
        it, so it is taken back."""
        try:
            return await self._threads.state(self._thread)
        except BadRequest:
            if self._mark is None:
                raise
            await self._threads.rollback(self._thread, self._mark)
            return await self._threads.state(self._thread)


def outcome_of(final: Final, state: State) -> ThreadOutcome:
    """How a run leaves a thread that is in this state now."""
    said = left(final)
    broken = isinstance(final, Failed) or (isinstance(final, Cancelled) and final.action == "interrupt")
    waits = ThreadStatus.INTERRUPTED if state.next or state.interrupts else ThreadStatus.IDLE
    return ThreadOutcome(
        status=said.status if broken else waits,
        values=state.values,
        interrupts=interrupts_of(state),
        fault=said.fault,
    )


def interrupts_of(state: State) -> dict[str, tuple[Interrupt, ...]]:
    """What is asked, by the task that asks it."""
    return {
        task.id: tuple(Interrupt(id=asked.id, value=asked.value) for asked in task.interrupts)
        for task in state.tasks
        if task.interrupts
    }
