"""What a caller answers to the questions that a thread waits with."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.adapter import Answer, ThreadName
from proxy.errors import NotWaiting, Unprocessable
from proxy.model import Pause
from proxy.runs.agents import Agent
from proxy.runs.manager import RunManager

encode = msgspec.json.Encoder().encode


class Resumed(Struct, frozen=True, kw_only=True):
    """The pause that a run ends, and what its agent is told where it does not look that up itself."""

    pause: Pause | None = None
    answer: Answer | None = None


async def resumed(manager: RunManager, agent: Agent, thread: ThreadName, resume: Raw, *, again: bool) -> Resumed:
    """Find what `resume` answers. `again`: the request may repeat one that was obeyed.

    An agent with threads of its own may be resumed although nothing waits, which changes nothing. Raises `NotWaiting`
    for any other, and `Unprocessable` for an answer that does not say which question it is for.
    """
    pauses = await manager.pauses(thread.tenant, thread.thread_id, agent.name)
    if agent.adapter.threads is not None:
        return Resumed(pause=pauses[0] if pauses else None)
    if not pauses and again:
        pauses = await manager.pauses(thread.tenant, thread.thread_id, agent.name, answered=True)
    if not pauses:
        raise NotWaiting("This thread does not wait for an answer.", param="command.resume")
    return Resumed(pause=pauses[0], answer=answer_of(resume, pauses[0]))


def answer_of(resume: Raw, pause: Pause) -> Answer:
    """One answer to the one question, or an object of answers by the ids of the questions."""
    value = msgspec.json.decode(resume)
    calls = {call.call_id for call in pause.calls}
    asked = [*(interrupt.id for interrupt in pause.interrupts), *calls]
    if not asked:
        return Answer(text=_text(value))
    if not (isinstance(value, dict) and value and value.keys() <= set(asked)):
        if len(asked) > 1:
            names = ", ".join(f"`{id[:64]}`" for id in asked[:10])
            raise Unprocessable(
                f"`command.resume`: this thread waits for several answers; give an object of them by {names}.",
                param="command.resume",
            )
        value = {asked[0]: value}
    return Answer(
        calls={id: _text(said) for id, said in value.items() if id in calls},
        interrupts={id: Raw(encode(said)) for id, said in value.items() if id not in calls},
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()
