from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest

from proxy.workflows.compile import compile_workflow, load
from proxy.workflows.issues import MOST, InvalidWorkflow, Issue
from proxy.workflows.spec import Bounds
from tests.workflows.specs import Json, fanout, join, llm, plan, spec, transform


def issues(document: object, **more: Any) -> tuple[Issue, ...]:
    with pytest.raises(InvalidWorkflow) as caught:
        compile_workflow(document, **more)
    assert caught.value.status == 400
    assert all(each.code and each.path.startswith("$") and each.message for each in caught.value.issues)
    return caught.value.issues


def faults(document: object, **more: Any) -> list[tuple[str, str]]:
    return [(each.code, each.path) for each in issues(document, **more)]


EACH: list[tuple[str, str, Json]] = [
    ("invalid_kind", "$.kind", {**spec(llm("a")), "kind": "workflw"}),
    ("invalid_kind", "$.kind", {**spec(llm("a")), "kind": None}),
    ("invalid_type", "$.name", spec(llm("a"), name=7)),
    ("invalid_value", "$.model", spec(llm("a"), model="m" * 129)),
    ("invalid_limit", "$.max_parallelism", spec(llm("a"), max_parallelism=0)),
    ("invalid_limit", "$.max_parallelism", spec(llm("a"), max_parallelism=True)),
    ("unknown_field", "$.modle", spec(llm("a"), modle="x")),
    ("unknown_field", "$['a b']", spec(llm("a"), **{"a b": "x"})),
    ("missing_field", "$.nodes", {**spec(llm("a")), "nodes": [], "outputs": [{"name": "o", "from": "a"}]}),
    ("missing_field", "$.outputs", spec(llm("a"), outputs={})),
    ("invalid_type", "$.nodes[1]", {**spec(llm("a")), "nodes": [llm("a"), "b"]}),
    ("missing_field", "$.nodes[1].id", {**spec(llm("a")), "nodes": [llm("a"), {"type": "llm", "user": "x"}]}),
    ("duplicate_node_id", "$.nodes[1].id", spec(llm("a"), llm("a"))),
    ("missing_field", "$.nodes[0].type", spec({"id": "a"})),
    ("unknown_node_type", "$.nodes[0].type", spec({"id": "a", "type": "lmm"})),
    ("unknown_node_type", "$.nodes[0].type", spec({"id": "a", "type": "llm.responses"})),
    ("missing_field", "$.nodes[0].user", spec({"id": "a", "type": "llm"})),
    ("unknown_field", "$.nodes[0].promt", spec(llm("a", promt="x"))),
    ("unknown_field", "$.nodes[1].user", spec(llm("a"), join("all", "j", "a", user="x"))),
    ("unknown_node", "$.nodes[0].depends_on[0]", spec(llm("a", depends_on=["zz"]))),
    ("invalid_type", "$.nodes[1].depends_on[0]", spec(llm("a"), llm("b", depends_on=[1]))),
    ("self_dependency", "$.nodes[0].depends_on[0]", spec(llm("a", depends_on=["a"]))),
    ("self_dependency", "$.nodes[0].user", spec(llm("a", "again {{ a }}"))),
    ("missing_model", "$.nodes[0].model", spec(llm("a"), model="")),
    ("missing_model", "$.nodes[0].subnode.model", spec(fanout("f", llm("a"), items_from_input="x"), model=None)),
    ("duplicate_output", "$.outputs[1].name", {**spec(llm("a")), "outputs": [{"name": "o", "from": "a"}] * 2}),
    ("unknown_node", "$.outputs[0].from", spec(llm("a"), outputs={"o": "b"})),
    ("missing_field", "$.outputs[0].from", spec(llm("a"), outputs={"o": ""})),
    (
        "invalid_pointer",
        "$.outputs[0].pointer",
        {**spec(llm("a")), "outputs": [{"name": "o", "from": "a", "pointer": "x"}]},
    ),
    ("missing_field", "$.nodes[0].depends_on", spec(join("all", "j"))),
    ("invalid_limit", "$.nodes[1].limit", spec(llm("a"), join("collect", "j", "a", limit=0))),
    ("invalid_limit", "$.nodes[1].timeout_ms", spec(llm("a"), join("collect", "j", "a", timeout_ms="5"))),
    ("unknown_field", "$.nodes[1].limit", spec(llm("a"), join("any", "j", "a", limit=1))),
    ("invalid_items_source", "$.nodes[0].items_from", spec(fanout("f", llm("s")))),
    (
        "invalid_items_source",
        "$.nodes[1].items_from_input",
        spec(llm("a"), fanout("f", llm("s"), items_from="a", items_from_input="x")),
    ),
    ("unknown_node", "$.nodes[0].items_from", spec(fanout("f", llm("s"), items_from="zz"))),
    (
        "invalid_pointer",
        "$.nodes[0].items_pointer",
        spec(fanout("f", llm("s"), items_from_input="x", items_pointer="a")),
    ),
    ("invalid_pointer", "$.nodes[0].items_path", spec(fanout("f", llm("s"), items_from_input="x", items_path="$..a"))),
    ("missing_subnode", "$.nodes[0].subnode", spec({"id": "f", "type": "map.fanout", "items_from_input": "x"})),
    (
        "invalid_subnode",
        "$.nodes[0].subnode.type",
        spec(fanout("f", {"id": "s", "type": "join.all"}, items_from_input="x")),
    ),
    ("duplicate_node_id", "$.nodes[0].subnode.id", spec(fanout("f", llm("f"), items_from_input="x"))),
    ("invalid_node_id", "$.nodes[0].subnode.id", spec(fanout("f", llm("S"), items_from_input="x"))),
    ("invalid_transform", "$.nodes[0].object", spec(transform("t"))),
    (
        "invalid_transform",
        "$.nodes[1].merge",
        spec(llm("a"), transform("t", object={"x": {"from": "a"}}, merge=[{"from": "a"}])),
    ),
    ("invalid_transform", "$.nodes[0].object.x", spec(transform("t", object={"x": None}))),
    ("missing_field", "$.nodes[0].object.x.from", spec(transform("t", object={"x": {}}))),
    ("unknown_field", "$.nodes[1].merge[0].path", spec(llm("a"), transform("t", merge=[{"from": "a", "path": "$"}]))),
    ("unknown_node", "$.nodes[0].merge[0].from", spec(transform("t", merge=[{"from": "item"}]))),
    ("duplicate_input", "$.inputs[1].name", spec(llm("a"), inputs=[{"name": "x"}, {"name": "x"}])),
    ("invalid_input_type", "$.inputs[0].type", spec(llm("a"), inputs=[{"name": "x", "type": "text"}])),
    (
        "invalid_default",
        "$.inputs[0].default",
        spec(llm("a"), inputs=[{"name": "x", "type": "number", "default": "1"}]),
    ),
    (
        "invalid_default",
        "$.inputs[0].default",
        spec(llm("a"), inputs=[{"name": "x", "type": "number", "default": True}]),
    ),
    ("missing_field", "$.inputs[0].name", spec(llm("a"), inputs=[{}])),
    ("invalid_type", "$.nodes[0].stream", spec(llm("a", stream="yes"))),
    ("invalid_value", "$.nodes[0].tool_execution.mode", spec(llm("a", tool_execution={"mode": "both"}))),
    ("invalid_type", "$.nodes[0].tools[0]", spec(llm("a", tools=[1]))),
    ("missing_field", "$.nodes[0].tools[0].function", spec(llm("a", tools=[{"type": "function"}]))),
    (
        "missing_field",
        "$.nodes[0].tools[0].function.name",
        spec(llm("a", tools=[{"type": "function", "function": {}}])),
    ),
    ("invalid_value", "$.nodes[0].tools[0].type", spec(llm("a", tools=[{"type": "fun"}]))),
    ("invalid_limit", "$.nodes[0].retry.max_attempts", spec(llm("a", retry={"max_attempts": 99}))),
    ("invalid_value", "$.nodes[0].retry.retryable_errors[0]", spec(llm("a", retry={"retryable_errors": ["all"]}))),
    ("invalid_limit", "$.nodes[0].retry.backoff_ms", spec(llm("a", retry={"backoff_ms": -1}))),
    ("missing_field", "$.nodes[0].output_format.json_schema", spec(llm("a", output_format={"type": "json_schema"}))),
    (
        "missing_field",
        "$.nodes[0].output_format.json_schema.name",
        spec(llm("a", output_format={"type": "json_schema", "json_schema": {"schema": {}}})),
    ),
    ("invalid_limit", "$.nodes[0].max_output_tokens", spec(llm("a", max_output_tokens=0))),
    ("invalid_type", "$.nodes[0].stop[0]", spec(llm("a", stop=[1]))),
    ("missing_field", "$.nodes[0].input[0].role", spec(llm("a", "", input=[{"content": "x"}]))),
    ("invalid_value", "$.nodes[0].input[0].role", spec(llm("a", input=[{"role": "bot", "content": "x"}]))),
    (
        "invalid_value",
        "$.nodes[0].input[0].content[0].type",
        spec(llm("a", input=[{"role": "user", "content": [{"type": "image"}]}])),
    ),
    (
        "missing_field",
        "$.nodes[0].input[0].content[0].file.mime_type",
        spec(llm("a", input=[{"role": "user", "content": [{"type": "file", "file": {"data_base64": "eA=="}}]}])),
    ),
    ("missing_field", "$.nodes[0].input[0].tool_call_id", spec(llm("a", input=[{"role": "tool", "content": "x"}]))),
    ("too_large", "$.nodes", spec(*(llm(f"n{i}") for i in range(10_000)))),
    ("too_large", "$.inputs", spec(llm("a"), inputs=[{"name": f"i{i}"} for i in range(201)])),
    ("invalid_type", "$", []),
]


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
        lambda document: {**document, "nodes": [{**node, "stream": False, "stop": []} for node in document["nodes"]]},
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


