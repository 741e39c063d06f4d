"""What the demo says: rules from a conversation to the next message, in the place of a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from proxy.demo.tools import ASKED, DECLINED, NOTHING_FOUND, is_no, is_yes

ABILITIES = """\
- **Time**: “What time is it in Tokyo?”
- **Arithmetic**: “What is 17*23?”
- **This server's documentation**: “How do I cancel a run?”
- **Notes**: “Remember that the build is green.” I ask before I save one.
- **This conversation**: “What did I ask before?”"""
ABOUT = f"""\
I am the demo agent of Runwire: a LangGraph graph whose model is a script, so I need no key and no network. \
I stream, call tools and ask before I act, as an agent with a real model does. Try me:

{ABILITIES}"""
GREETING = f"Hello! I am the demo agent of Runwire. I can do this for you:\n\n{ABILITIES}"
LOST = f"{NOTHING_FOUND} I am only a script, but this I can do:\n\n{ABILITIES}"
UNASKED = "You have not asked me anything before that."

WHEN = re.compile(
    r"\bwhat time\b|\btime is it\b|\bthe (?:time|date)\s*(?:[?.!,]|$|in\b|now\b|and\b|please\b)"
    r"|\b(?:what|which) (?:day|date)\b|\btoday'?s date\b|^\W*(?:time|date|clock)(?:\W*$| in\b)",
    re.IGNORECASE,
)
WHERE = re.compile(r"\bin ([a-z][a-z_/ ]*?)(?= and\b| now\b| please\b|[?.!,]|\s*$)|\b(utc|gmt)\b", re.IGNORECASE)
SPOKEN = (
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"\b(?:the )?square root of (\d[\d.]*)", r"sqrt(\1)"),
    (r" to the power of ", " ** "),
    (r"(?<=[\d)]) squared\b", "**2"),
    (r"(?<=[\d)]) cubed\b", "**3"),
    (r"(?<=\d) ?(?:%|percent) of ", " / 100 * "),
    (r"(?<=[\d)]) ?(?:times|multiplied by|[x×]) ?(?=[\d(])", " * "),
    (r"(?<=[\d)]) ?(?:divided by|over|÷) ?(?=[\d(])", " / "),
    (r"(?<=[\d)]) plus (?=[\d(])", " + "),
    (r"(?<=[\d)]) minus (?=[\d(])", " - "),
)
ARITHMETIC = re.compile(r"(?:\b(?:abs|max|min|round|sqrt)\(|\bpi\b|[\d.,()+\-*/%^ ])+")
HAS_OPERATION = re.compile(r"[\d)] *[-+*/%^]+ *[-\d(a-z]|[a-z]\(")
NOTE = re.compile(
    r"^\W*(?:please |can you |could you )*"
    r"(?:remember|note|save|write down|(?:make|take|save) a note)\b(?: that\b| down\b| of\b| a note\b|:)*\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
NOTES = re.compile(
    r"\b(?:my|the|your|any|all|list|show|saved)(?: saved)? notes\b|^\W*notes\W*$"
    r"|\bwhat (?:did|do|have) (?:you|i|we) (?:noted?|remember|saved?)\b",
    re.IGNORECASE,
)
NAMED = re.compile(r"\b(?:my name is|call me) ([^\W\d_][\w'-]*)", re.IGNORECASE)
MY_NAME = re.compile(r"\bwhat(?:'s| is) my name\b|\bwho am i\b", re.IGNORECASE)
BEFORE = re.compile(r"\bwhat (?:did|have) i (?:just )?(?:say|said|ask|asked|tell|told)\b", re.IGNORECASE)
HELLO = re.compile(
    r"^\W*(?:hi|hello|hey|hallo|moin|good (?:morning|afternoon|evening|day))\b(?:\W+\w+){0,3}\W*$", re.IGNORECASE
)
WHO = re.compile(
    r"\b(?:who|what) are you\b|\bwhat can you\b|\bwhat do you do\b|^\W*(?:help|help me|what is this)\W*$|\babout you\b",
    re.IGNORECASE,
)
THANKS = re.compile(r"^\W*(?:thanks|thank you|thx|great|cool|nice)\b(?:\W+\w+){0,4}\W*$", re.IGNORECASE)
BYE = re.compile(r"^\W*(?:bye|goodbye|good night|see you)\b(?:\W+\w+){0,3}\W*$", re.IGNORECASE)

Conversation = Sequence[BaseMessage]
Rule = Callable[[str, Conversation], AIMessage | None]


def reply(messages: Conversation) -> AIMessage:
    """The next message: what tools found, or what a rule makes of the user's last words."""
    results = _results(messages)
    if results:
        return AIMessage("\n\n".join(LOST if text == NOTHING_FOUND else text for text in results))
    said = _said(messages)
    text = said[-1] if said else ""
    for rule in RULES:
        answer = rule(text, messages)
        if answer is not None:
            return answer
    return _calls(messages, ("search_docs", {"query": text})) if text.strip() else AIMessage(GREETING)


