from __future__ import annotations

import msgspec
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.events import Cancelled, Completed, Event, Failed, TextDelta, Usage
from proxy.wire.chat import ChatEncoder, Head
from proxy.wire.chat_answer import ChatFold
from proxy.wire.group import GroupEncoder, GroupFold, Tagged
from proxy.wire.shown import Shown
from tests.wire.entries import START, log, payloads

HEAD = Head(id="chatcmpl-g", created=1, model="demo")


def tagged(*said: tuple[int, Event]) -> list[Tagged]:
    return [
        Tagged(index, entry) for (index, _), entry in zip(said, log(*(event for _, event in said))[1:], strict=True)
    ]


def encoder(*, include_usage: bool = False, chunk_pings: bool = False) -> GroupEncoder:
    choices = [ChatEncoder(HEAD, Shown(), index=i, chunk_pings=chunk_pings) for i in range(2)]
    return GroupEncoder(choices, include_usage=include_usage)


BOTH = tagged(
    (0, START),
    (1, START),
    (1, TextDelta(text="b")),
    (0, TextDelta(text="a")),
    (0, Usage(input_tokens=1)),
    (0, Completed()),
    (1, TextDelta(text="B")),
    (1, Usage(input_tokens=2)),
    (1, Completed(finish_reason="length")),
)


def test_choices_are_interleaved_by_index_and_each_has_role_and_finish() -> None:
    wire = encoder()
    chunks = [ChatCompletionChunk.model_validate(p, strict=True) for p in payloads(wire.encode(item) for item in BOTH)]
    assert [(c.choices[0].index, c.choices[0].delta.content, c.choices[0].finish_reason) for c in chunks] == [
        (0, "", None),
        (1, "", None),
        (1, "b", None),
        (0, "a", None),
        (0, None, "stop"),
        (1, "B", None),
        (1, None, "length"),
    ]
    assert wire.ended
    assert wire.end() == b"data: [DONE]\n\n"
    assert {c.id for c in chunks} == {"chatcmpl-g"}


def test_the_stream_ends_with_the_last_choice_and_one_usage_for_all() -> None:
    wire = encoder(include_usage=True)
    for item in BOTH[:-1]:
        wire.encode(item)
        assert not wire.ended
    *_, last = payloads([wire.encode(BOTH[-1])])
    assert (last["choices"], last["usage"]["prompt_tokens"]) == ([], 3)


def test_the_first_failure_ends_the_stream() -> None:
    wire = encoder()
    items = tagged((0, START), (1, Failed(code="llm_error", message="No.")), (0, TextDelta(text="late")))
    assert [p.get("error", {}).get("code") for p in payloads(wire.encode(item) for item in items)] == [
        None,
        "llm_error",
    ]
    assert wire.ended


def test_a_heartbeat_never_speaks_for_a_choice_that_has_finished() -> None:
    wire = encoder(chunk_pings=True)
    for item in tagged((0, START), (1, START), (0, Cancelled())):
        wire.encode(item)
    (ping,) = payloads([wire.heartbeat()])
    assert (ping["choices"][0]["index"], ping["choices"][0]["delta"]) == (1, {"content": ""})


def test_the_whole_answer_has_all_choices_and_one_usage() -> None:
    fold = GroupFold(HEAD, [ChatFold(HEAD, Shown(), index=i) for i in range(2)])
    for item in BOTH:
        fold.feed(item)
    whole = ChatCompletion.model_validate(msgspec.json.decode(fold.answer()), strict=True)
    assert [(c.index, c.message.content, c.finish_reason) for c in whole.choices] == [
        (0, "a", "stop"),
        (1, "bB", "length"),
    ]
    assert whole.usage
    assert whole.usage.prompt_tokens == 3


def test_one_failure_fails_the_whole_answer() -> None:
    fold = GroupFold(HEAD, [ChatFold(HEAD, Shown(), index=i) for i in range(2)])
    for item in tagged((1, Failed(code="llm_error", message="No.")), (0, Completed())):
        fold.feed(item)
    assert fold.failed
    assert fold.failed.code == "llm_error"
