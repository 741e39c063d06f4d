"""The agents we ship: the demo graph by itself and as it is served, and the functions it is made of."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from adapters.langgraph import LangGraphAdapter
from adapters.langgraph.options import GraphOptions
from adapters.plain import Request
from proxy import config
from proxy.adapter import Answer, RunInput, Site
from proxy.demo.assistant import make_graph
from proxy.demo.echo import echo
from proxy.demo.model import ScriptedChatModel
from proxy.demo.replies import expressions, reply
from proxy.demo.tools import DECLINED, NO_NOTES, NOTHING_FOUND, TOOLS, agreed, is_no, is_yes, question
from proxy.events import Completed, Event, Paused, TextDelta, ToolCallDelta, ToolResult, Usage
from proxy.messages import Message
from tests.fakes.upstream import Upstream

needs_zones = pytest.mark.skipif(not available_timezones(), reason="no time zone database on this machine")
ROOT = Path(__file__).parents[2]
GREEN = "remember that the build is green"
ASKED = question("the build is green")


class Talk:
    """A conversation with the demo on a thread of its own."""

    def __init__(self) -> None:
        self.graph = make_graph(pace=0).copy({"checkpointer": InMemorySaver()})
        self.config: Any = {"configurable": {"thread_id": "t"}}
        self.state: dict[str, Any] = {}

    def say(self, *texts: str) -> str:
        """The answer to the last of the user's `texts`."""
        for text in texts:
            self.go({"messages": [HumanMessage(text)]})
        return self.answer

    def answered(self, answer: object) -> str:
        self.go(Command(resume=answer))
        return self.answer

    @property
    def answer(self) -> str:
        last: BaseMessage = self.state["messages"][-1]
        return last.text if isinstance(last, AIMessage) else ""

    @property
    def asked(self) -> list[Any]:
        return [interrupt.value for interrupt in self.state.get("__interrupt__", ())]

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        messages: Sequence[BaseMessage] = self.state["messages"]
        told = [message for message in messages if isinstance(message, AIMessage)]
        return [(call["name"], call["args"]) for message in told for call in message.tool_calls]

    def go(self, given: Any) -> None:
        self.state = asyncio.run(self.graph.ainvoke(given, self.config))


@pytest.mark.parametrize("text", ["hi", "Hello there!", "good morning", ""])
def test_it_greets_and_says_what_it_can(text: str) -> None:
    assert re.match(r"Hello!.*Time.*Arithmetic.*documentation.*Notes", Talk().say(text), re.DOTALL)


@pytest.mark.parametrize("text", ["Who are you?", "what can you do for me?", "help"])
def test_it_explains_itself(text: str) -> None:
    answer = Talk().say(text)
    assert "demo agent of Runwire" in answer
    assert "no key" in answer


@needs_zones
@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("what time is it?", {}),
        ("What's the date?", {}),
        ("what time is it in Tokyo?", {"zone": "Tokyo"}),
        ("the time in new york please", {"zone": "new york"}),
        ("time in UTC", {"zone": "UTC"}),
    ],
)
def test_it_tells_the_time(text: str, zone: dict[str, str]) -> None:
    talk = Talk()
    assert re.fullmatch(r"It is \d\d:\d\d on \w+, \d+ \w+ \d{4} \(.+\)\.", talk.say(text))
    assert talk.calls == [("clock", zone)]


def test_a_place_it_does_not_know_is_said_so() -> None:
    assert "I know no time zone “Atlantis”" in Talk().say("what time is it in Atlantis?")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("what is 17*23?", "17*23 = 391"),
        ("17 times 23", "17 * 23 = 391"),
        ("(2+3) * 4", "(2+3) * 4 = 20"),
        ("what's the square root of 16 plus 1.5", "sqrt(16) + 1.5 = 5.5"),
        ("How much is 15% of 80?", "15 / 100 * 80 = 12"),
        ("what is 1,000 divided by 8", "1000 / 8 = 125"),
        ("1/0", "That divides by zero."),
        ("2**99999", "The result is too large."),
    ],
)
def test_it_calculates(text: str, answer: str) -> None:
    assert Talk().say(text) == answer


@needs_zones
def test_it_uses_two_tools_at_once() -> None:
    talk = Talk()
    assert "(UTC)" in talk.say("what time is it in UTC and what is 2+2?")
    assert talk.answer.endswith("2+2 = 4")
    assert talk.calls == [("clock", {"zone": "UTC"}), ("calculator", {"expression": "2+2"})]


