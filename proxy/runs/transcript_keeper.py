"""Keeps a thread's state in step with a run, where the agent keeps none itself.

A run leaves what one of a graph's leaves: its input, the state with it, and the state at the end.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Raw
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from proxy.adapter import Mark, RunInput, ThreadName
from proxy.errors import ProxyError, Unavailable
from proxy.events import NULL, Cancelled, Completed, Entry, Final, Paused
from proxy.messages import after_last_answer
from proxy.model import Run, SavedState, ThreadOutcome
from proxy.runs.ends import ROLLED_BACK, left
from proxy.runs.keeper import NothingToDo
from proxy.runs.starts import Start, base_of, start_of
from proxy.runs.teller import EMPTY, refusals
from proxy.runs.transcripts import START, Transcripts, outcome_of, task_id, younger

Source = Literal["input", "loop", "fork"]
replace = msgspec.structs.replace


class TranscriptKeeper:
    """The keeper of one run. `read` gives a page of the run's log behind an entry; an empty one is the end."""

    def __init__(self, transcripts: Transcripts, run: Run, read: Callable[[int], Awaitable[list[Entry]]]) -> None:
        self._transcripts = transcripts
        self._run = run
        self._read = read
        self._thread = ThreadName(tenant=run.tenant, thread_id=run.thread_id)
        self._newest: SavedState | None = None
        """The newest state of the thread when the run began."""
        self._line: list[SavedState] = []
        """What the run made of it, oldest first."""
        self._start: Start | None = None
        self._whole = True
        """All states are kept, not only the last."""
        self._metadata: dict[str, Any] = {}

    async def begin(self, asked: RunInput) -> RunInput:
        teller, native = self._transcripts.teller, asked.native
        if asked.temporary:
            return asked if native is None else self._given(asked, start_of(asked, None, teller))
        if native is not None:
            self._whole, self._metadata = native.durability != "exit", native.metadata
        elif self._run.input == NULL or not self._run.choices.store:
            return asked  # its content is not to be kept, and a chat client has it all
        self._newest = await self._transcripts.saved(self._thread)
        base = await base_of(asked, self._newest, self._transcripts)
        start = start_of(asked, base, teller)
        given = asked if native is None else self._given(asked, start)
        await self._enter(start)
        if start.idle:
            raise NothingToDo
        return given

    def _given(self, asked: RunInput, start: Start) -> RunInput:
        """What the agent is told: the whole conversation, or what is new to one that remembers the rest."""
        with refusals():
            messages = self._transcripts.teller.messages(start.values, waiting=asked.answer is not None)
        if self._transcripts.agent.settings.history == "full":
            return replace(asked, messages=messages, fresh=True)
        return replace(asked, messages=after_last_answer(messages), fresh=False)

    async def _enter(self, start: Start) -> None:
        """Write the states that the run begins with."""
        self._start, node = start, self._transcripts.node
        if start.kind == "input":
            self._add("input", EMPTY if start.base is None else start.base.values, next=(START,))
            self._add("loop", start.values, next=(node,))
        elif start.kind is not None:
            self._add(start.kind, start.values, next=() if start.idle else (node,))
        if not self._line or not (self._whole or start.idle):
            return
        try:
            await self._transcripts.store.put_states(tuple(self._line))  # a cancel lets it be written later
        except ProxyError:
            self._start = None
            raise

    def _add(self, source: Source, values: Raw, **fields: Any) -> SavedState:
        """The next state of the run."""
        base = self._line[-1] if self._line else self._start.base if self._start is not None else None
        newest = base if self._line else self._newest
        state = SavedState(
            thread_id=self._thread.thread_id,
            tenant=self._thread.tenant,
            checkpoint_id=younger("" if newest is None else newest.checkpoint_id),
            parent_id=None if base is None else base.checkpoint_id,
            run_id=self._run.run_id,
            created_at=time.time(),
            source=source,
            step=-1 if base is None else base.step + 1,
            values=values,
            metadata=self._metadata,
            **fields,
        )
        self._line.append(state)
        return state

    async def end(self, final: Final) -> ThreadOutcome | None:
        """As long as the store is away, this waits for it."""
        if self._start is None:
            return None if self._run.temporary or isinstance(final, Cancelled) else left(final)
        if isinstance(final, Cancelled) and final.action == "rollback":
            return await self._take_back()
        if self._start.idle and isinstance(final, Completed):
            return outcome_of(self._line[-1] if self._line else self._newest)
        state = await self._finish(self._start, final)
        interrupts = {task_id(state): state.interrupts} if state.interrupts else {}
        return replace(left(final), values=state.values, interrupts=interrupts)

    async def part(self) -> None: ...

    async def _take_back(self) -> ThreadOutcome:
        after = "" if self._newest is None else self._newest.checkpoint_id
        await _patiently(partial(self._transcripts.rollback, self._thread, Mark(newest=after)))
        return replace(outcome_of(self._newest), fault=ROLLED_BACK)

    async def _finish(self, start: Start, final: Final) -> SavedState:
        """Write the state at the end."""
        fold, after = self._transcripts.teller.fold(start.values), 0
        while entries := await self._read(after):
            for entry in entries:
                fold.feed(entry.event)
            after = entries[-1].seq
        fold.feed(final)
        fault = left(final).fault
        state = self._add(
            "loop",
            fold.values(),
            next=() if isinstance(final, Completed) else (self._transcripts.node,),
            interrupts=final.interrupts if isinstance(final, Paused) else (),
            error=None if fault is None else f"{fault.error}({fault.message!r})",
        )
        if not self._whole:
            state = replace(state, parent_id=None if start.base is None else start.base.checkpoint_id)
        await _patiently(partial(self._transcripts.store.put_states, [state]))
        return state


async def _patiently(act: Callable[[], Awaitable[None]]) -> None:
    """Do it as soon as the store can be written."""
    waiting = AsyncRetrying(retry=retry_if_exception_type(Unavailable), wait=wait_exponential(multiplier=0.1, max=2))
    async for attempt in waiting:
        with attempt:
            await act()
