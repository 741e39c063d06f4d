from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest

from proxy.workflows.compile import compile_workflow, load
from tests.workflows.faulty import EACH
from tests.workflows.specs import Json, fanout, faults, issues, join, llm, plan, spec, transform


@pytest.mark.parametrize(("code", "path", "document"), EACH, ids=[f"{code}-{path}" for code, path, _ in EACH])
def test_each_fault_has_its_code_and_place_and_is_the_only_one(code: str, path: str, document: Json) -> None:
    assert faults(document) == [(code, path)]


@pytest.mark.parametrize(
    ("predicate", "place"),
    [
        ({}, ".source"),
        ({"source": "node_output"}, ".op"),
        ({"source": "output", "op": "exists"}, ".source"),
        ({"source": "node_output", "op": "is"}, ".op"),
        ({"source": "node_output", "op": "exists", "path": "output"}, ".path"),
        ({"source": "node_output", "op": "exists", "path": "$..x"}, ".path"),
        ({"source": "node_output", "op": "exists", "path": "$.x[*]"}, ".path"),
        ({"source": "node_output", "op": "exists", "path": "$[-1]"}, ".path"),
        ({"source": "node_output", "op": "exists", "path": "$.a[?(@.b)]"}, ".path"),
        ({"source": "node_output", "op": "exists", "value": 1}, ".value"),
        ({"source": "node_output", "op": "equals", "value": {}}, ".value"),
        ({"source": "node_output", "op": "matches"}, ".value"),
        ({"source": "node_output", "op": "matches", "value": "("}, ".value"),
        ({"source": "node_output", "op": "matches", "value": r"(a)\1"}, ".value"),
        ({"source": "node_output", "op": "matches", "value": "(((a{50}){50}){50})"}, ".value"),
        ({"source": "node_output", "op": "matches", "value": "(a{1,40}){1,40}"}, ".value"),
        ({"source": "node_output", "op": "matches", "value": "a" * 501}, ".value"),
        ({"source": "node_status", "op": "equals", "path": "$.x", "value": "succeeded"}, ".path"),
    ],
)
def test_conditions_that_cannot_be_checked_are_refused(predicate: Json, place: str) -> None:
    found = faults(spec(llm("a"), join("any", "j", "a", predicate=predicate)))
    assert ("invalid_condition", f"$.nodes[1].predicate{place}") in found
    assert {code for code, _ in found} == {"invalid_condition"}


@pytest.mark.parametrize("name", ["A", "1a", "a-b", "a b", "ä", "a" * 65, "_a", "a\n"])
def test_ids_that_a_client_could_not_read_are_refused(name: str) -> None:
    assert ("invalid_node_id", "$.nodes[0].id") in faults(spec(llm(name)))


@pytest.mark.parametrize("name", ["a", "a1_b", "a" * 64])
def test_other_ids_are_not(name: str) -> None:
    assert plan(llm(name)).order == (name,)


def test_all_faults_are_told_at_once_in_the_order_of_the_document() -> None:
    document = {
        "kind": "workflow",
        "nodes": [
            llm("A", retry={"max_attempts": 0}, model="m"),
            {"id": "b", "type": "nothing"},
            llm("c", depends_on=["b", "x"], model="m", usr="x"),
        ],
        "outputs": [{"name": "o", "from": "b", "pointer": "x"}, {"name": "o", "from": "z"}],
    }
    assert faults(document) == [
        ("invalid_node_id", "$.nodes[0].id"),
        ("invalid_limit", "$.nodes[0].retry.max_attempts"),
        ("unknown_node_type", "$.nodes[1].type"),
        ("unknown_node", "$.nodes[2].depends_on[1]"),
        ("unknown_field", "$.nodes[2].usr"),
        ("invalid_pointer", "$.outputs[0].pointer"),
        ("duplicate_output", "$.outputs[1].name"),
    ]


def test_messages_name_the_cure() -> None:
    [typo] = issues(spec(llm("a", sytem="x")))
    assert typo.message == "there is no field `sytem` here; did you mean `system`?"
    [type_] = issues(spec({"id": "a", "type": "join.al", "depends_on": []}))
    assert "did you mean `join.all`?" in type_.message
    [place] = issues(spec(llm("a"), join("all", "j", "a", limit=1)))
    assert place.message == "`limit` belongs to join.collect nodes; take it out"
    [compiled] = issues({"kind": "workflow.v1", "nodes": [{"id": "a", "type": "llm.responses"}]})
    assert compiled.message == '`kind` must be "workflow"; the compiled form is not taken here'


@pytest.mark.parametrize(
    ("nodes", "circles"),
    [
        ([llm("a", "{{b}}"), llm("b", "{{a}}")], ["a needs b needs a"]),
        ([llm("z", "{{c}}"), llm("a", "{{b}}"), llm("b", "{{c}}"), llm("c", "{{a}}")], ["a needs b needs c needs a"]),
        (
            [llm("a", "{{b}}"), llm("b", "{{a}}"), llm("c", "{{d}} {{a}}"), llm("d", "{{c}}"), llm("e", "{{d}}")],
            ["a needs b needs a", "c needs d needs c"],
        ),
        ([fanout("f", llm("s", "{{item}} {{t}}"), items_from_input="x"), join("all", "t", "f")], ["f needs t needs f"]),
        ([transform("t", object={"x": {"from": "u"}}), transform("u", merge=[{"from": "t"}])], ["t needs u needs t"]),
    ],
)
def test_each_circle_is_told_of_once_by_what_is_in_it(nodes: list[Json], circles: list[str]) -> None:
    found = issues(spec(*nodes))
    assert [each.code for each in found] == ["cycle"] * len(circles)
    assert [each.message.split(": ")[1].split(";")[0] for each in found] == circles


