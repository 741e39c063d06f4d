"""Answers held to the schema that their node asked for; and schemas that are hostile, broken or too large."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from proxy.workflows import schemas
from proxy.workflows.schemas import Unusable, mismatch
from proxy.workflows.spec import Bounds
from tests.workflows.driver import Driver, words
from tests.workflows.specs import Json, fanout, faults, issues, llm, plan, spec, transform

AT = "$.nodes[0].output_format.json_schema.schema"
PRICED: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "prices": {"type": "array", "items": {"type": "number"}, "uniqueItems": True},
        "unit": {"enum": ["kg", "l", 1, None]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def wanted(schema: Json, **more: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def asking(schema: Json, **more: Any) -> Json:
    return llm("a", output_format=wanted(schema), **more)


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ({"name": "salt"}, ""),
        ({"name": "salt", "prices": [1, 2.5], "unit": 1.0}, ""),
        ({"name": "salt", "prices": [1, "2"]}, "$.prices[1] it breaks `type`"),
        ({"name": "salt", "prices": [1, 1.0]}, "$.prices it breaks `uniqueItems`"),
        ({"name": "SALT"}, "$.name it breaks `pattern`"),
        ({"name": "salt", "unit": True}, "$.unit it breaks `enum`"),
        ({"name": "salt", "more": 1}, "$.more it breaks `additionalProperties`"),
        ({}, "$ it breaks `required`"),
        ([], "$ it breaks `type`"),
    ],
)
def test_an_answer_fits_its_schema_or_the_node_fails_and_says_where(answer: Any, place: str) -> None:
    run = Driver(plan(asking(PRICED)))
    decisions = run.say("a", json.dumps(answer))
    if not place:
        assert words(decisions) == ["NodeSucceeded a", "RunSucceeded"]
        return
    assert words(decisions) == ["NodeFailed a", "RunFailed"]
    fault = run.schedule.faults["a"]
    assert (fault.code, fault.message) == ("invalid_json", f"The answer does not fit its schema: at {place}.")


def test_an_answer_that_does_not_fit_is_asked_for_again_as_one_that_is_no_json() -> None:
    run = Driver(plan(asking(PRICED, retry={"max_attempts": 2})))
    assert run.say("a", "{}") == []
    assert words(run.wait(1)) == ["Start a#2"]
    assert words(run.say("a", '{"name":"salt"}')) == ["NodeSucceeded a", "RunSucceeded"]


def test_each_item_of_a_fan_out_is_held_to_the_schema_of_its_subnode() -> None:
    each = llm("one", "{{item}}", output_format=wanted(PRICED))
    run = Driver(plan(fanout("f", each, items_from_input="items")), {"items": [1, 2]})
    run.say("f", '{"name":"salt"}', item=0)
    assert words(run.say("f", '{"name":7}', item=1))[0] == "NodeFailed f"


def test_an_older_draft_counts_where_a_schema_names_it() -> None:
    pair: Json = {"items": [{"type": "string"}, {"type": "integer"}], "additionalItems": False}
    old = {"$schema": "http://json-schema.org/draft-07/schema#", **pair}
    assert mismatch(old, ["x", 1]) == ""
    assert mismatch(old, ["x", "y"]) == "at $[1] it breaks `type`"
    assert mismatch({"prefixItems": pair["items"], "items": False}, ["x", 1, 2]) == "at $ it breaks `items`"


def test_references_within_a_schema_are_followed() -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}
    assert mismatch(tree, [[], [[]]]) == ""
    assert mismatch(tree, [[1]]) == "at $[0][0] it breaks `type`"


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"$ref": "https://example.com/schema.json"}, "['$ref']"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, ".properties.a['$ref']"),
        ({"$ref": "http://json-schema.org/draft-07/schema#"}, "['$ref']"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, ".properties.a.pattern"),
        ({"patternProperties": {"(": {}}}, ".patternProperties"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, ".unevaluatedProperties"),
        ({"type": "strin"}, ".type"),
        ({"minLength": -1}, ".minLength"),
        ({"$defs": {"d": {"required": "a"}}}, "['$defs'].d.required"),
        ({"prefixItems": {}}, ".prefixItems"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_fault_of_its_spec(schema: Json, place: str) -> None:
    assert faults(spec(asking(schema))) == [("invalid_schema", AT + place)]


def test_all_faults_of_all_schemas_are_told_at_once() -> None:
    inner = llm("s", output_format=wanted({"type": 1}))
    document = spec(asking({"minimum": "x", "maximum": "y"}), fanout("f", inner, items_from="a"), transform("t"))
    assert [each.path for each in issues(document)] == [
        f"{AT}.minimum",
        f"{AT}.maximum",
        "$.nodes[1].subnode.output_format.json_schema.schema.type",
        "$.nodes[2].object",
    ]


def test_the_schemas_of_a_spec_have_a_size() -> None:
    large = {"properties": {f"p{index}": {} for index in range(20)}}
    few = Bounds(schemas=30)
    nodes = [asking(large), llm("b", output_format=wanted(large))]
    assert faults(spec(*nodes), bounds=few) == [("too_large", AT.replace("[0]", "[1]"))]


def test_a_schema_that_is_nested_too_deep_to_be_looked_at_is_a_fault() -> None:
    nested: Json = {}
    for _ in range(90):
        nested = {"items": nested}
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(350)
    try:
        assert faults(spec(asking(nested))) == [("too_large", AT)]
    finally:
        sys.setrecursionlimit(usual)


DOUBLING: Json = {
    "$ref": "#/$defs/d0",
    "$defs": {
        **{f"d{index}": {"anyOf": [{"$ref": f"#/$defs/d{index + 1}"}] * 2} for index in range(60)},
        "d60": {"type": "string"},
    },
}
TRAPS: list[tuple[Json, Any]] = [
    (DOUBLING, 1),
    ({"$ref": "#"}, 1),
    ({"allOf": [{"$ref": "#"}]}, 1),
    ({"$ref": "#/$defs/nothing"}, 1),
    ({"anyOf": [{"type": "string"}] * 1000}, ["x" * 100] * 10_000),
    ({"items": {"enum": [[number] * 100 for number in range(1000)]}}, [[0] * 100] * 1000),
    ({"multipleOf": 0.1}, 10**400),
    ({"minLength": "x"}, "y"),
]


@pytest.mark.parametrize(("schema", "answer"), TRAPS)
def test_a_schema_that_would_go_on_for_ever_is_given_up(schema: Json, answer: Any) -> None:
    with pytest.raises(Unusable):
        mismatch(schema, answer)


def test_no_more_work_is_spent_on_an_answer_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, answer = {"items": {"type": "integer"}}, list(range(100))
    monkeypatch.setattr(schemas, "MOST", 102)
    assert mismatch(schema, answer) == ""
    with pytest.raises(Unusable):
        mismatch(schema, [*answer, 100])


def test_patterns_that_backtrack_elsewhere_cost_nothing_here() -> None:
    text = "a" * 50_000 + "!"
    for schema in (
        {"pattern": "^(a+)+$"},
        {"propertyNames": {"pattern": "^(a+)+$"}},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
    ):
        assert mismatch(schema, text if "pattern" in schema else {text: 1})


def test_a_switch_of_drafts_further_down_does_not_lead_out_of_the_bounds() -> None:
    inner = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://x/", "pattern": "^(a+)+$"}
    assert mismatch({"items": inner}, ["a" * 50_000 + "!"]) == "at $[0] it breaks `pattern`"


def test_an_answer_that_cannot_be_checked_is_a_failure_that_is_not_retried() -> None:
    run = Driver(plan(asking(DOUBLING, retry={"max_attempts": 3})))
    assert words(run.say("a", "1")) == ["NodeFailed a", "RunFailed"]
    assert run.schedule.faults["a"].code == "unchecked"
    deep = Driver(plan(asking({"type": "array"})))
    deep.say("a", "[" * 300 + "]" * 300)
    assert deep.schedule.faults["a"].code == "value_too_large"


def test_names_in_a_schema_may_be_those_of_keywords() -> None:
    schema = {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "object"}, "$id": {"type": "integer"}}}
    assert Driver(plan(asking(schema))).plan
    assert mismatch(schema, {"$ref": "x", "pattern": {}, "$id": "x"}) == "at $['$id'] it breaks `type`"
