"""One thread of an agent that keeps no state itself, over a store, in a test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from proxy.adapter import Checkpoint, Native, RunInput, State, ThreadName
from proxy.events import Completed, Entry, Event, Final, RunStarted
from proxy.messages import Message
from proxy.model import Run, RunStatus, Thread, ThreadOutcome, new_id
from proxy.runs.agents import Agent
from proxy.runs.limits import RunBounds
from proxy.runs.starts import before
from proxy.runs.transcript_keeper import TranscriptKeeper
from proxy.runs.transcripts import Transcripts
from proxy.runs.worker import Execution, Stream
from proxy.settings import Agent as AgentSettings
from proxy.settings import Runs
from proxy.store.base import Store
from proxy.testing import Script, ScriptedRun
from proxy.wire.conversation import Conversation, listed
from proxy.wire.frames import FrameMaker

HI = {"messages": [{"role": "user", "content": "hi"}]}
HUMAN = [("human", "hi")]
TWO_TURNS = [*HUMAN, ("ai", "one"), ("human", "again"), ("ai", "two")]
Talking = Callable[..., None]
"""The fixture `talking`."""


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def at(state: State) -> Checkpoint:
    """The place of a state, as a client would name it."""
    assert state.checkpoint is not None
    return state.checkpoint


class Live:
    """A run under way."""

    def __init__(self, execution: Execution, agent: ScriptedRun | None) -> None:
        self.execution = execution
        self._agent = agent
        self.run_id = execution.run.run_id

    @property
    def agent(self) -> ScriptedRun:
        assert self._agent is not None, "the agent was never asked"
        return self._agent

    @property
    def asked(self) -> bool:
        return self._agent is not None

    @property
    def texts(self) -> list[tuple[str, str]]:
        """What the agent was given."""
        return [(message.role, message.text) for message in self.agent.given.messages]

    async def stop(self, verdict: Final) -> Run:
        self.execution.stop(verdict)
        ended = await self.execution.done
        assert ended is not None
        return ended


class Talk:
    """The thread."""

    def __init__(self, store: Store, history: str = "full") -> None:
        self.store = store
        self.script = Script()
        self.runs = Runs(cancel_grace=5.0)
        settings = msgspec.convert({"adapter": "script", "history": history}, AgentSettings)
        self.agent = Agent(name="bot", adapter=self.script, settings=settings)
        self.transcripts = Transcripts(self.agent, store, Conversation())
        self.thread = ThreadName(thread_id=new_id())

    async def open(self) -> Talk:
        await self.store.insert_thread(Thread(thread_id=self.thread.thread_id))
        return self

    def asked(self, input: Any = None, **fields: Any) -> RunInput:
        """A native run's input; those of `Native` are told by their names."""
        own = {name: fields.pop(name) for name in [*fields] if name in Native.__struct_fields__}
        given: dict[str, Any] = {
            "run_id": new_id(),
            "thread_id": self.thread.thread_id,
            "agent": "bot",
            "native": Native(**own),
            "input": raw(input),
        }
        return RunInput(**given | fields)

    def chat(self, *messages: tuple[str, str], **fields: Any) -> RunInput:
        said = tuple(Message(role=role, content=text) for role, text in messages)
        return self.asked(native=None, messages=said, **fields)

    def execute(self, asked: RunInput, stream: Stream | None = None, **fields: Any) -> Execution:
        """Start the run, of the script or of another agent; `fields` are its record's."""
        run = Run(
            run_id=asked.run_id,
            thread_id=asked.thread_id,
            agent="bot",
            status=RunStatus.RUNNING,
            turn_id=asked.run_id,
            temporary=asked.temporary,
            input=raw(asked),
            **fields,
        )
        log = self.store.begin(run, inserted=False)
        log.append(RunStarted(run_id=run.run_id, thread_id=run.thread_id, agent="bot"))
        keeper = TranscriptKeeper(self.transcripts, run, partial(self._page, run.run_id))
        execution = Execution(log, RunBounds.of(self.agent.settings, self.runs), lambda ended: None, keeper)
        execution.start(stream or self.script.stream, asked)
        return execution

    async def start(self, asked: RunInput, **fields: Any) -> Live:
        """Start the run; returns when its agent has begun, or when it has ended without."""
        execution = self.execute(asked, **fields)
        begun = asyncio.ensure_future(self.script.started())
        await asyncio.wait([begun, execution.done], return_when=asyncio.FIRST_COMPLETED)
        if begun.done():
            return Live(execution, begun.result())
        begun.cancel()
        return Live(execution, None)

    async def _page(self, run_id: str, after: int) -> list[Entry]:
        return await self.store.read(run_id, after=after, limit=3)

    async def run(self, asked: RunInput, *said: str | Event, final: Event | None = None, **fields: Any) -> Live:
        """A run that says this and ends."""
        live = await self.start(asked, **fields)
        await live.agent.say(*said)
        await live.agent.end(final or Completed())
        await live.execution.done
        return live

    async def state(self) -> State:
        return await self.transcripts.state(self.thread)

    async def history(self, **query: Any) -> list[State]:
        return await self.transcripts.history(self.thread, **{"limit": 100} | query)

    async def messages(self) -> list[tuple[str, str]]:
        """What the thread holds now."""
        return told((await self.state()).values)

    async def outcome(self) -> ThreadOutcome:
        thread = await self.store.get_thread("default", self.thread.thread_id)
        assert thread is not None
        return thread.outcome

    async def streamed(self, live: Live) -> Raw:
        """The last values that a reader of the run gets who joins after its end."""
        run = await self.store.get("default", live.run_id)
        assert run is not None
        begun = await before(run, self.store, Conversation())
        maker = FrameMaker(frozenset({"values"}), before=listed(begun))
        page, frames = await self._page(live.run_id, 0), []
        while page:
            frames += [frame for entry in page for frame in maker.frames(entry.event)]
            page = await self._page(live.run_id, page[-1].seq)
        return frames[-1].data


def told(values: Raw) -> list[tuple[str, str]]:
    """(type, text) of each message."""
    return [(message["type"], message["content"]) for message in msgspec.json.decode(values)["messages"]]


def ids(values: Raw) -> list[str]:
    return [message["id"] for message in msgspec.json.decode(values)["messages"]]


Act = Callable[[Talk], Awaitable[None]]