def test_a_node_needs_all_that_its_parts_name() -> None:
    found = plan(
        llm("a"),
        llm("b", "x", system="{{a}}"),
        llm(
            "c",
            "",
            input=[{"type": "message", "role": "user", "content": [{"type": "text", "text": "{{ b }}{{task}}"}]}],
        ),
        fanout("f", llm("s", "{{item}} {{c}} {{item.b}}", depends_on=["a"]), items_from="b"),
        transform("t", object={"x": {"from": "f", "pointer": "/results"}}),
        join("all", "j", "t", "a", "t"),
        outputs={"o": "j"},
    )
    needs = {node.id: node.depends_on for node in found.workflow.nodes}
    assert needs == {"a": (), "b": ("a",), "c": ("b",), "f": ("a", "b", "c"), "t": ("f",), "j": ("t", "a")}
    assert found.order == ("a", "b", "c", "f", "t", "j")


def test_a_plan_is_its_json_and_compiles_to_itself() -> None:
    found = plan(
        llm("a", tools=["t", {"type": "function", "function": {"name": "f"}}], tool_execution={"mode": "client"}),
        fanout("f", llm("s", retry={"backoff_ms": 0}), items_from="a", items_pointer="", items_path="$.x"),
        join("collect", "j", "f", predicate={"source": "node_output", "op": "equals", "value": False}, limit=1),
        inputs=[{"name": "x", "default": [1]}],
    )
    assert load(found.json) == found
    assert compile_workflow(json.loads(found.json)) == found
    assert b"null" not in found.json


SOUND = spec(
    llm("a", "{{x}}", retry={"max_attempts": 2}), llm("b", "{{a}}"), inputs=[{"name": "x", "type": "string"}], name="n"
)


def shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict):
        names = dice.sample(list(value), len(value))
        return {name: shuffled(value[name], dice) for name in names}
    return [shuffled(each, dice) for each in value] if isinstance(value, list) else value


def test_the_hash_is_of_the_canonical_json_and_stays() -> None:
    found = compile_workflow(SOUND)
    canonical = (
        '{"inputs":[{"name":"x","type":"string"}],"kind":"workflow","model":"demo","name":"n","nodes":['
        '{"id":"a","retry":{"max_attempts":2},"type":"llm","user":"{{x}}"},'
        '{"depends_on":["a"],"id":"b","type":"llm","user":"{{a}}"}],"outputs":[{"from":"b","name":"result"}]}'
    )
    assert found.hash == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda document: shuffled(document, random.Random(1)),
        lambda document: {**document, "max_parallelism": None},
        lambda document: {**document, "nodes": [{**node, "depends_on": []} for node in document["nodes"]]},
        lambda document: {
            **document,
            "nodes": [{"retry": {"max_attempts": 1}, **node, "stream": False} for node in document["nodes"]],
        },
        lambda document: {**document, "nodes": [document["nodes"][0], {**document["nodes"][1], "depends_on": ["a"]}]},
    ],
)
def test_what_means_the_same_has_the_same_hash(change: Any) -> None:
    assert compile_workflow(change(SOUND)).hash == compile_workflow(SOUND).hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "m"},
        {"model": "other"},
        {"nodes": [llm("a", "{{x}} "), llm("b", "{{a}}")]},
        {"max_parallelism": 3},
        {"inputs": [{"name": "x"}]},
    ],
)
def test_what_means_something_else_has_another_hash(change: Json) -> None:
    assert compile_workflow({**SOUND, **change}).hash != compile_workflow(SOUND).hash


def test_a_model_may_come_later_if_the_caller_says_so() -> None:
    assert compile_workflow(spec(llm("a"), model=""), models=False).order == ("a",)


def test_tools_that_the_server_lacks_are_refused_unless_the_caller_runs_them() -> None:
    tools = ["search", "user_ask", {"type": "function", "function": {"name": "other"}}, {"type": "web"}]
    assert faults(spec(llm("a", tools=tools)), tools=["search"]) == [("unknown_tool", "$.nodes[0].tools[2]")]
    client = spec(llm("a", tools=tools, tool_execution={"mode": "client"}))
    assert compile_workflow(client, tools=[]).order == ("a",)
    assert compile_workflow(spec(llm("a", tools=tools))).order == ("a",)


def test_nulls_and_empty_fields_count_as_absent() -> None:
    empty: Json = dict.fromkeys(("model", "system", "tools", "retry", "output_format", "stop", "input", "stream"))
    found = compile_workflow(
        spec(
            {**llm("a"), **empty, "depends_on": None, "unknown": None},
            fanout("f", llm("s"), items_from="a", items_from_input="", items_path="", items_pointer=None),
            name=None,
            inputs=None,
            outputs={"o": "a"},
        )
    )
    assert (
        found.json == compile_workflow(spec(llm("a"), fanout("f", llm("s"), items_from="a"), outputs={"o": "a"})).json
    )