CROWD = " ".join(f"{{{{n{index}}}}}" for index in range(200))


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    "document",
    [
        spec(llm("a", tools=[{"type": "function", "function": {"name": "f", "parameters": deep(5000)}}])),
        spec(llm("a", tools=[{"type": "function", "function": {"name": "f", "parameters": {"x": [0] * 300_000}}}])),
        deep(100_000),
        spec(*(llm(f"n{i}", CROWD) for i in range(200, 400)), *(llm(f"n{i}") for i in range(200))),
    ],
)
def test_what_is_too_deep_or_too_much_is_refused_without_reading_on(document: Json) -> None:
    assert {code for code, _ in faults(document)} == {"too_large"}


def test_ten_thousand_nodes_compile_where_they_may() -> None:
    bounds = Bounds(nodes=10_000)
    nodes = [llm("n0"), *(llm(f"n{i}", f"{{{{n{i - 1}}}}}") for i in range(1, 10_000))]
    found = compile_workflow(spec(*nodes), bounds=bounds)
    assert len(found.order) == 10_000
    nodes[0] = llm("n0", "{{n9999}}")
    [circle] = issues(spec(*nodes), bounds=bounds)
    assert len(circle.message) < 300


def test_there_is_an_end_to_the_faults() -> None:
    nodes = [llm(f"N{i}", wrong=1, depends_on=["x", "y"], **{"z" * 1_000_000: 1}) for i in range(3)]
    nodes += [llm(f"n{i}", wrong=1) for i in range(900)]
    found = issues(spec(*nodes))
    assert len(found) == MOST
    assert all(len(each.message) < 500 and len(each.path) < 500 for each in found)