@pytest.mark.parametrize("text", ["What is the time limit of a run?", "how many runs in 24 hours", "see 2 or 3 agents"])
def test_numbers_and_times_in_other_questions_are_left_alone(text: str) -> None:
    talk = Talk()
    talk.say(text)
    assert talk.calls == [("search_docs", {"query": text})]


def test_it_answers_from_the_documentation() -> None:
    answer = Talk().say("How do I cancel a run?")
    assert ".md)" in answer
    assert "/cancel" in answer


def test_what_it_cannot_answer_gets_a_way_on() -> None:
    answer = Talk().say("qwertz asdfgh")
    assert answer.startswith(NOTHING_FOUND)
    assert "What is 17*23?" in answer


def test_a_note_is_saved_only_after_a_yes() -> None:
    talk = Talk()
    talk.say(GREEN)
    assert talk.asked == [{"question": ASKED}]
    assert talk.state["notes"] == []
    assert talk.answered("yes, please") == "Noted: the build is green"
    assert talk.state["notes"] == ["the build is green"]
    assert talk.say("what did you note?") == "- the build is green"


@pytest.mark.parametrize("answer", ["no", "what time is it?", {"answer": "no"}, False])
def test_anything_but_a_yes_saves_nothing(answer: object) -> None:
    talk = Talk()
    talk.say(GREEN)
    assert talk.answered(answer) == DECLINED
    assert talk.state["notes"] == []
    assert talk.say("my notes") == NO_NOTES


def test_without_a_thread_the_conversation_carries_question_and_consent() -> None:
    told = [HumanMessage(GREEN), AIMessage(ASKED)]
    talk = Talk()
    talk.go({"messages": [*told, HumanMessage("yes")]})
    assert (talk.asked, talk.answer) == ([], "Noted: the build is green")
    talk = Talk()
    talk.go({"messages": [*told, HumanMessage("yes"), AIMessage("Noted: a"), HumanMessage("my notes")]})
    assert talk.answer == "- a"
    talk = Talk()
    talk.go({"messages": [*told, HumanMessage("no")]})
    assert (talk.calls, talk.answer) == ([], DECLINED)


def test_consent_is_for_the_note_that_was_asked_about() -> None:
    yes = [HumanMessage("remember a"), AIMessage(question("a")), HumanMessage("yes")]
    assert agreed(question("a"), yes)
    assert not agreed(question("b"), yes)
    assert not agreed(question("a"), yes[:2])
    assert not agreed(question("a"), [*yes, AIMessage("Noted: a"), HumanMessage("yes")])


@pytest.mark.parametrize("answer", ["yes", "Yes, please!", "ok", "do it", "y", True, {"answer": "yes"}])
def test_these_agree(answer: object) -> None:
    assert is_yes(answer)


@pytest.mark.parametrize("answer", ["no", "yes, no, wait", "please don't", "not now", "", "yesterday", 7, None, {}])
def test_these_do_not_agree(answer: object) -> None:
    assert not is_yes(answer)


def test_a_no_is_told_from_another_question() -> None:
    assert is_no("no thanks")
    assert not is_no("what time is it?")


def test_it_remembers_the_conversation() -> None:
    talk = Talk()
    assert "Ada" in talk.say("what is 1+1?", "my name is Ada")
    assert talk.say("what is my name?") == "You are Ada."
    assert "- what is 1+1?\n- my name is Ada" in talk.say("what did I ask before?")
    assert "not told me" in Talk().say("who am I?")
    assert "not asked" in Talk().say("what did I ask before?")


def test_it_is_polite() -> None:
    assert Talk().say("thank you very much!") == "You are welcome."
    assert Talk().say("bye") == "Goodbye!"


def test_it_streams_word_by_word_with_usage() -> None:
    async def chunks(text: str) -> list[AIMessageChunk]:
        parts = make_graph(pace=0).astream({"messages": [HumanMessage(text)]}, stream_mode="messages")
        return [part async for part, _ in parts if isinstance(part, AIMessageChunk)]

    seen = asyncio.run(chunks("thanks"))
    assert [chunk.text for chunk in seen if chunk.text] == ["You ", "are ", "welcome."]
    assert [chunk.usage_metadata for chunk in seen if chunk.usage_metadata] == [
        {"input_tokens": 1, "output_tokens": 3, "total_tokens": 4}
    ]
    call = [chunk for chunk in asyncio.run(chunks("what is 2 + 2?")) if chunk.tool_call_chunks]
    assert "".join(chunk.tool_call_chunks[0]["args"] or "" for chunk in call) == '{"expression": "2 + 2"}'


