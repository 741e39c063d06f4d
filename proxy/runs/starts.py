"""Where a run starts from: the state of its thread, with what the run was given."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Raw

from proxy.adapter import Command, RunInput, ThreadName
from proxy.errors import BadRequest
from proxy.events import NULL
from proxy.messages import Message
from proxy.model import Run, SavedState
from proxy.runs.teller import EMPTY, Teller, refusals
from proxy.runs.transcripts import START, Transcripts, checkpoint_id
from proxy.store.native import StateStore

encode = msgspec.json.Encoder().encode
decode_input = msgspec.json.Decoder(RunInput | None).decode


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a run makes of the state `base` before its agent begins."""

    base: SavedState | None
    values: Raw
    kind: Literal["input", "fork", "loop"] | None
    """What it is in the history: an input, the same state again, a changed one, or nothing of its own."""
    idle: bool = False
    """There is nothing to do."""


def start_of(asked: RunInput, base: SavedState | None, teller: Teller) -> Start:
    """Raises `BadRequest` for what cannot be read, and where there is nothing to go on from."""
    values = EMPTY if base is None else base.values
    with refusals():
        if asked.native is None:
            return Start(base=base, values=_followed(asked, values, teller), kind="input")
        if asked.native.command is None and asked.input != NULL:
            return Start(base=base, values=teller.apply(values, asked.input, asked.run_id), kind="input")
        return _continued(asked, base, teller)


def _followed(asked: RunInput, values: Raw, teller: Teller) -> Raw:
    """The state after a chat request: the conversation that it shows, or the state with what is new in it.

    A request that answers a question brings it all as well, unless the agent's words are missing from it.
    """
    answers = asked.answer is not None and any(message.role == "assistant" for message in asked.messages)
    if asked.fresh or answers:
        return teller.follow(values, asked.messages, asked.run_id)
    return teller.apply(values, Raw(encode({"messages": asked.messages})), asked.run_id)


def _continued(asked: RunInput, base: SavedState | None, teller: Teller) -> Start:
    """A run without an input of its own."""
    native = asked.native
    command = Command() if native is None or native.command is None else native.command
    if command.goto:
        raise BadRequest("This agent is one node: there is nothing to `goto`.")
    if base is None:
        raise BadRequest("The run has no input, and its thread is empty: there is nothing to go on from.")
    values = base.values
    if command.update != NULL:
        values = teller.apply(values, command.update, asked.run_id)
    if asked.answer is not None and asked.answer.calls:
        results = [
            Message(role="tool", tool_call_id=call_id, content=output) for call_id, output in asked.answer.calls.items()
        ]
        values = teller.apply(values, Raw(encode(results)), f"{asked.run_id}/answer")
    again = native is not None and native.command is None and checkpoint_id(native.checkpoint) is not None
    kind: Literal["fork", "loop"] | None = "fork" if again else "loop" if values is not base.values else None
    if base.next:
        return Start(base=base, values=values, kind=kind)
    return Start(base=base, values=values, kind=None if kind == "fork" else kind, idle=True)


async def base_of(asked: RunInput, newest: SavedState | None, transcripts: Transcripts) -> SavedState | None:
    """The state that a run goes on from. Raises `BadRequest` for a checkpoint that is not there."""
    native = asked.native
    if native is None or checkpoint_id(native.checkpoint) is None:
        base = newest
    else:
        base = await transcripts.place(ThreadName(tenant=asked.tenant, thread_id=asked.thread_id), native.checkpoint)
    if base is None or base.next != (START,) or native is None or (asked.input != NULL and native.command is None):
        return base
    return await _with_its_input(base, transcripts.store)


async def _with_its_input(base: SavedState, store: StateStore) -> SavedState:
    """The state behind an input's, for a run that is to take the same input again."""
    for state in await store.states(base.tenant, base.thread_id, run_id=base.run_id):
        if state.parent_id == base.checkpoint_id and state.source == "loop":
            return state
    return base


async def before(run: Run, store: StateStore, teller: Teller) -> Raw:
    """The state that a run started with, its input included: what frames that are made of it later begin with.

    Of a run whose agent keeps its state itself, the messages that it was given.
    """
    mine = (await store.states(run.tenant, run.thread_id, run_id=run.run_id))[::-1]
    if mine and mine[0].source == "fork":
        return mine[0].values
    if len(mine) > 1 and mine[0].source == "input":
        return mine[1].values
    asked = decode_input(run.input)
    base = await _before_all(run, asked, mine, store)
    if base is not None and base.run_id == run.run_id:  # it began, and left its states, between the two looks
        return await before(run, store, teller)
    values = EMPTY if base is None else base.values
    if asked is None:
        return values
    try:
        return start_of(asked, base, teller).values
    except BadRequest:
        return values


async def _before_all(run: Run, asked: RunInput | None, mine: list[SavedState], store: StateStore) -> SavedState | None:
    """The state that a run went on from; it may have left none of its own yet."""
    if run.temporary:
        return None
    native = None if asked is None else asked.native
    at = mine[0].parent_id if mine else checkpoint_id(native.checkpoint) if native is not None else None
    if at is None and mine:
        return None
    return await store.get_state(run.tenant, run.thread_id, at)
