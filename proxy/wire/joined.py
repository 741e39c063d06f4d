"""The answer to who joins a run that has ended: what its thread holds now, what it asks, or why it broke off."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from proxy.model import Thread, ThreadStatus
from proxy.wire.langgraph import Problem
from proxy.wire.waited import EMPTY, Broken

encode = msgspec.json.Encoder().encode


class Question(Struct, frozen=True):
    """One thing that a thread waits for."""

    id: str
    value: Raw


class Asking(Struct, frozen=True, rename={"asked": "__interrupt__"}):
    """Stands alone where values would."""

    asked: tuple[Question, ...]


def present(thread: Thread) -> bytes:
    """A thread that a run has left, as the official server tells of it."""
    outcome = thread.outcome
    if outcome.status is ThreadStatus.ERROR and outcome.fault is not None:
        return encode(Broken(Problem(outcome.fault.error, outcome.fault.message)))
    asked = [Question(one.id, one.value) for task in outcome.interrupts.values() for one in task]
    if asked:
        return encode(Asking(tuple(asked)))
    return EMPTY if outcome.values is None else bytes(outcome.values)
