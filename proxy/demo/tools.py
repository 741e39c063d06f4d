"""What the demo agents can do: tell the time, calculate, search the documentation, and keep notes once you agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.prebuilt import InjectedState, ToolRuntime
from langgraph.types import Command, interrupt

from proxy.demo.calculator import CannotCalculate, calculate, shown
from proxy.demo.library import library

ASKED = re.compile(r"Shall I save the note “(.+)”\? \(yes/no\)", re.DOTALL)
SAVED = "Noted: "
DECLINED = "All right, nothing was saved."
NO_NOTES = "There are no notes yet. Say “remember that ...” to save one."
NOTHING_FOUND = "I found nothing about that in the documentation."
YES = frozenset(["yes", "y", "yeah", "yep", "sure", "ok", "okay", "please", "do", "true", "go", "ja", "oui"])
NO = frozenset(["no", "n", "nope", "never", "not", "stop", "cancel", "false", "nein", "non", "don", "dont"])


@tool
async def clock(zone: str = "") -> str:
    """The date and time now, in a zone such as Europe/Berlin or in a city such as Tokyo; by default the server's."""
    now = datetime.now(_zone(zone)) if zone else datetime.now().astimezone()
    return f"It is {now:%H:%M} on {now:%A}, {now.day} {now:%B %Y} ({now:%Z})."


@tool
async def calculator(expression: str) -> str:
    """Calculate: numbers, + - * / // % **, parentheses, abs, max, min, round, sqrt, pi, e."""
    try:
        return f"{expression} = {shown(calculate(expression))}"
    except CannotCalculate as error:
        raise ToolException(str(error)) from error


@tool
async def search_docs(query: str) -> str:
    """Search the documentation of Runwire, the server that you run on."""
    found = library().search(query)
    return "\n\n".join(f"**{hit.title}** ({hit.file})\n\n{hit.excerpt}" for hit in found) or NOTHING_FOUND


@tool
async def save_note(note: str, runtime: ToolRuntime) -> Command[Any]:
    """Save a note in this conversation. The user is asked first."""
    asked = question(note)
    call = str(runtime.tool_call_id)
    if agreed(asked, runtime.state["messages"]) or is_yes(interrupt({"question": asked})):
        return Command(update={"notes": [note], "messages": [ToolMessage(SAVED + note, tool_call_id=call)]})
    return Command(update={"messages": [ToolMessage(DECLINED, tool_call_id=call)]})


@tool
async def list_notes(state: Annotated[dict[str, Any], InjectedState]) -> str:
    """The notes that were saved in this conversation."""
    notes = state.get("notes") or told(state["messages"])
    return "\n".join(f"- {note}" for note in notes) or NO_NOTES


TOOLS: tuple[BaseTool, ...] = (clock, calculator, search_docs, save_note, list_notes)


def explained(error: ToolException) -> str:
    """What the model is told of a tool's failure; other exceptions are bugs and end the run."""
    return str(error)


def question(note: str) -> str:
    return f"Shall I save the note “{note}”? (yes/no)"


def agreed(asked: str, messages: Sequence[BaseMessage]) -> bool:
    """Whether the user said yes to this very question just now.

    A client without a thread id cannot answer an interrupt: it sends the question and the answer as a conversation.
    """
    spoken = [message for message in messages if isinstance(message, AIMessage | HumanMessage) and message.text]
    said = next((at for at in reversed(range(len(spoken))) if isinstance(spoken[at], HumanMessage)), 0)
    return said > 0 and asked in spoken[said - 1].text and is_yes(spoken[said].text)


def told(messages: Sequence[BaseMessage]) -> list[str]:
    """Notes that only the conversation tells of, where a client sends it anew each time."""
    texts = [message.text for message in messages if isinstance(message, AIMessage)]
    return [text.removeprefix(SAVED) for text in texts if text.startswith(SAVED)]


def is_yes(answer: object) -> bool:
    """Whether an answer, in free text or as JSON, agrees; in doubt it does not."""
    if isinstance(answer, dict):
        return any(is_yes(value) for value in answer.values())
    said = re.findall(r"[a-z]+", str(answer).lower())
    return bool(said) and said[0] in YES and NO.isdisjoint(said)


def is_no(answer: str) -> bool:
    said = re.findall(r"[a-z]+", answer.lower())
    return bool(said) and said[0] in NO


def _zone(name: str) -> ZoneInfo:
    key = name.strip().lower().replace(" ", "_")
    found = _zones().get(key)
    if found is None:
        raise ToolException(f"I know no time zone “{name}”. Try one such as Europe/Berlin, or a large city.")
    return ZoneInfo(found)


@cache
def _zones() -> dict[str, str]:
    """Time zones by their whole name and by their city, in lower case."""
    names = sorted(available_timezones())
    cities = {name.rpartition("/")[2].lower(): name for name in names}
    return cities | {name.lower(): name for name in names}