def test_braces_by_the_million_are_text() -> None:
    assert plan(llm("a", "{{" * 500_000)).order == ("a",)
    assert plan(llm("a", "{{ " + " " * 500_000)).order == ("a",)
    assert plan(llm("a", "{{a." * 200_000)).order == ("a",)


def test_a_pointer_or_path_of_any_length_is_read_quickly_or_refused() -> None:
    outputs = [{"name": "o", "from": "a", "pointer": "/" * 1_000_000}]
    assert faults({**spec(llm("a")), "outputs": outputs}) == [("invalid_pointer", "$.outputs[0].pointer")]
    condition = {"source": "node_output", "op": "exists", "path": "$" + "['" * 400}
    assert ("invalid_condition", "$.nodes[1].predicate.path") in faults(
        spec(llm("a"), join("any", "j", "a", predicate=condition))
    )


@pytest.mark.parametrize("seed", range(300))
def test_a_spec_of_any_shape_compiles_or_has_faults(seed: int) -> None:
    """Parts of sound specs, put where they do not belong."""
    dice = random.Random(seed)
    document = json.loads(json.dumps(dice.choice(EACH[:-1])[2])) if seed % 2 else json.loads(json.dumps(SOUND))
    if len(str(document)) > 100_000:
        return
    pieces: list[Any] = [None, 0, -1, 1.5, True, "", "a", "x" * 100, [], {}, [[]], [None], {"": {}}, "$", "{{a}}"]
    for _ in range(dice.randint(1, 4)):
        *way, name = dice.choice(list(places(document)))
        holder = document
        for step in way:
            holder = holder[step]
        holder[name] = dice.choice(pieces)
    try:
        found = compile_workflow(document)
    except InvalidWorkflow:
        return
    assert load(found.json) == found


def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*path, name)
        yield from places(inner, (*path, name))
