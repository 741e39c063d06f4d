from __future__ import annotations

from typing import Any

import pytest

from proxy.workflows.conditions import holds, pattern
from proxy.workflows.faults import Broken
from proxy.workflows.paths import Missing, path, pointer, walk
from proxy.workflows.prompts import call
from proxy.workflows.spec import Bounds, Condition, Llm, Output, Transform
from proxy.workflows.values import Scope, digest, packed, spoken, text_of, transformed, unfenced
from tests.workflows.specs import Json, llm, plan, said, transform

VALUE = {"a": [{"b": "x"}, 2], "": 1, "a/b": 3, "m~n": 4, "0": 5, "it's": 6, "ü": 7, "x-y": 8}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", VALUE),
        ("/a/0/b", "x"),
        ("/a/1", 2),
        ("/", 1),
        ("/a~1b", 3),
        ("/m~0n", 4),
        ("/0", 5),
        ("/it's", 6),
    ],
)
def test_a_pointer_leads_where_rfc_6901_says(text: str, found: Any) -> None:
    assert walk(VALUE, pointer(text)) == found


@pytest.mark.parametrize("text", ["a", "#/a", "/a~", "/a~2", "/" * 1001])
def test_what_is_no_pointer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pointer"):
        pointer(text)


@pytest.mark.parametrize("text", ["/a/2", "/a/-", "/a/01", "/a/-1", "/a/0/b/c", "/x", "/a/" + "9" * 900])
def test_a_pointer_that_leads_nowhere_says_how_far_it_led(text: str) -> None:
    with pytest.raises(Missing, match=r"(array|object) at|neither an object nor an array") as caught:
        walk(VALUE, pointer(text))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$", VALUE),
        ("$.a[0].b", "x"),
        ("$['a'][1]", 2),
        ('$["a/b"]', 3),
        (r"$['it\'s']", 6),
        ("$.ü", 7),
        ("$.x-y", 8),
        ("$['']", 1),
    ],
)
def test_a_jsonpath_leads_to_one_place(text: str, found: Any) -> None:
    assert walk(VALUE, path(text)) == found


@pytest.mark.parametrize("text", ["", "a", "$a", "$.", "$..a", "$.*", "$[*]", "$[-1]", "$[0:1]", "$[?(@.a)]", "$.a b"])
def test_what_names_more_than_one_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        path(text)


def condition(op: str, value: Any = None, path: str = "$", source: str = "node_output") -> Condition:
    return Condition(source=source, op=op, path=path, value=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "value", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (True, True, True),
        (0, False, False),
        ("1", 1, False),
        (None, None, True),
        ({}, "", False),
        ([1], 1, False),
    ],
)
def test_values_are_equal_as_in_json(found: Any, value: Any, same: bool) -> None:
    assert holds(condition("equals", value), found) is same


def test_conditions_look_at_the_place_that_they_name() -> None:
    assert holds(None, None)
    assert holds(condition("matches", "^h.l+o$", "$.output[0].content[0].text"), said("hello"))
    assert not holds(condition("matches", "^ello", "$.output[0].content[0].text"), said("hello"))
    assert not holds(condition("matches", "1", "$.x"), {"x": 1})
    assert holds(condition("exists", None, "$.x"), {"x": False})
    assert not holds(condition("exists", None, "$.x"), {"x": None})
    assert not holds(condition("equals", None, "$.x"), {})
    assert holds(condition("equals", "succeeded", source="node_status"), {})
    assert not holds(condition("matches", "fail", source="node_status"), {})


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(x+x+)+y", "x" * 1_000_000),
        ("(a*)*b", "a" * 1_000_000),
        ("(a|aa)+$", "a" * 1_000_000 + "b"),
        ("[ab]*a[ab]{450}c", "ab" * 500_000),
        ("(a?){450}a{450}", "a" * 1_000_000),
    ],
)
def test_a_hostile_regular_expression_costs_little(expression: str, text: str) -> None:
    """An engine that goes back over the text would not come to an end here."""
    try:
        pattern(expression)
    except ValueError as error:
        assert "too large" in str(error)  # noqa: PT017
    else:
        assert holds(condition("matches", expression), text) in (True, False)


def scope(bounds: Bounds | None = None, item: tuple[Any] | None = None, **inputs: Any) -> Scope:
    found = plan(llm("a"), transform("t", object={"x": {"from": "a"}}))
    values = {"a": said("hi $1 \\1 {{task}}"), "t": {"x": [1, "ü"]}}
    nodes = {node.id: node for node in found.workflow.nodes}
    return Scope(nodes=nodes, values=values, inputs=inputs, item=item, bounds=bounds or Bounds())


def asked(user: str, **more: Any) -> str:
    return call(Llm(id="z", model="m", user=user), scope(**more)).messages[-1].text


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("{{a}}!", "hi $1 \\1 {{task}}!"),
        ("{{t}}", '{"x":[1,"ü"]}'),
        ("{{ t.x.1 }}", "ü"),
        ("{{a.usage.total_tokens}}", "5"),
        ("{{task}} {{n}} {{flag}} {{none}}", "T 1.5 true null"),
        ("{{task}}{{task}}", "TT"),
        ("{ {task} } {{ }} {{a b}} {{1}} {{a..b}}", "{ {task} } {{ }} {{a b}} {{1}} {{a..b}}"),
        ("{{{task}}}", "{T}"),
    ],
)
def test_a_placeholder_becomes_its_value_once(user: str, text: str) -> None:
    assert asked(user, task="T", n=1.5, flag=True, none=None) == text


