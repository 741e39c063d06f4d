"""What an agent cannot do for a run is refused, and never passed over in silence."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.errors import Unprocessable
from proxy.events import NULL
from proxy.runs.agents import Agent
from proxy.wire.frames import MAKEABLE
from proxy.wire.langchain import messages_of
from proxy.wire.runs_body import RunCreate

END = "__end__"
"""Where a graph stops; a run may go there too."""


def check_honoured(body: RunCreate, agent: Agent) -> None:
    """Raises `Unprocessable` naming the field and the agent."""
    if body.feedback_keys:
        raise Unprocessable("`feedback_keys`: no feedback is collected here; leave it out.", param="feedback_keys")
    if agent.adapter.native:
        _check_nodes(body, agent)
    else:
        _check_modes(body, agent)
        _check_steps(body, agent)
        _check_values(body.input, "input", agent)
        if body.command is not None:
            _check_values(body.command.update, "command.update", agent)


def _check_nodes(body: RunCreate, agent: Agent) -> None:
    """A graph would pass over names that none of its nodes has."""
    nodes = None if agent.adapter.blueprint is None else agent.adapter.blueprint.nodes
    if nodes is None:
        return
    halts = {field: getattr(body, field) or () for field in ("interrupt_before", "interrupt_after")}
    named = {field: [] if asked == "*" else [*asked] for field, asked in halts.items()}
    goto = (body.command.goto if body.command else None) or ()
    targets = goto if isinstance(goto, tuple) else (goto,)
    named["command.goto"] = [target if isinstance(target, str) else target.node for target in targets]
    for field, names in named.items():
        if unknown := sorted(set(names) - nodes - {END}):
            known = ", ".join(f"`{name}`" for name in sorted(nodes)[:20])
            raise _refusal(field, f"there is no node `{unknown[0][:64]}` (there are {known}) in", agent)


def _check_modes(body: RunCreate, agent: Agent) -> None:
    unknown = sorted(body.modes - MAKEABLE)
    if unknown:
        raise _refusal("stream_mode", f"`{unknown[0]}` is not streamed by", agent)


def _check_steps(body: RunCreate, agent: Agent) -> None:
    """What only a graph has: nodes, and graphs within it."""
    for field in ("interrupt_before", "interrupt_after"):
        if getattr(body, field):
            raise _refusal(field, "there are no nodes to stop at in", agent)
    if body.command is not None and body.command.goto:
        raise _refusal("command.goto", "there are no nodes to go to in", agent)
    if body.checkpoint is not None and body.checkpoint.checkpoint_ns:
        raise _refusal("checkpoint.checkpoint_ns", "there are no sub-graphs in", agent)


def _check_values(given: Raw | UnsetType, field: str, agent: Agent) -> None:
    """The state of such an agent is a conversation."""
    if given is UNSET or given == NULL:
        return
    value = msgspec.json.decode(given)
    if isinstance(value, dict) and (others := sorted(value.keys() - {"messages"})):
        raise _refusal(f"{field}.{others[0][:64]}", "besides `messages` nothing is known to", agent)
    try:
        messages_of(given)
    except msgspec.ValidationError as error:
        raise _refusal(field, f"{error}, in what is given to", agent) from error


def _refusal(field: str, why: str, agent: Agent) -> Unprocessable:
    return Unprocessable(f"`{field}`: {why} the agent `{agent.name}`.", param=field)
