"""The published schema of specs against the compiler: what compiles is allowed, and what it can see it refuses."""

from __future__ import annotations

import json

import jsonschema
import pytest

from proxy.wire.workflow_schemas import workflow
from proxy.workflows.compile import Plan
from tests.workflows.faulty import EACH
from tests.workflows.specs import Json, fanout, join, llm, plan, transform

VALIDATOR = jsonschema.Draft7Validator(workflow())
UNSEEN = {
    "duplicate_node_id",
    "unknown_node",
    "self_dependency",
    "missing_model",
    "duplicate_output",
    "invalid_items_source",
    "invalid_transform",
    "duplicate_input",
    "invalid_default",
    "too_large",
}
"""Faults that a schema cannot see, or not all of."""
HALF = {"$.nodes[0].user", "$.nodes[0].retry.max_attempts", "$.nodes[0].input[0].tool_call_id"}

SOUND = [
    plan(llm("a")),
    plan(
        llm(
            "a",
            "{{x}}",
            system="s",
            input=[{"type": "message", "role": "user", "content": [{"type": "text", "text": "t"}]}],
            tools=["t", {"type": "web", "web": {}}, {"type": "function", "function": {"name": "f", "parameters": {}}}],
            tool_execution={"mode": "client"},
            retry={"max_attempts": 2},
            output_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
            stop=["x"],
            max_output_tokens=1,
            stream=True,
        ),
        transform("t", object={"x": {"from": "a", "pointer": "/output"}}),
        fanout("f", llm("s"), items_from="a", items_path="/x", items_pointer="", max_parallelism=2),
        join("any", "any", "a", "t", predicate={"source": "node_output", "op": "equals", "path": "$.x", "value": None}),
        join("collect", "some", "a", "t", limit=1, timeout_ms=5),
        join("all", "all", "any", "some", "f"),
        inputs=[{"name": "x", "type": "string", "default": "d"}],
        max_parallelism=3,
        name="n",
    ),
]


@pytest.mark.parametrize("found", SOUND)
def test_a_plan_is_a_spec_that_the_schema_allows(found: Plan) -> None:
    VALIDATOR.validate(json.loads(found.json))


@pytest.mark.parametrize(("code", "path", "document"), EACH, ids=[f"{code}-{path}" for code, path, _ in EACH])
def test_the_schema_refuses_what_it_can_see(code: str, path: str, document: Json) -> None:
    if code not in UNSEEN and path not in HALF:
        assert not VALIDATOR.is_valid(document)
