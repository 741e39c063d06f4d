"""What a node's child run does, in the words of its workflow's log. Pure: events in, events out.

A step is one call of a model. It is told of once it is over: when its tools give results, when the next one begins,
or at the run's end, which alone knows why a model stopped.
"""

from __future__ import annotations

import uuid
from typing import Protocol

from msgspec import UNSET

import proxy.wire.workflow as wire
from proxy.events import Cancelled, Completed, Event, Failed, Final, PendingCall, ReasoningDelta, RunStarted, Usage
from proxy.events import TextDelta as Text
from proxy.events import ToolCallDelta as Calling
from proxy.events import ToolResult as Result
from proxy.transcript import Calls, total
from proxy.wire.workflow_parts import Call, CallName, Delta, Kind, LlmCall, Provider, Tokens, ToolCalled, ToolResult
from proxy.workflows.responses import STOP_REASONS

Words = list[wire.Event]
PROVIDER: Provider = "openai"
NAMELESS = "unknown"
"""The name of a tool that a model left out, for clients take no empty one."""


class Books(Protocol):
    """What a workflow run keeps count of."""

    def number(self, node: str) -> int:
        """The number of a node's next step."""
        ...

    def charge(self, node: str, step: int, model: str, usage: Usage) -> None:
        """A step is over."""
        ...


class Step:
    """One call of a model."""

    def __init__(self, number: int, request_id: str = "") -> None:
        self.number = number
        self.request_id = request_id or str(uuid.uuid4())
        self.pieces: list[str] = []
        self.calls = Calls()
        self.width = 0
        """Tools that it asks for."""
        self.client: set[str] = set()
        """Calls that the caller has to answer."""
        self.usage: Usage | None = None
        self.streams = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def asked(self) -> tuple[PendingCall, ...]:
        """The calls that the caller has to answer."""
        return tuple(call for call in self.calls.all() if call.call_id in self.client)


class Hearing:
    """One child run, from its first event. `run_id` is its own, `model` the name that was asked for."""

    def __init__(self, node: str, model: str, run_id: str, books: Books, *, stream: bool) -> None:
        self._node = node
        self._model = model
        self._run_id = run_id
        self._books = books
        self._stream = stream
        self._begun = False
        self._step: Step | None = None
        self._called: dict[str, Step] = {}
        self._told: Words = []
        self._usages: list[Usage] = []
        self.begun = 0
        """Calls of its model, that under way included."""
        self.last: Step | None = None
        """The step that ended last."""

    def recall(self, step: int, request_id: str, calls: tuple[PendingCall, ...]) -> None:
        """Calls of the agent's own that an earlier run of it has made, and that have no result yet."""
        made = Step(step, request_id)
        for call in calls:
            made.calls.add(Calling(call_id=call.call_id, name=call.name, arguments=call.arguments))
            self._called[call.call_id] = made

    def unfinished(self, step: Step) -> tuple[PendingCall, ...]:
        """The calls of the agent's own that a step has made, and that have no result yet."""
        return tuple(
            call for call in step.calls.all() if call.call_id not in step.client and call.call_id in self._called
        )

    @property
    def usage(self) -> Usage:
        """Of all steps that have ended."""
        return total(self._usages)

    @property
    def tools(self) -> int:
        """Tools that the step under way asks for."""
        return self._step.width if self._step is not None else 0

    def asked_in(self, call_id: str) -> Step | None:
        """The step that asked for a call, else the last one."""
        return self._called.get(call_id, self.last)

    def feed(self, event: Event) -> Words:
        """Any event but a final one."""
        match event:
            case RunStarted():
                self._begun = True
            case Text(text=text):
                step = self._current()
                step.pieces.append(text)
                self._say(step, text)
            case ReasoningDelta():
                self._current()
            case Calling():
                step = self._current()
                step.width += step.calls.add(event)
                if event.client:
                    step.client.add(event.call_id)
            case Usage():
                self._current().usage = event
            case Result():
                self._result(event)
            case _:
                pass
        return self._take()

    def finish(self, final: Final) -> Words:
        """The end of the run: what was not told of yet."""
        if self._begun and self._step is None and self.last is None:
            self._current()
        if self._step is not None:
            self._close(self._step, reason_of(final))
        return self._take()

    def _take(self) -> Words:
        told, self._told = self._told, []
        return told

    def _current(self) -> Step:
        """The step that goes on; after the count of its tokens a new one begins."""
        if self._step is not None and self._step.usage is not None:
            self._close(self._step, "tool_calls" if self._step.calls.all() else "stop")
        if self._step is None:
            self._step = Step(self._books.number(self._node))
            self.begun += 1
        return self._step

    def _say(self, step: Step, text: str) -> None:
        if not self._stream or not text:
            return
        if not step.streams:
            step.streams = True
            self._delta("message_start", response_id=self._run_id, model=self._model)
        self._delta("message_delta", text_delta=text, response_id=self._run_id)

    def _delta(self, kind: Kind, **fields: str) -> None:
        self._told.append(wire.NodeOutputDelta(node_id=self._node, delta=Delta(kind=kind, **fields)))

    def _close(self, step: Step, reason: str) -> None:
        if step.streams:
            self._delta("message_stop", response_id=self._run_id)
        usage = step.usage or Usage()
        model = (usage.model or self._model)[:128]
        self._books.charge(self._node, step.number, model, usage)
        self._usages.append(usage)
        call = LlmCall(
            step=step.number,
            request_id=step.request_id,
            provider=PROVIDER,
            model=model,
            response_id=self._run_id,
            stop_reason=reason,
            usage=UNSET if step.usage is None else tokens(step.usage),
        )
        self._told.append(wire.NodeLlmCall(node_id=self._node, llm_call=call))
        for each in step.calls.all():
            self._called[each.call_id] = step
            called = ToolCalled(step=step.number, request_id=step.request_id, tool_call=called_of(each))
            self._told.append(wire.NodeToolCall(node_id=self._node, tool_call=called))
        self._step, self.last = None, step

    def _result(self, event: Result) -> None:
        """A tool of the agent's own has given something."""
        if self._step is not None:
            self._close(self._step, "tool_calls" if self._step.calls.all() else "stop")
        step = self._called.pop(event.call_id, None)
        call = None if step is None else step.calls.take(event.call_id)
        if step is None or call is None:
            return
        result = ToolResult(
            step=step.number,
            request_id=step.request_id,
            tool_call=CallName(id=call.call_id, name=call.name or NAMELESS, arguments=call.arguments),
            output=event.output,
            error=event.output or "The tool failed." if event.is_error else UNSET,
        )
        self._told.append(wire.NodeToolResult(node_id=self._node, tool_result=result))


def tokens(usage: Usage) -> Tokens:
    return Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
    )


def called_of(call: PendingCall) -> Call:
    return Call(id=call.call_id, name=call.name or NAMELESS, arguments=call.arguments)


def reason_of(final: Final) -> str:
    """Why a model stopped, in the words of responses."""
    match final:
        case Completed(finish_reason=reason):
            return STOP_REASONS.get(reason, reason)
        case Failed():
            return "error"
        case Cancelled():
            return "canceled"
    return "tool_calls"
