"""Frames made from neutral events: for agents that have none of their own, and for modes a run was not created with.

`values`, `messages-tuple`, `messages`, `updates` (one per message, under the agent's name) and `custom` can be made;
`events`, `debug`, `tasks` and `checkpoints` tell of a graph's inside, and cannot. Pure and stateful: events in, in
order and from the first, frames out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.events import (
    Completed,
    Custom,
    Event,
    Frame,
    Interrupt,
    Paused,
    ReasoningDelta,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from proxy.transcript import goes_on
from proxy.wire.langchain import Chunk, Output, Said, id_of
from proxy.wire.spoken import Path, Spoken

json = msgspec.json.Encoder()

MAKEABLE = frozenset({"values", "messages-tuple", "messages", "updates", "custom"})
"""Modes whose frames can be made."""
MODES = {
    "messages": "messages-tuple",
    "messages/metadata": "messages",
    "messages/partial": "messages",
    "messages/complete": "messages",
}


def mode_of(event: str) -> str:
    """The mode that an event's name belongs to; both message modes have names of their own for their events."""
    return MODES.get(event, event)


class Question(Struct, frozen=True):
    """One thing that a paused run asks."""

    value: Raw
    id: str
    response_schema: None = None


class About(Struct, frozen=True, kw_only=True):
    """Where a message comes from."""

    run_id: str
    thread_id: str
    graph_id: str
    assistant_id: str
    run_attempt: int
    langgraph_node: str
    langgraph_step: int
    langgraph_triggers: tuple[()] = ()
    langgraph_path: tuple[()] = ()
    langgraph_checkpoint_ns: str
    checkpoint_ns: str


def questions(interrupts: Sequence[Interrupt]) -> list[Question]:
    return [Question(interrupt.value, interrupt.id) for interrupt in interrupts]


