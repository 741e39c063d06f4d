"""One run under way: the only writer of its log, and the only maker of guarantees.

`Execution` drives an agent's events into the log and ends it in exactly one final event, whatever the agent does.
Nobody but `Live` makes one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from proxy.adapter import RunInput
from proxy.errors import LeaseLost, ProxyError, RunTimeout, Unavailable
from proxy.events import FINAL, Cancelled, Completed, Event, Failed, Final, TextDelta, Usage
from proxy.model import Pause, Run, ThreadOutcome
from proxy.runs.ends import ended, failed, left, pause_of
from proxy.runs.keeper import Keeper, NothingToDo
from proxy.runs.limits import RunBounds
from proxy.runs.sound import sound
from proxy.store.event_log import RunLog
from proxy.transcript import Tally, is_token

logger = structlog.get_logger(__name__)

WORDS = frozenset(Event.__args__)
SMALL = 1024
"""Bytes up to which a piece of ASCII text is fit to be written without a look at its size or its encoding."""
SET = 1.0
"""Seconds by which the clock must have jumped to have been set."""
BREATH = 64
"""Events after which the loop gets its turn, though the agent never waits."""
ELSEWHERE = Failed(code="server_shutting_down", message="The run goes on in another process.")
"""Stands for the end of a run that this process does not end."""

Stream = Callable[[RunInput], AsyncGenerator[Event]]


class Execution:
    """A run and the task that runs it. One that is stopped before it is started ends without its agent."""

    def __init__(
        self,
        log: RunLog,
        bounds: RunBounds,
        on_end: Callable[[Execution], None],
        keeper: Keeper | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.log = log
        self._keeper = keeper
        self.bounds = bounds
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Run | None] = self._loop.create_future()
        """Resolves with the record once the end is in the store, or has been given up; with None once the run is
        another process's to end."""
        self._on_end = on_end
        self._tally = tally or Tally()
        """What the run has used up, with all that came of it before."""
        self._bulk = 0
        """Bytes of the events that were not small."""
        self._verdict: Final | None = None
        self._begun = False
        self._decided = False
        """The agent has stopped, was abandoned or never began: what the run ends in is certain."""
        self._settling = False
        self._task: asyncio.Task[None] | None = None
        self._settler: asyncio.Task[None] | None = None
        """The task that ends the run where the agent does not stop, or another process has it now."""
        self._watch: asyncio.TimerHandle | None = None
        self._grace: asyncio.TimerHandle | None = None

    @property
    def run(self) -> Run:
        return self.log.run

    @property
    def cancelled(self) -> bool:
        """Somebody has cancelled it, and so it ends."""
        return isinstance(self._verdict, Cancelled)

    def start(self, agent: Stream, asked: RunInput) -> None:
        """Run the agent, which begins only in the task: what it raises at once is a failure like any other."""
        loop, timeout = self._loop, self.bounds.timeout
        self._deadline = loop.time() + timeout
        self._drift = time.time() - loop.time()
        """How far the clock of entries is from the loop's, which nobody sets."""
        self._watch = loop.call_later(min(timeout, self.bounds.idle_timeout or timeout), self._look)
        self._task = loop.create_task(self._execute(agent, asked))

    def stop(self, verdict: Final) -> bool:
        """End the run with this event, at once. False if its end has been decided already; the first caller wins.

        An agent that does not stop within the grace time is abandoned.
        """
        if self._verdict is not None or self._decided:
            return False
        self._verdict = verdict
        if self._task is None:
            self._task = self._loop.create_task(self._end(verdict))
            return True
        if self._begun:
            self._task.cancel()
        self._grace = self._loop.call_later(self.bounds.cancel_grace, self._abandon)
        return True

    def hand_over(self) -> bool:
        """Stop the agent, for the run is to go on in another process. False if its end has been decided."""
        return self.stop(ELSEWHERE)

    def lose(self) -> None:
        """The run is another process's: stop the agent, and say and write nothing more."""
        if self.done.done():
            return
        self._verdict = self._verdict or ELSEWHERE
        self._decided = self._settling = True
        if self._task is not None and self._begun:
            self._task.cancel()
        if self._settler is not None:  # it looks after a thread that is another's now
            self._settler.cancel()
        if self._keeper is not None:
            self._settler = self._loop.create_task(self._part_from(self._keeper))
        self._part()

    async def _execute(self, agent: Stream, asked: RunInput) -> None:
        self._begun = True
        final: Final = Completed(finish_reason="stop")
        try:
            if self._verdict is None:
                given = asked if self._keeper is None else await self._keeper.begin(asked)
                async with aclosing(agent(given)) as events:
                    final = await self._record(events)
        except asyncio.CancelledError:
            if self._verdict is None:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                final = Failed(code="internal_error", message="The agent cancelled itself.")
        except LeaseLost:  # also where somebody else has ended the run, as when its agent did not stop in time
            if not self._decided:
                self.lose()
            return
        except NothingToDo:
            pass
        except ProxyError as error:
            final = failed(error)
        except BaseException as error:  # SystemExit out of an agent would stop the server
            logger.exception("agent failed", run_id=self.run.run_id, agent=self.run.agent)
            final = self.bounds.failure(error, native=asked.native is not None)
        await self._end(self._verdict or sound(final)[0])

    async def _end(self, final: Final) -> None:
        """The agent has stopped or is abandoned: look after the thread, then write the end. Only the first call counts,
        for the thread of an agent that stops later may belong to another run by then."""
        if self._decided:
            return
        self._decided = True
        if self._grace is not None:
            self._grace.cancel()
        if final is not ELSEWHERE:
            await self._settle(final, None if self._keeper is None else await self._leave(self._keeper, final))
            return
        if self._keeper is not None:
            await self._part_from(self._keeper)
        self._part()

    async def _part_from(self, keeper: Keeper) -> None:
        """Nothing of the agent's is kept from now on; a thread that cannot be reached keeps nothing anyway."""
        try:
            async with asyncio.timeout(self.bounds.settle_timeout):
                await keeper.part()
        except ProxyError as error:
            logger.warning("a thread could not be sealed", run_id=self.run.run_id, error=error.code)
        except TimeoutError:
            logger.error("a thread could not be sealed in time", run_id=self.run.run_id)

    async def _leave(self, keeper: Keeper, final: Final) -> ThreadOutcome | None:
        """How the run leaves its thread; a state that cannot be read does not keep the run from ending."""
        try:
            async with asyncio.timeout(self.bounds.settle_timeout):
                return await keeper.end(final)
        except Exception:
            logger.exception("the state of a thread could not be read", run_id=self.run.run_id)
            return left(final)

    async def _record(self, events: AsyncGenerator[Event]) -> Final:
        """Append what the agent says until it ends, and return its last word."""
        append, silent, count = self.log.append, self._tally.first_token is None, 0
        small = min(SMALL, self.bounds.limits.event_bytes or SMALL)
        async for event in events:
            if type(event) is not TextDelta or len(event.text) > small or not event.text.isascii():
                event = self._checked(event)
                if isinstance(event, FINAL):
                    return event
            if self._verdict is not None:
                return self._verdict
            append(event)
            if silent and is_token(event):
                silent = False
                self._tally.first_token = time.time() - self.run.created_at
            if type(event) is Usage:
                self.bounds.count(event, self._tally)
            count += 1
            if not count % BREATH:
                await self._breathe()
        return Completed(finish_reason="stop")

    def _checked(self, event: Event) -> Event:
        """The event, fit to be written. Raises `TypeError`, or `RunLimit` if it is too large."""
        if type(event) not in WORDS:
            raise TypeError(f"an adapter yielded a {type(event).__name__}, which is no event")
        event, size = sound(event)
        self._bulk += size
        self.bounds.check_size(size, self._bulk)
        return event

    async def _breathe(self) -> None:
        """Let others have their turn, and wait if the disk is slower than the agent. Raises `RunLimit`."""
        self.bounds.check_log(self.log)
        await asyncio.sleep(0)
        if self.log.full:
            await self.log.drain()

    async def _settle(self, final: Final, thread: ThreadOutcome | None) -> None:
        """Write the end, however long the store is away, up to the limit; then tell the readers anyway."""
        if self._settling:
            return
        self._decided = self._settling = True
        self._disarm()
        run = ended(self.run, final, self._tally, self.log.last)
        pause = pause_of(run, final, self.bounds.pause_ttl)
        try:
            await self._store_end(final, run, pause, thread)
        except LeaseLost:
            self._part()
            return
        except Unavailable as error:
            logger.error("the end of a run could not be stored", run_id=run.run_id, error=repr(error))
            final = Failed(code="store_unavailable", message="The result could not be stored.", status=503)
            run = ended(self.run, final, self._tally, self.log.last)
            self.log.give_up(final, run)
        if not self.done.done():
            self.done.set_result(run)
            self._on_end(self)

    def _part(self) -> None:
        """Be done without an end."""
        self._disarm()
        if not self.done.done():
            self.done.set_result(None)
            self._on_end(self)

    def _disarm(self) -> None:
        for timer in (self._watch, self._grace):
            if timer is not None:
                timer.cancel()

    async def _store_end(self, final: Final, run: Run, pause: Pause | None, thread: ThreadOutcome | None) -> None:
        """Settle, again and again if the store is away, up to `settle_timeout`. Raises `Unavailable` then."""
        try:
            await self.log.settle(final, run, pause, thread=thread)
        except Unavailable:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(Unavailable),
                stop=stop_after_delay(self.bounds.settle_timeout),
                wait=wait_exponential(multiplier=0.1, max=2),
                reraise=True,
            )
            await retrying(self.log.settle, final, run, pause, thread=thread)

    def _abandon(self) -> None:
        if self._task is None or self._task.done() or self._decided or self._verdict is None:
            return
        logger.error("an agent did not stop and was abandoned", run_id=self.run.run_id, agent=self.run.agent)
        self._settler = self._loop.create_task(self._end(self._verdict))

    def _look(self) -> None:
        """Both limits of time, by one timer: most runs end before it rings."""
        loop, idle = self._loop, self.bounds.idle_timeout
        remaining = self._deadline - loop.time()
        quiet = min(self.log.last_at + idle - time.time(), idle) if idle else remaining
        drift = time.time() - loop.time()
        if abs(drift - self._drift) > SET:  # what the last entry says of its time means nothing now
            self._drift, quiet = drift, idle or remaining
        if remaining <= 0:
            self.stop(failed(RunTimeout()))
        elif quiet <= 0:
            self.stop(failed(RunTimeout("The agent was silent for too long.")))
        elif not self._decided:
            self._watch = loop.call_later(min(remaining, quiet), self._look)
