from __future__ import annotations

from typing import Any

import pytest

from proxy.workflows.compile import compile_workflow
from proxy.workflows.inputs import InvalidInput, resolved
from proxy.workflows.issues import InvalidWorkflow
from proxy.workflows.lint import lint
from proxy.workflows.models import Overrides, with_models
from proxy.workflows.spec import Fanout, Llm
from tests.workflows.specs import Json, fanout, join, llm, plan, spec


def test_inputs_are_completed_by_their_defaults_and_may_be_undeclared() -> None:
    inputs = [{"name": "x", "default": 1}, {"name": "y", "default": "d", "required": True}]
    found = plan(llm("a", "{{x}} {{y}} {{z}}"), inputs=inputs).workflow
    assert resolved(found, {"y": "given", "z": [], "extra": None}) == {"x": 1, "y": "given", "z": [], "extra": None}


@pytest.mark.parametrize(
    ("node", "declared", "given", "name"),
    [
        (llm("a", "{{task}}"), [], {}, "task"),
        (llm("a", "{{task.x}}"), [{"name": "task"}], {}, "task"),
        (llm("a"), [{"name": "task", "required": True}], {}, "task"),
        (llm("a"), [{"name": "task", "type": "number"}], {"task": "1"}, "task"),
        (llm("a"), [{"name": "task", "type": "number"}], {"task": True}, "task"),
        (llm("a"), [{"name": "task", "type": "null"}], {"task": 0}, "task"),
        (fanout("f", llm("s", "{{item}}"), items_from_input="list"), [], {}, "list"),
        (fanout("f", llm("s", "{{other}}"), items_from_input="list"), [], {"list": []}, "other"),
    ],
)
def test_a_bad_input_is_named(node: Json, declared: list[Json], given: Json, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolved(plan(node, inputs=declared).workflow, given)
    assert [each for each, _ in caught.value.faults] == [name]
    assert (caught.value.status, caught.value.param) == (400, f"input.{name}")
    assert f"`{name}`" in caught.value.message


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", ["", "x"]),
        ("number", [0, 1.5]),
        ("object", [{}]),
        ("array", [[]]),
        ("boolean", [False]),
        ("null", [None]),
        ("json", [None, 1, []]),
    ],
)
def test_each_type_takes_its_values(kind: str, values: list[Any]) -> None:
    found = plan(llm("a", "{{x}}"), inputs=[{"name": "x", "type": kind}]).workflow
    for value in values:
        assert resolved(found, {"x": value}) == {"x": value}


def test_all_bad_inputs_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        resolved(plan(llm("a", "{{x}}{{y}}"), inputs=[{"name": "z", "required": True}]).workflow, {})
    assert [name for name, _ in caught.value.faults] == ["z", "x", "y"]


NODES = (llm("a", model="own"), llm("b"), fanout("f", llm("s"), items_from_input="x"))


@pytest.mark.parametrize(
    ("overrides", "models"),
    [
        (Overrides(), ["own", "demo", "demo"]),
        (Overrides(model="all"), ["all", "all", "all"]),
        (Overrides(model="all", nodes={"a": "mine"}), ["mine", "all", "all"]),
        (Overrides(subnodes={("f", "s"): "sub"}), ["own", "demo", "sub"]),
    ],
)
def test_what_the_caller_of_a_run_says_beats_the_spec(overrides: Overrides, models: list[str]) -> None:
    before = plan(*NODES)
    after = with_models(before, overrides)
    found = [node.subnode if isinstance(node, Fanout) else node for node in after.workflow.nodes]
    assert [node.model for node in found if isinstance(node, Llm)] == models
    assert after.hash == before.hash


@pytest.mark.parametrize(
    ("overrides", "code", "path"),
    [
        (Overrides(nodes={"zz": "m"}), "unknown_node", "$.model_overrides.nodes.zz"),
        (Overrides(nodes={"f": "m"}), "unknown_node", "$.model_overrides.nodes.f"),
        (Overrides(subnodes={("f", "zz"): "m"}), "unknown_node", "$.model_overrides.fanout_subnodes[0]"),
        (Overrides(nodes={"b": "nobody"}), "unknown_model", "$.nodes[1].model"),
        (Overrides(subnodes={("f", "s"): "nobody"}), "unknown_model", "$.nodes[2].subnode.model"),
    ],
)
def test_overrides_of_nothing_and_models_that_there_are_not_are_refused(
    overrides: Overrides, code: str, path: str
) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        with_models(plan(*NODES), overrides, {"own", "demo", "m"})
    assert [(each.code, each.path) for each in caught.value.issues] == [(code, path)]


def test_a_model_that_only_an_override_gives_is_enough_and_none_is_a_fault() -> None:
    bare = compile_workflow(spec(llm("a"), model=""), models=False)
    assert with_models(bare, Overrides(model="m")).order == ("a",)
    with pytest.raises(InvalidWorkflow) as caught:
        with_models(bare, Overrides())
    assert [(each.code, each.path) for each in caught.value.issues] == [("missing_model", "$.nodes[0].model")]


def strict(schema: Json, **more: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True, **more}}


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
AT = "$.nodes[0].output_format.json_schema.schema"


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (CLOSED, []),
        ({"type": "object"}, [("strict_additional_properties", f"{AT}.additionalProperties")]),
        (
            {"properties": {"a": {}, "b": {}}, "required": ["a"]},
            [("strict_additional_properties", f"{AT}.additionalProperties"), ("strict_required", f"{AT}.required")],
        ),
        (
            {**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "object"}}}},
            [("strict_additional_properties", f"{AT}.properties.a.items.additionalProperties")],
        ),
        (
            {"anyOf": [CLOSED, {"type": "object"}]},
            [("strict_additional_properties", f"{AT}.anyOf[1].additionalProperties")],
        ),
        (
            {"$defs": {"d": {"type": "object"}}},
            [("strict_additional_properties", f"{AT}['$defs'].d.additionalProperties")],
        ),
    ],
)
def test_strict_schemas_are_held_to_what_models_ask(schema: Json, found: list[tuple[str, str]]) -> None:
    document = spec(llm("a", output_format=strict(schema)))
    assert [(each.code, each.path) for each in lint(document)] == found
    assert lint(spec(llm("a", output_format=strict(schema, strict=False)))) == ()


def test_what_is_hardly_meant_is_warned_of_but_compiles() -> None:
    document = spec(
        llm("a"),
        llm("b"),
        join("all", "j", "a"),
        inputs=[{"name": "a"}, {"name": "unused"}],
    )
    compile_workflow(document)
    assert [(each.code, each.path) for each in lint(document)] == [
        ("unused_node", "$.nodes[1].id"),
        ("shadowed_input", "$.inputs[0].name"),
        ("unused_input", "$.inputs[1].name"),
    ]


@pytest.mark.parametrize("document", [{}, {"nodes": 1}, {"nodes": [1, {"output_format": []}]}, [], None, "x"])
def test_lint_reads_what_does_not_compile(document: Any) -> None:
    assert lint(document) == ()


def test_lint_finds_its_faults_in_a_spec_that_does_not_compile() -> None:
    document = {"nodes": [{"id": "A", "subnode": {"output_format": strict({"type": "object"})}}]}
    [issue] = lint(document)
    assert issue.path == "$.nodes[0].subnode.output_format.json_schema.schema.additionalProperties"
