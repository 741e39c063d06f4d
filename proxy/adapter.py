"""The port for agents: what an adapter is given, and what it must do.

An adapter turns one kind of agent into a stream of events. It knows nothing of wires, runs or stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.events import NULL, Event
from proxy.messages import Message, Tool


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller said to a paused run.

    `calls` maps a client tool's call id to its output; `interrupts` maps an interrupt's id to JSON;
    `text` is a plain reply to whatever was asked.
    """

    calls: dict[str, str] = {}
    interrupts: dict[str, Raw] = {}
    text: str | None = None


class Goto(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node to go to, with an input of its own unless that is null."""

    node: str
    input: Raw = NULL


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run does to the state before it goes on; null is nothing.

    `resume` is one answer, or an object of answers by interrupt id.
    """

    resume: Raw = NULL
    update: Raw = NULL
    goto: tuple[Goto, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place in a thread's history. Without an id: the newest of its namespace; the root's namespace is empty."""

    checkpoint_id: str | UnsetType = UNSET
    thread_id: str = ""
    checkpoint_ns: str | UnsetType = UNSET
    checkpoint_map: dict[str, str] | UnsetType | None = UNSET
    """The checkpoints of the graphs around a sub-graph's, by namespace."""


class Native(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the native runs API adds to a run. The run's `input` is the agent's own, and null goes on from the state."""

    command: Command | None = None
    """In place of the input."""
    checkpoint: Checkpoint | None = None
    """Where to go on from; None for the thread's newest state."""
    interrupt_before: tuple[str, ...] = ()
    """Nodes to stop before; `*` is all."""
    interrupt_after: tuple[str, ...] = ()
    durability: Literal["async", "sync", "exit"] | None = None
    subgraphs: bool = False
    """Whether what sub-graphs do streams too."""
    tags: tuple[str, ...] = ()
    configurable: dict[str, Any] = {}
    """Keys that steer the framework or that the agent's options set are left out by the adapter."""
    metadata: dict[str, Any] = {}
    """Kept with each checkpoint and shown with each message."""


def thread_key(tenant: str, thread_id: str) -> str:
    """A thread's name across tenants; no thread id reaches into a tenant whose name has a colon."""
    return f"{tenant.replace('%', '%25').replace(':', '%3A')}:{thread_id}"


class RunInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that an agent gets to know of one run."""

    run_id: str
    thread_id: str
    agent: str
    tenant: str = "default"
    messages: tuple[Message, ...] = ()
    """The conversation, or with `history: last` only what follows the last assistant message."""
    tools: tuple[Tool, ...] = ()
    """Tools of the caller's that the agent may ask for (already filtered by the agent's `client_tools`)."""
    params: dict[str, Raw] = {}
    """Every other field of the request as JSON: temperature, max_tokens, response_format, tools, ..."""
    input: Raw = NULL
    """The agent's own input where a caller gave one, else null; `messages` is empty then."""
    modes: frozenset[str] = frozenset()
    """Native modes to emit `Frame`s for; empty for chat."""
    native: Native | None = None
    """Set on runs of the native runs API; such a run has no `messages` and no `answer`."""
    answer: Answer | None = None
    """Set on a run that resumes a paused one."""
    metadata: dict[str, str] = {}
    user: str | None = None
    headers: dict[str, str] = {}
    """Request headers that the config lists in `forward_headers`, names in lower case."""
    context: dict[str, Any] = {}
    """Values from the request; an adapter passes on only keys that its options list, on a native run those that the
    agent's schema has."""
    model: str | None = None
    """Overrides the agent's own model; for an agent that publishes many, the published id that was asked for."""
    max_steps: int | None = None
    fresh: bool = True
    """True: start from an empty state, `messages` is the whole history. False: go on from the thread's state."""
    broken_off: bool = False
    """The thread's last run was cut off or failed, so that a tool call may have no result."""
    temporary: bool = False
    """True: nobody comes back to this thread, so its state goes at the end, unless the run pauses."""
    first_byte: float | None = None
    """Seconds after which a streaming caller gets its headers; an error before that is a real HTTP status."""
    timeout: float = 600.0
    """Seconds the whole run may take."""
    attempt: int = 1
    """Above 1: the process that ran it before was lost. An agent that `resumes` goes on from what the run has left in
    its thread, and takes no input or command twice; any other begins anew."""

    @property
    def thread_key(self) -> str:
        """The key for state that an adapter keeps of the thread."""
        return thread_key(self.tenant, self.thread_id)

    @property
    def text(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""


def always() -> bool:
    return True


def nobody() -> None:
    return None


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where an adapter lives: given to it when the server starts."""

    agent: str
    """The agent's name in the config."""
    folder: Path
    """The folder of the config file, which relative paths start from."""
    state: str
    """The `store` URL. An adapter that keeps state of its own puts it next to a file, and into tables of its own in a
    database of PostgreSQL."""
    executor: Executor | None = None
    """For synchronous code: `runs.threads` threads, shared by all agents and by nothing else."""
    shared: dict[str, Any] = msgspec.field(default_factory=dict)
    """One for all adapters of a server: what agents of one kind use together, a connection say, under its name."""
    migrate: bool = True
    """Whether the adapter brings its tables in a shared database up to date; if not, `runwire migrate` has."""
    holds: Callable[[], bool] = always
    """Whether this process still has the right to write what its runs make. Asked before each write, from any thread;
    what is refused is not tried again, and to the run it is as if it were cancelled."""
    owner: Callable[[], str | None] = nobody
    """The `server_id` of this process in the table `servers` of a shared database, None where there is no such table.
    Whoever takes its runs deletes that row in the same transaction, so a write that finds it gone comes too late."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that an adapter publishes; `id` is the name that clients ask for, its prefix included."""

    id: str
    created: int = 0
    owned_by: str = ""


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For an adapter that takes no options."""


class ThreadName(msgspec.Struct, frozen=True, kw_only=True):
    """A thread, as its caller knows it."""

    tenant: str = "default"
    thread_id: str

    @property
    def key(self) -> str:
        """`RunInput.thread_key` of the thread's runs."""
        return thread_key(self.tenant, self.thread_id)


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for an answer, as states show it."""

    id: str
    value: Raw


class StateTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task of the step that a state is before, or was. `checkpoint` or `state` is its sub-graph's."""

    id: str
    name: str
    path: tuple[Any, ...] = ()
    error: str | None = None
    interrupts: tuple[Asking, ...] = ()
    checkpoint: Checkpoint | None = None
    state: State | None = None
    result: Raw = NULL


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A thread's state at one checkpoint, in the JSON shape of the native API."""

    values: Raw = Raw(b"{}")
    next: tuple[str, ...] = ()
    tasks: tuple[StateTask, ...] = ()
    metadata: Raw = NULL
    created_at: str | None = None
    checkpoint: Checkpoint | None = None
    parent_checkpoint: Checkpoint | None = None
    interrupts: tuple[Asking, ...] = ()
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Values written to a state as if a node had; null as `__end__` ends what the thread has still to do."""

    values: Raw = NULL
    as_node: str | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A moment in a thread's life to go back to: what came after `newest` goes, and `writes` are put back.

    `writes` are for the adapter that made the mark alone.
    """

    newest: str
    writes: tuple[tuple[Any, ...], ...] = ()
    anywhere: bool = False


class ThreadState(ABC):
    """The threads of an agent that keeps their state itself. Nothing here may meet a run of the same thread.

    All but `mark` raise `BadRequest` for what the agent refuses; threads that it never saw are empty.
    """

    @abstractmethod
    async def state(
        self, thread: ThreadName, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        """The state now or at a checkpoint. `subgraphs`: each task that is a sub-graph shows its state."""

    @abstractmethod
    async def history(
        self,
        thread: ThreadName,
        *,
        limit: int,
        before: Checkpoint | None = None,
        checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[State]:
        """States, newest first. `checkpoint` names the sub-graph whose history is asked for, or one state."""

    @abstractmethod
    async def update(
        self, thread: ThreadName, steps: Sequence[Sequence[Update]], checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        """Write to the state, one checkpoint a step, from the newest on or from an older one: a branch."""

    @abstractmethod
    async def copy(self, source: ThreadName, target: ThreadName) -> None:
        """Give `target`, which is empty, all that `source` has."""

    @abstractmethod
    async def keep_newest(self, thread: ThreadName) -> None:
        """Forget how the thread came to its state, and keep that."""

    @abstractmethod
    async def mark(self, thread: ThreadName, *, anywhere: bool = False, run_id: str | None = None) -> Mark:
        """What `rollback` needs, taken before a run begins. `anywhere`: the run goes on from an older checkpoint.

        `run_id` names the run: asked again for it, by any process, the mark is that from before its first attempt.
        """

    @abstractmethod
    async def rollback(self, thread: ThreadName, mark: Mark) -> None:
        """Take back all that happened to the thread since, sub-graphs and answers to questions included."""

    async def seal(self, thread: ThreadName) -> None:
        """Called when a run has ended: nothing that it still does, abandoned or in a thread, is kept from now on."""

    async def check_resume(self, thread: ThreadName, checkpoint: Checkpoint | None = None) -> None:
        """Called before a run that answers is made. Raises `Conflict` where nobody is left to take an answer."""


class Blueprint(ABC):
    """What an agent is made of, as JSON in the shape of the native API."""

    @property
    def nodes(self) -> frozenset[str] | None:
        """The names of the nodes that a run may go to or stop at; None where they are not known before a run."""
        return None

    @abstractmethod
    async def drawing(self, *, xray: int | bool = False) -> Raw:
        """Nodes and edges. `xray`: with those inside of sub-graphs, to that depth or all."""

    @abstractmethod
    async def schemas(self) -> Raw:
        """JSON schemas of input, output, state, config and context; null where there is none."""

    @abstractmethod
    async def subgraphs(self, namespace: str | None = None, *, recurse: bool = False) -> Raw:
        """The schemas of the sub-graphs by namespace: all, or the one named. `recurse`: theirs too."""


class Adapter(ABC):
    """One agent. Built once when the server starts; `stream` is called once a run, many at a time."""

    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    """What stands under `options:` in the config; converted and checked before the adapter is built."""
    native: ClassVar[bool] = False
    """True for an adapter that emits `Frame`s."""
    overrides_model: ClassVar[bool] = False
    """True where `RunInput.model` is honoured."""
    takes_tools: ClassVar[str] = "ignore"
    """What becomes of the caller's tools where the config says nothing: `pass`, `offer` or `ignore`."""
    resumes: ClassVar[bool] = False
    """True where a run that lost its process can go on from where that left off."""
    threads: ThreadState | None = None
    """Set where the agent keeps its threads' state itself."""
    blueprint: Blueprint | None = None
    """Set where the agent can say what it is made of."""

    def __init__(self, options: Any, site: Site) -> None:
        self.options = options
        self.site = site

    async def open(self) -> None:
        """Import and connect. Raises `ConfigError`, naming the option and the cure."""

    async def close(self) -> None:
        """Let go of connections and files. Called once, after the last stream has ended."""

    @abstractmethod
    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        """Run the agent and yield its events, at most one final one and nothing after it.

        A stream without a final event counts as `Completed(finish_reason="stop")`. Cancellation arrives
        as `asyncio.CancelledError` at an `await`, an early end as `GeneratorExit` at a `yield`; both must
        let go of all that the run holds, upstream connections first. Failures of the agent's model are
        raised as `UpstreamError`s; any other exception is a bug of the agent, and its text stays in the log.
        """

    async def models(self) -> list[Model] | None:
        """The models this agent publishes under names of their own, or None: the agent is the model."""
        return None

    async def check_forget(self) -> None:
        """Called before a thread or a run is deleted. Raises where `forget` could not do its part."""

    async def forget(self, thread_key: str) -> None:
        """Delete the state of a thread. Unknown threads are fine."""