def consent(text: str, messages: Conversation) -> AIMessage | None:
    """The answer to a question that stands in the conversation only; on a thread it never comes this far."""
    asked = ASKED.search(_heard(messages))
    if asked and is_yes(text):
        return _calls(messages, ("save_note", {"note": asked[1]}))
    return AIMessage(DECLINED) if asked and is_no(text) else None


def small_talk(text: str, messages: Conversation) -> AIMessage | None:
    for pattern, answer in (
        (HELLO, GREETING),
        (WHO, ABOUT),
        (THANKS, "You are welcome."),
        (BYE, "Goodbye!"),
    ):
        if pattern.search(text):
            return AIMessage(answer)
    return None


def memory(text: str, messages: Conversation) -> AIMessage | None:
    """What was said before."""
    earlier = _said(messages)[:-1]
    if MY_NAME.search(text):
        names = [name for before in earlier if (name := NAMED.search(before))]
        return AIMessage(f"You are {names[-1][1]}." if names else "You have not told me your name yet.")
    if name := NAMED.search(text):
        return AIMessage(f"Nice to meet you, {name[1]}. Ask me for your name later on.")
    if BEFORE.search(text):
        return AIMessage("You said:\n\n" + "\n".join(f"- {said}" for said in earlier[-10:]) if earlier else UNASKED)
    return None


def notes(text: str, messages: Conversation) -> AIMessage | None:
    if NOTES.search(text):
        return _calls(messages, ("list_notes", {}))
    if note := NOTE.search(text):
        return _calls(messages, ("save_note", {"note": note[1].strip().rstrip(".!")}))
    return None


def facts(text: str, messages: Conversation) -> AIMessage | None:
    """Time and arithmetic; both at once, if both are asked for."""
    wanted: list[tuple[str, dict[str, Any]]] = []
    if WHEN.search(text):
        place = WHERE.search(text)
        wanted.append(("clock", {"zone": place[1] or place[2]} if place else {}))
    wanted += [("calculator", {"expression": expression}) for expression in expressions(text)]
    return _calls(messages, *wanted) if wanted else None


RULES: tuple[Rule, ...] = (consent, small_talk, memory, notes, facts)


def expressions(text: str) -> list[str]:
    """Arithmetic in a sentence: `What is 3 times (4 plus 1)?` has `3 * (4 + 1)`."""
    for spoken, written in SPOKEN:
        text = re.sub(spoken, written, text, flags=re.IGNORECASE)
    found = (match[0].strip(" .,") for match in ARITHMETIC.finditer(text))
    even = (each if each.count("(") == each.count(")") else each.strip("()") for each in found)
    return [each for each in even if HAS_OPERATION.search(each)]


def _results(messages: Conversation) -> list[str]:
    """What the tools gave that the last message asked for."""
    results: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        results.insert(0, message.text)
    return results


def _said(messages: Conversation) -> list[str]:
    return [message.text for message in messages if isinstance(message, HumanMessage)]


def _heard(messages: Conversation) -> str:
    """The last words of ours."""
    return next((message.text for message in reversed(messages) if isinstance(message, AIMessage)), "")


def _calls(messages: Conversation, *wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    calls = [
        {"name": name, "args": args, "id": f"call_{len(messages)}_{number}"}
        for number, (name, args) in enumerate(wanted)
    ]
    return AIMessage("", tool_calls=calls)