def test_it_answers_without_streaming_too() -> None:
    message = ScriptedChatModel(reply=reply).invoke([HumanMessage("thanks")])
    assert message.text == "You are welcome."
    assert message.usage_metadata == {"input_tokens": 1, "output_tokens": 3, "total_tokens": 4}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("what is 3 times (4 plus 1)?", ["3 * (4 + 1)"]),
        ("(what is 2+2)", ["2+2"]),
        ("it was 1999, then 2026.", []),
        ("5 squared", ["5**2"]),
        ("is max(1, 2) it?", ["max(1, 2)"]),
    ],
)
def test_arithmetic_is_found_in_sentences(text: str, found: list[str]) -> None:
    assert expressions(text) == found


def test_echo_gives_every_word_back() -> None:
    async def said(text: str) -> list[str]:
        return [word async for word in echo(Request(text=text))]

    assert asyncio.run(said("Hello there,\n friend")) == ["Hello ", "there,\n ", "friend"]
    assert asyncio.run(said(" ")) == ["Say something, and I say it back."]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> LangGraphAdapter:
    settings = config.load(ROOT / "config.yaml")
    options = GraphOptions(**settings.agents["demo"].options)
    folder = tmp_path_factory.mktemp("demo")
    adapter = LangGraphAdapter(options, Site(agent="demo", folder=folder, state="memory://"))
    asyncio.run(adapter.open())
    return adapter


def events(adapter: LangGraphAdapter, text: str, *, answer: Answer | None = None, fresh: bool = True) -> list[Event]:
    given = RunInput(
        run_id=f"run-{text}",
        thread_id="thread",
        agent="demo",
        messages=(Message(role="user", content=text),),
        answer=answer,
        fresh=fresh,
    )

    async def read() -> list[Event]:
        async with aclosing(adapter.stream(given)) as stream:
            return [event async for event in stream]

    return asyncio.run(read())


def spoken(seen: list[Event]) -> str:
    return "".join(event.text for event in seen if isinstance(event, TextDelta))


def test_the_shipped_config_serves_the_demo(served: LangGraphAdapter) -> None:
    seen = events(served, "what is 17*23?")
    calls = [event for event in seen if isinstance(event, ToolCallDelta)]
    assert spoken(seen) == "17*23 = 391"
    assert {(call.call_id, call.name, call.client) for call in calls} == {(calls[0].call_id, "calculator", False)}
    assert [event.output for event in seen if isinstance(event, ToolResult)] == ["17*23 = 391"]
    assert [event.model for event in seen if isinstance(event, Usage)] == ["demo-script", "demo-script"]
    assert seen[-1] == Completed()


def test_the_served_demo_asks_and_goes_on_after_the_answer(served: LangGraphAdapter) -> None:
    final = events(served, GREEN)[-1]
    assert isinstance(final, Paused)
    assert ASKED in bytes(final.interrupts[0].value).decode()
    assert spoken(events(served, "yes", answer=Answer(text="yes"), fresh=False)) == "Noted: the build is green"
    assert spoken(events(served, "what are my notes?", fresh=False)) == "- the build is green"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as mock:
        yield mock


@pytest.fixture
def assistant(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LangGraphAdapter:
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
    monkeypatch.setenv("OPENAI_MODEL", "org/small")
    options = GraphOptions(**config.load(ROOT / "config.yaml").agents["assistant"].options)
    adapter = LangGraphAdapter(options, Site(agent="assistant", folder=tmp_path, state="memory://"))
    asyncio.run(adapter.open())
    return adapter


def test_without_a_key_there_is_no_assistant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert sorted(config.load(ROOT / "config.yaml").agents) == ["demo", "echo"]


def test_the_assistant_asks_the_model_that_the_environment_names(
    assistant: LangGraphAdapter, upstream: Upstream
) -> None:
    assert spoken(events(assistant, "hello")) == "You said: hello "
    [request] = upstream.requests
    assert request.headers["authorization"] == "Bearer sk-of-the-test"
    assert request.json["model"] == "org/small"
    assert [tool["function"]["name"] for tool in request.json["tools"]] == [tool.name for tool in TOOLS]


def test_the_assistant_uses_the_tools_its_model_calls(assistant: LangGraphAdapter, upstream: Upstream) -> None:
    seen = events(assistant, "tool please")
    assert [event.output[:5] for event in seen if isinstance(event, ToolResult)] == ["It is"]
    assert [event.output_tokens for event in seen if isinstance(event, Usage)] == [7, 7]
    assert [message["role"] for message in upstream.requests[-1].json["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