class FrameMaker:
    """Makes the frames of some modes.

    `before` are the thread's messages, with the run's input, in LangChain's form or as its JSON; `subgraphs` puts what
    sub-agents say under their names, else it stands among the agent's own. With both message modes only the tuples
    are made.
    """

    def __init__(
        self,
        modes: frozenset[str],
        *,
        before: Sequence[Said | Raw] = (),
        assistant_id: str = "",
        subgraphs: bool = False,
    ) -> None:
        self._modes = modes - {"messages"} if "messages-tuple" in modes else modes
        self._assistant_id = assistant_id
        self._subgraphs = subgraphs
        self._start = RunStarted(run_id="", thread_id="", agent="")
        self.begin(before)
        self._open: dict[tuple[Path, str], Spoken] = {}
        self._names: dict[str, str] = {}
        """What the tools of the calls are called."""
        self._unsure: list[Spoken] = []
        """Messages with calls that were taken out, for they may not have been whole."""
        self._step = 0

    def begin(self, before: Sequence[Said | Raw]) -> None:
        """Say what `before` is, where it is not known from the start: ahead of the first event."""
        messages = [Raw(json.encode(message)) for message in before]
        self._messages: list[Raw | Spoken] = [*messages]
        self._ids = {id_of(message) for message in messages}

    def frames(self, event: Event) -> list[Frame]:
        """The frames that an event gives rise to. What a reader joins together comes last."""
        match event:
            case TextDelta() | ReasoningDelta() | ToolCallDelta():
                return self._said(event)
            case ToolResult():
                return self._answered(event)
            case Usage():
                return self._counted(event)
            case Custom(data=data, path=path):
                return self._frame("custom", data, path)
            case RunStarted():
                self._start = event
                if goes_on(event):
                    self._cut()
                return self._values()
            case Completed():
                return self._told()
            case Paused():
                return [*self._told(), *self._paused(event)]
            case _:
                return []

    def values(self) -> bytes:
        """The state of the thread, as far as messages are whole."""
        known = [message.told if isinstance(message, Spoken) else message for message in self._messages]
        return b'{"messages":[' + b",".join([bytes(message) for message in known if message is not None]) + b"]}"

    def _said(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> list[Frame]:
        if isinstance(event, ToolCallDelta):
            self._names[event.call_id] = event.name
            if self._unsure:  # said again, as it seems
                self._unsure = [spoken for spoken in self._unsure if event.call_id not in spoken.call_ids]
        spoken = self._open.get((event.path, event.part))
        frames: list[Frame] = []
        first = spoken is None or spoken.sealed
        if spoken is None or spoken.sealed:
            frames += self._told(event.path)
            spoken = self._begin(event.path, event.part)
        chunk = spoken.add(event)
        return [*frames, *self._spoken(spoken, chunk, first=first)]

    def _begin(self, path: Path, part: str) -> Spoken:
        id = self._new_id(part or f"run-{self._start.run_id}")
        spoken = self._open[path, part] = Spoken(id, path, self._about(path))
        self._messages.append(spoken)
        return spoken

    def _new_id(self, id: str) -> str:
        """This id, or one made of it where the thread has a message of that id, which this one would replace."""
        unique, number = id, len(self._messages)
        while unique in self._ids:
            unique, number = f"{id}-{number}", number + 1
        self._ids.add(unique)
        return unique

    def _spoken(self, spoken: Spoken, chunk: Chunk, *, first: bool = False) -> list[Frame]:
        """What the message modes say of a new piece."""
        if "messages-tuple" in self._modes:
            return self._frame("messages", (chunk, spoken.about), spoken.ns)
        if "messages" not in self._modes:
            return []
        named = {spoken.id: {"metadata": spoken.about}}
        frames = self._frame("messages/metadata", named, spoken.ns) if first else []
        return [*frames, *self._frame("messages/partial", (spoken.whole(),), spoken.ns)]

    def _cut(self) -> None:
        """Take out the messages that were still being said, but for what was told of before."""
        for key, spoken in [*self._open.items()]:
            if spoken.changed and spoken.usage is None:
                del self._open[key]
                spoken.changed = False
                if spoken.told is None:
                    self._messages.remove(spoken)
                    self._unsure += [spoken] if spoken.call_ids else []

    def _restore(self, call_id: str) -> None:
        """A call has its result now: if its message was taken out, it was whole."""
        for spoken in [spoken for spoken in self._unsure if call_id in spoken.call_ids]:
            self._unsure.remove(spoken)
            spoken.changed = True
            self._messages.append(spoken)
            self._open[spoken.ns, spoken.id] = spoken

    def _answered(self, event: ToolResult) -> list[Frame]:
        self._restore(event.call_id)
        frames = self._told(event.path)
        for (path, _), spoken in self._open.items():
            spoken.sealed = spoken.sealed or path == event.path
        about = self._about(event.path)
        output = Output(
            content=event.output,
            name=self._names.get(event.call_id),
            id=self._new_id(f"{event.call_id}-result"),
            tool_call_id=event.call_id,
            status="error" if event.is_error else "success",
        )
        self._messages.append(Raw(json.encode(output)))
        frames += [*self._updated(output, event.path), *self._values()]
        if "messages-tuple" in self._modes:
            return frames + self._frame("messages", (output, about), event.path)
        if "messages" in self._modes:
            frames += self._frame("messages/metadata", {output.id: {"metadata": about}}, event.path)
            frames += self._frame("messages/complete", (output,), event.path)
        return frames

    def _counted(self, usage: Usage) -> list[Frame]:
        """A model call is counted when it is over: it made the last message, if that has no count yet."""
        spoken = [message for message in self._messages if isinstance(message, Spoken)]
        if not spoken or spoken[-1].usage is not None:
            return []
        return self._spoken(spoken[-1], spoken[-1].count(usage))

    def _told(self, path: Path | None = None) -> list[Frame]:
        """Updates for the messages (of one sub-agent) that are whole now, and the values after them."""
        frames: list[Frame] = []
        fresh = False
        for (ns, _), spoken in self._open.items():
            if spoken.changed and path in (None, ns):
                fresh = True
                frames += self._updated(spoken.tell(), ns)
        return [*frames, *self._values()] if fresh else frames

    def _updated(self, message: Said, ns: Path) -> list[Frame]:
        node = ns[-1] if ns else self._start.agent
        return self._frame("updates", {node: {"messages": (message,)}}, ns)

    def _values(self) -> list[Frame]:
        return self._frame("values", Raw(self.values()), ()) if "values" in self._modes else []

    def _paused(self, event: Paused) -> list[Frame]:
        asked = json.encode(questions(event.interrupts))
        frames = self._frame("updates", {"__interrupt__": Raw(asked)}, ())
        if event.interrupts and "values" in self._modes:
            frames += self._frame("values", Raw(self.values()[:-1] + b',"__interrupt__":' + asked + b"}"), ())
        return frames

    def _about(self, path: Path) -> Raw:
        """Where the next message comes from."""
        start = self._start
        self._step += 1
        ns = "|".join(path) or f"{start.agent}:{start.run_id}"
        about = About(
            run_id=start.run_id,
            thread_id=start.thread_id,
            graph_id=start.agent,
            assistant_id=self._assistant_id,
            run_attempt=start.attempt,
            langgraph_node=path[-1] if path else start.agent,
            langgraph_step=self._step,
            langgraph_checkpoint_ns=ns,
            checkpoint_ns=ns,
        )
        return Raw(json.encode(about))

    def _frame(self, name: str, content: Any, ns: Path) -> list[Frame]:
        """One frame, if its mode is asked for."""
        if mode_of(name) not in self._modes:
            return []
        return [Frame(mode=name, data=Raw(json.encode(content)), ns=ns if self._subgraphs else ())]
