from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.events import Completed, Event, Interrupt, Paused, ReasoningDelta, TextDelta, ToolResult
from proxy.wire.shown import SHOWN_OUTPUT, Presenter, Shown, call_for
from tests.wire.entries import client, own, raw


def seen(*events: Event, **shown: Any) -> tuple[str, str]:
    """The answer and the reasoning that a client would have seen."""
    presenter = Presenter(Shown(**shown))
    pieces = [piece for event in events for piece in presenter.pieces(event)]
    return (
        "".join(piece.text for piece in pieces if not piece.reasoning),
        "".join(piece.text for piece in pieces if piece.reasoning),
    )


LOOKED = (own("c", "look"), own("c", "look", '{"q":'), own("c", "look", "1}"), ToolResult(call_id="c", output="42"))
BLOCK = '<details>\n<summary>look</summary>\n\n```json\n{"q":1}\n```\n\n```\n42\n```\n\n</details>\n\n'


def test_tool_use_is_hidden_by_default() -> None:
    assert seen(TextDelta(text="a"), *LOOKED, TextDelta(text="b"), Completed()) == ("ab", "")


def test_a_narration_stands_in_the_reasoning() -> None:
    assert seen(*LOOKED, TextDelta(text="b"), tools="reasoning") == ("b", 'look({"q":1}) → 42')


def test_narrations_and_thoughts_stand_apart() -> None:
    events: list[Event] = [
        ReasoningDelta(text="I ", part="1"),
        ReasoningDelta(text="look.", part="1"),
        *LOOKED,
        *LOOKED[3:],
        ReasoningDelta(text="So.", part="2"),
        ReasoningDelta(text="Then.", part="3"),
    ]
    _, reasoning = seen(*events, tools="reasoning")
    assert reasoning == 'I look.\nlook({"q":1}) → 42\nlook({"q":1}) → 42\nSo.\n\nThen.'


def test_narrations_stand_in_the_think_block_where_thoughts_do() -> None:
    text, reasoning = seen(
        ReasoningDelta(text="Hm."), *LOOKED, TextDelta(text="b"), Completed(), tools="reasoning", reasoning="think"
    )
    assert (text, reasoning) == ('<think>\nHm.\nlook({"q":1}) → 42\n</think>\n\nb', "")


def test_reasoning_can_be_off_while_tool_use_is_told() -> None:
    assert seen(ReasoningDelta(text="secret"), *LOOKED, reasoning="off", tools="reasoning")[1] == 'look({"q":1}) → 42'


def test_details_stand_between_texts_with_one_blank_line() -> None:
    events: list[Event] = [
        TextDelta(text="a", part="1"),
        *LOOKED,
        TextDelta(text="b", part="2"),
        TextDelta(text="c", part="2"),
    ]
    assert seen(*events, tools="details") == (f"a\n\n{BLOCK}bc", "")
    assert seen(*LOOKED, *LOOKED[3:], tools="details")[0] == BLOCK * 2


def test_details_close_a_think_block_first() -> None:
    text, _ = seen(ReasoningDelta(text="hm"), *LOOKED, tools="details", reasoning="think")
    assert text == "<think>\nhm\n</think>\n\n" + BLOCK


def test_details_cannot_be_broken_out_of() -> None:
    events: list[Event] = [own("c", "</summary><b>", '"```"'), ToolResult(call_id="c", output="```\n</details>")]
    text, _ = seen(*events, tools="details")
    assert "<summary>&lt;/summary&gt;&lt;b&gt;</summary>" in text
    assert text.count("```") == 4


def test_a_long_output_is_cut() -> None:
    events: list[Event] = [own("c", "f"), ToolResult(call_id="c", output="x" * (SHOWN_OUTPUT + 1))]
    assert seen(*events, tools="reasoning")[1] == f"f() → {'x' * SHOWN_OUTPUT} …"


def test_the_result_of_an_unknown_call_is_not_shown() -> None:
    assert seen(ToolResult(call_id="?", output="x"), tools="details") == ("", "")


def test_a_client_call_closes_a_think_block() -> None:
    text, _ = seen(ReasoningDelta(text="hm"), client("c", "f"), reasoning="think")
    assert text == "<think>\nhm\n</think>\n\n"


def test_several_questions_stand_apart() -> None:
    paused = Paused(interrupts=(Interrupt(id="1", value=raw("A?")), Interrupt(id="2", value=raw({"question": "B?"}))))
    assert seen(TextDelta(text="Well."), paused)[0] == "Well.\n\nA?\n\nB?"


@pytest.mark.parametrize("value", [None, ""])
def test_a_pause_without_a_question_still_says_that_it_waits(value: str | None) -> None:
    assert seen(Paused(interrupts=(Interrupt(id="1", value=raw(value)),)))[0].startswith("The agent has paused.")


@pytest.mark.parametrize(
    ("value", "name", "arguments"),
    [
        ({"tool": "send", "args": {"to": 1}}, "send", {"to": 1}),
        ({"action_request": {"action": "send", "args": {"to": 1}}}, "send", {"to": 1}),
        ({"tool": "send", "why": 1}, "send", {"tool": "send", "why": 1}),
        ({"question": "Go?"}, "answer", {"question": "Go?"}),
        ("Go?", "answer", {"question": "Go?"}),
        ([1], "answer", {"question": [1]}),
    ],
)
def test_an_interrupt_as_a_call_has_an_object_for_arguments(value: Any, name: str, arguments: Any) -> None:
    call = call_for(Interrupt(id="i", value=raw(value)), Shown(interrupts="tool_calls"))
    assert call
    assert (call.call_id, call.name, msgspec.json.decode(call.arguments)) == ("call_i", name, arguments)


def test_an_interrupt_for_a_tool_that_was_not_offered_stays_text() -> None:
    interrupt = Interrupt(id="i", value=raw({"tool": "send"}))
    assert call_for(interrupt, Shown(asked=frozenset({"other"}))) is None
    assert call_for(interrupt, Shown(asked=frozenset({"send"}))) is not None
