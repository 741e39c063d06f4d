"""What a chat client is shown of a run: answer, reasoning, its own tool calls, and the agent's work as configured.

Between the neutral events and a chat-like wire: events in, pieces of text or tool calls out. Pure and stateful.
"""

from __future__ import annotations

import html
from typing import Any, Literal

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
NARRATED = "\0narrated"
"""Stands for a narration where a thought would have its part."""


class Shown(Struct, frozen=True, kw_only=True):
    """`tools` is the agent's own tool use, `reasoning` its thinking; `asked` names the tools the caller offered."""

    tools: Literal["hidden", "reasoning", "details"] = "hidden"
    reasoning: Literal["field", "reasoning", "think", "off"] = "field"
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
        self._aside: str | None = None
        """The part of the last thought, or `NARRATED`; None where the reasoning has nothing to set itself off from."""

    @property
    def calls(self) -> tuple[PendingCall, ...]:
        """The tool calls that the caller was given, as far as they have come."""
        return self._client.all()

    @property
    def plain_part(self) -> str | None:
        """The part whose further text can be shown as it is."""
        return None if self._thinking else self._part

    def pieces(self, event: Event) -> list[Piece]:
        match event:
            case TextDelta(text=text, part=part):
                return self._text(text, part) if text else []
            case ReasoningDelta(text=text, part=part):
                return self._reasoning(text, part) if text else []
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
        closing = self._close_thought()
        gap = BREAK if self._written and part != self._part else ""
        self._part = part
        self._written = True
        return [*closing, Piece(text=gap + text)]

    def _reasoning(self, text: str, part: str) -> list[Piece]:
        if self._shown.reasoning == "off":
            return []
        gap = "" if self._aside in (None, part) else "\n" if self._aside == NARRATED else BREAK
        self._aside = part
        return self._thought(gap + text)

    def _narrated(self, call: PendingCall, output: str) -> list[Piece]:
        gap = "" if self._aside is None else "\n"
        self._aside = NARRATED
        return self._thought(f"{gap}{call.name}({call.arguments}) → {output}")

    def _thought(self, text: str) -> list[Piece]:
        if self._shown.reasoning != "think":
            return [Piece(text=text, reasoning=True)]
        opening = "" if self._thinking else self._gap() + "<think>\n"
        self._thinking = True
        return [Piece(text=opening + text)]

    def _close_thought(self) -> list[Piece]:
        if not self._thinking:
            return []
        self._thinking = self._written = False
        self._aside = None
        return [Piece(text="\n</think>\n\n")]

    def _gap(self) -> str:
        return BREAK if self._written else ""

    def _tool_call(self, event: ToolCallDelta) -> list[Piece]:
        if not event.client:
            self._own.add(event)
            return []
        first = self._client.add(event)
        if not first and not event.arguments:
            return []
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
            return self._narrated(call, output)
        closing = self._close_thought()
        block = self._gap() + _details(call, output)
        self._part, self._written = None, False
        return [*closing, Piece(text=block)]

    def _paused(self, event: Paused) -> list[Piece]:
        known = {call.call_id for call in self.calls}
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
    name, arguments = tool_of(thing)
    if shown.interrupts == "text" and name not in shown.asked:
        return None
    return PendingCall(
        call_id=f"call_{interrupt.id}", name=name or "answer", arguments=msgspec.json.encode(arguments).decode()
    )


def tool_of(thing: object) -> tuple[str | None, dict[str, Any]]:
    """The tool an interrupt names, with its arguments: `{"tool": ..., "args": ...}`, or LangGraph's
    `{"action_request": {"action": ..., "args": ...}}`. Without a name, the arguments are all that was asked."""
    if not isinstance(thing, dict):
        return None, {"question": thing}
    request = thing.get("action_request")
    named, key = (request, "action") if isinstance(request, dict) else (thing, "tool")
    name, arguments = named.get(key), named.get("args")
    if not isinstance(name, str) or not name:
        return None, thing
    return name, arguments if isinstance(arguments, dict) else thing


def _details(call: PendingCall, output: str) -> str:
    return (
        f"<details>\n<summary>{html.escape(call.name, quote=False)}</summary>\n\n"
        f"```json\n{_fenced(call.arguments)}\n```\n\n```\n{_fenced(output)}\n```\n\n</details>\n\n"
    )


def _fenced(text: str) -> str:
    """Text that cannot close the fence around it."""
    return text.replace("```", "` ` `")
