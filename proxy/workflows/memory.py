"""What an engine has to remember of a run besides its log and the values of its nodes, to go on after a restart."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from proxy.events import Interrupt, PendingCall
from proxy.messages import Message
from proxy.workflow_model import TakenResult
from proxy.workflows.faults import Fault
from proxy.workflows.tasks import NodeState, Task

OUTPUTS = "$outputs"
"""The name of the outputs of a run among the values of its nodes; no node has such a name."""


class Given(Struct, frozen=True, omit_defaults=True):
    """The answer to one tool call."""

    output: str
    error: str | None = None


class Talk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation that its caller's tools take part in. Times are seconds since 1970."""

    task: Task
    since: float
    """When it began to wait."""
    step: int
    request_id: str
    calls: tuple[PendingCall, ...]
    """What the model call of this step has asked the caller."""
    answers: dict[str, Given] = {}
    """What has come and is in the log, by call."""
    unfinished: tuple[PendingCall, ...] = ()
    """Calls of the agent's own in this step that have no result yet."""
    tail: tuple[Message, ...] = ()
    """The conversation behind the prompt, up to what asks."""
    thread_id: str = ""
    """Of an agent that keeps its own state and has paused: where."""
    interrupts: tuple[Interrupt, ...] = ()
    """What else it asked; each is shown as a call."""
    made: int = 0
    """Calls of the model up to here."""

    @property
    def open(self) -> tuple[PendingCall, ...]:
        return tuple(call for call in self.calls if call.call_id not in self.answers)


class Ended(Struct, frozen=True, omit_defaults=True):
    """How a node has ended."""

    state: NodeState
    fault: Fault | None = None


class Memory(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`started` are times, `steps` the numbers of steps that have ended, `costs` by model in the prices' currency."""

    ended: dict[str, Ended] = {}
    started: dict[str, float] = {}
    talks: tuple[Talk, ...] = ()
    steps: dict[str, int] = {}
    costs: dict[str, float] = {}


pack = msgspec.json.Encoder().encode
unpack = msgspec.json.Decoder(Memory).decode
given_of = msgspec.json.Decoder(Given).decode


def item_name(task: Task) -> str:
    """The name of an item's value among those of nodes."""
    return f"{task.node}[{task.item}]"


def items_in(outputs: dict[str, bytes]) -> dict[tuple[str, int], bytes]:
    """The values of items among those of nodes."""
    found = {}
    for name, body in outputs.items():
        node, bracket, index = name.removesuffix("]").partition("[")
        if bracket:
            found[node, int(index)] = body
    return found


def fitting(results: Sequence[TakenResult], talk: Talk) -> dict[str, Given]:
    """The answers to a talk's open calls among all that were taken."""
    asked = {call.call_id for call in talk.open}
    return {
        each.call_id: given_of(each.body)
        for each in results
        if each.node_id == talk.task.node and each.step == talk.step and each.call_id in asked
    }