def test_within_a_fanout_the_item_comes_before_nodes_and_nodes_before_inputs() -> None:
    assert asked("{{item}}", item=("I",), task="T") == "I"
    assert asked("{{a}}", a="input").startswith("hi")
    assert asked("{{item.0}}", item=([{"k": "v"}],)) == '{"k":"v"}'


@pytest.mark.parametrize("user", ["{{nobody}}", "{{t.y}}", "{{task.x}}"])
def test_a_placeholder_without_a_value_says_what_is_missing(user: str) -> None:
    with pytest.raises(Broken) as caught:
        asked(user, task="T")
    assert caught.value.fault.code == "missing_value"


def test_a_prompt_is_the_system_the_conversation_and_the_user() -> None:
    image = {"type": "file", "file": {"data_base64": "eA==", "mime_type": "image/png"}}
    paper = {"type": "file", "file": {"data_base64": "eA==", "mime_type": "application/pdf", "filename": "p.pdf"}}
    used = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    items: list[Json] = [
        {"type": "message", "role": "user", "content": [{"type": "text", "text": "{{task}}"}, image, paper]},
        {"role": "assistant", "tool_calls": [used]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    [node] = plan(llm("n", "Now.", system="Be {{task}}.", input=items)).workflow.nodes
    assert isinstance(node, Llm)
    system, first, second, third, last = call(node, scope(task="T")).messages
    assert (system.role, system.text, last.role, last.text) == ("system", "Be T.", "user", "Now.")
    assert isinstance(first.content, tuple)
    text, picture, file = first.content
    assert picture.image_url is not None
    assert (text.text, picture.image_url.url) == ("T", "data:image/png;base64,eA==")
    assert file.file == {"filename": "p.pdf", "file_data": "data:application/pdf;base64,eA=="}
    assert second.tool_calls is not None
    assert second.tool_calls[0].function is not None
    assert (second.content, second.tool_calls[0].function.name) == (None, "f")
    assert (third.tool_call_id, third.text) == ("c1", "done")


def test_a_call_has_its_tools_and_parameters() -> None:
    schema = {"name": "s", "schema": {"type": "object"}, "strict": True}
    tools = ["known", {"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}}]
    [node] = plan(
        llm(
            "n",
            tools=tools,
            tool_execution={"mode": "client"},
            max_output_tokens=9,
            stop=["x"],
            output_format={"type": "json_schema", "json_schema": schema},
            stream=True,
            model="m",
        )
    ).workflow.nodes
    assert isinstance(node, Llm)
    found = call(node, scope())
    assert (found.model, found.mode, found.names, found.stream) == ("m", "client", ("known",), True)
    assert found.tools[0].function is not None
    assert bytes(found.tools[0].function.parameters) == b'{"b":1,"a":2}'  # type: ignore[arg-type]
    assert found.params == {
        "max_tokens": 9,
        "stop": ["x"],
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def test_the_text_of_a_response_is_all_that_the_assistant_said() -> None:
    text = {"type": "text", "text": "a"}
    output = [{"role": "assistant", "content": [text, {"type": "file"}, text]}, {"role": "tool", "content": [text]}]
    assert text_of({"output": output}) == "aa"
    assert text_of({"output": "x"}) == text_of(None) == text_of([]) == ""


def test_a_merge_is_shallow_and_later_objects_win() -> None:
    nodes = plan(
        llm("a"),
        transform("m", merge=[{"from": "t"}, {"from": "u"}, {"from": "t", "pointer": "/n"}]),
        transform("t", object={"x": {"from": "a"}}),
        transform("u", object={"x": {"from": "a"}}),
    ).workflow.nodes
    values = {"t": {"x": {"deep": 1}, "n": {"y": 2}}, "u": {"x": {"other": 1}}}
    found = Scope(nodes={}, values=values, inputs={})
    node = nodes[1]
    assert isinstance(node, Transform)
    assert transformed(node, found) == {"x": {"other": 1}, "n": {"y": 2}, "y": 2}
    with pytest.raises(Broken, match="Only objects can be merged"):
        transformed(node, Scope(nodes={}, values={**values, "u": [1]}, inputs={}))


def test_a_digest_is_of_compact_json_in_the_order_of_the_fields() -> None:
    json = packed({"b": 1, "a": "ü"}, Bounds())
    assert json == '{"b":1,"a":"ü"}'.encode()
    assert digest(json).bytes == 16
    assert digest(b"{}").sha256 == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_the_outputs_of_a_run_are_told_to_a_session_as_text() -> None:
    outputs = (
        Output(name="x", from_="a"),
        Output(name="y", from_="t"),
        Output(name="z", from_="a", pointer="/output/0/content/0/text"),
        Output(name="n", from_="a", pointer="/usage/total_tokens"),
    )
    assert spoken(outputs, scope()) == 'hi $1 \\1 {{task}}\n{"x":[1,"ü"]}\nhi $1 \\1 {{task}}\n5'


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("```json\n[1]\n```", "[1]\n"),
        ("  ```\n[1]```\n", "[1]"),
        ("[1]", "[1]"),
        ("```", ""),
        ("Here: ```json\n[1]\n```", "Here: ```json\n[1]\n```"),
        ("```" + "\n" * 1_000_000, ""),
    ],
)
def test_json_is_read_from_between_code_fences(text: str, inner: str) -> None:
    assert unfenced(text) == inner
