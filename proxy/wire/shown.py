"""What a chat client is shown of a run: answer, reasoning, its own tool calls, and the agent's work as configured.

Between the neutral events and a chat-like wire: events in, pieces of text or tool calls out. Pure and stateful.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from proxy.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    Interrupt,
    Paused,
    PendingCall,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolResult,
)
from proxy.transcript import Calls, question

BREAK = "\n\n"
"""Stands between two messages of one run."""
SHOWN_OUTPUT = 2000
"""Characters of a tool's output that a details block or a narration quotes."""


class Shown(Struct, frozen=True, kw_only=True):
    """`tools` is the agent's own tool use, `reasoning` its thinking; `asked` names the tools the caller offered."""

    tools: Literal["hidden", "reasoning", "details"] = "hidden"
    reasoning: Literal["field", "think", "off"] = "field"
    interrupts: Literal["text", "tool_calls"] = "text"
    asked: frozenset[str] = frozenset()


class CallPiece(Struct, frozen=True, kw_only=True):
    """A piece of a tool call for the caller; `id` is set on the first piece of each call."""

    index: int
    id: str | None = None
    name: str = ""
    arguments: str = ""


class Piece(Struct, frozen=True, kw_only=True):
    """A piece of what a client sees: text of the answer, text of the reasoning, or a tool call."""

    text: str = ""
    reasoning: bool = False
    call: CallPiece | None = None


class Presenter:
    """Turns events into pieces."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._own = Calls()
        self._client = Calls()
        self._part: str | None = None
        self._written = False
        self._thinking = False
        self._narrated = False

    @property
    def called(self) -> bool:
        """The caller was given a tool call."""
        return bool(self._client.all())

    @property
    def plain_part(self) -> str | None:
        """The part whose further text can be shown as it is."""
        return None if self._thinking else self._part

    def pieces(self, event: Event) -> list[Piece]:
        match event:
            case TextDelta(text=text, part=part):
                return self._text(text, part) if text else []
            case ReasoningDelta(text=text):
                return self._reasoning(text) if text else []
            case ToolCallDelta():
                return self._tool_call(event)
            case ToolResult():
                return self._result(event)
            case Paused():
                return self._paused(event)
            case Completed() | Cancelled() | Failed():
                return self._close_thought()
            case _:
                return []

    def _text(self, text: str, part: str) -> list[Piece]:
        gap = BREAK if self._written and part != self._part else ""
        self._part = part
        self._written = True
        return [*self._close_thought(), Piece(text=gap + text)]

    def _reasoning(self, text: str) -> list[Piece]:
        if self._shown.reasoning == "off":
            return []
        if self._narrated:
            self._narrated = False
            text = "\n" + text
        return self._thought(text)

    def _thought(self, text: str) -> list[Piece]:
        if self._shown.reasoning != "think":
            return [Piece(text=text, reasoning=True)]
        opening = "" if self._thinking else "<think>\n"
        self._thinking = True
        return [Piece(text=opening + text)]

    def _close_thought(self) -> list[Piece]:
        if not self._thinking:
            return []
        self._thinking = False
        return [Piece(text="\n</think>\n\n")]

    def _tool_call(self, event: ToolCallDelta) -> list[Piece]:
        if not event.client:
            self._own.add(event)
            return []
        first = self._client.add(event)
        index = self._client.index(event.call_id)
        call = CallPiece(
            index=index,
            id=event.call_id if first else None,
            name=event.name if first else "",
            arguments=event.arguments,
        )
        return [*self._close_thought(), Piece(call=call)]

    def _result(self, event: ToolResult) -> list[Piece]:
        call = self._own.take(event.call_id)
        if call is None or self._shown.tools == "hidden":
            return []
        output = event.output if len(event.output) <= SHOWN_OUTPUT else event.output[:SHOWN_OUTPUT] + " …"
        if self._shown.tools == "reasoning":
            gap = "\n" if self._narrated else ""
            self._narrated = True
            return self._thought(f"{gap}{call.name}({call.arguments}) → {output}")
        self._written = True
        self._part = None
        return [*self._close_thought(), Piece(text=_details(call, output))]

    def _paused(self, event: Paused) -> list[Piece]:
        known = {call.call_id for call in self._client.all()}
        pieces = self._close_thought()
        for call in event.calls:
            if call.call_id not in known:
                pieces += self._whole(call)
        for interrupt in event.interrupts:
            call_of = call_for(interrupt, self._shown)
            pieces += self._whole(call_of) if call_of else self._text(question(interrupt.value), interrupt.id)
        return pieces

    def _whole(self, call: PendingCall) -> list[Piece]:
        return self._tool_call(
            ToolCallDelta(call_id=call.call_id, name=call.name, arguments=call.arguments, client=True)
        )


def call_for(interrupt: Interrupt, shown: Shown) -> PendingCall | None:
    """The interrupt as a tool call: if the caller offered the tool it names, or the config wants it so."""
    thing = msgspec.json.decode(interrupt.value)
    name = tool_name(thing)
    if name is None and shown.interrupts == "tool_calls":
        name = "answer"
    if name is None or (name not in shown.asked and shown.interrupts != "tool_calls"):
        return None
    arguments = thing.get("args", thing) if isinstance(thing, dict) else {"question": thing}
    return PendingCall(call_id=f"call_{interrupt.id}", name=name, arguments=msgspec.json.encode(arguments).decode())


def tool_name(thing: object) -> str | None:
    """The tool an interrupt names: `{"tool": ...}`, or LangGraph's `{"action_request": {"action": ...}}`."""
    if not isinstance(thing, dict):
        return None
    request = thing.get("action_request")
    name = request.get("action") if isinstance(request, dict) else thing.get("tool")
    return name if isinstance(name, str) and name else None


def _details(call: PendingCall, output: str) -> str:
    fenced = output.replace("```", "` ` `")
    title = call.name.replace("<", "&lt;")
    return (
        f"\n<details>\n<summary>{title}</summary>\n\n```json\n{call.arguments}\n```\n\n"
        f"```\n{fenced}\n```\n\n</details>\n\n"
    )
