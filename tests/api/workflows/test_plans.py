"""Compiling and linting specs over the wire."""

from __future__ import annotations

from typing import Any

from tests.api.scripted import OTHER, House, visit
from tests.api.workflows.callers import refused, told

SPEC: dict[str, Any] = {
    "kind": "workflow",
    "nodes": [{"id": "a", "type": "llm", "model": "script", "user": "Say {{task}}"}],
    "outputs": [{"name": "result", "from": "a"}],
}
WRONG: dict[str, Any] = {
    "kind": "workflow",
    "nodes": [{"id": "A", "type": "llm", "user": "x"}],
    "outputs": [{"name": "result", "from": "b"}],
}


def test_a_spec_is_compiled_into_a_plan_that_is_kept() -> None:
    async def scene(house: House) -> None:
        made = await told(house, "POST", "/workflows/compile", 200, json=SPEC)
        again = await told(house, "POST", "/workflows/compile", 200, json=dict(reversed(SPEC.items())))
        assert made["plan_hash"] == again["plan_hash"]
        assert len(made["plan_hash"]) == 64
        assert made["plan_json"]["nodes"][0]["id"] == "a"
        assert await house.app.store.get_plan("default", made["plan_hash"]) is not None
        assert await house.app.store.get_plan("b", made["plan_hash"]) is None

    visit(scene)


def test_all_faults_of_a_spec_are_told_at_once_with_status_400() -> None:
    async def scene(house: House) -> None:
        error = await refused(house, "POST", "/workflows/compile", 400, "VALIDATION_ERROR", json=WRONG)
        places = [(issue["code"], issue["path"]) for issue in error["issues"]]
        assert places == [
            ("missing_model", "$.nodes[0].model"),
            ("invalid_node_id", "$.nodes[0].id"),
            ("unknown_node", "$.outputs[0].from"),
        ]
        assert all(issue["message"] for issue in error["issues"])
        strange: tuple[Any, ...] = ([], "x", 1)
        for body in strange:
            error = await refused(house, "POST", "/workflows/compile", 400, "VALIDATION_ERROR", json=body)
            assert error["issues"][0]["path"] == "$"
        await refused(house, "POST", "/workflows/compile", 400, "INVALID_INPUT", content=b"{")

    visit(scene)


def test_a_lint_answers_for_any_object_and_keeps_nothing() -> None:
    async def scene(house: House) -> None:
        good = await told(house, "POST", "/workflows/lint", 200, json=SPEC)
        assert good["kind"] == "workflow"
        assert "compile_issues" not in good
        assert await house.app.store.get_plan("default", good["plan_hash"]) is None
        bare = await told(house, "POST", "/workflows/lint?compile=false", 200, json=SPEC)
        assert bare == {"kind": "workflow"}
        bad = await told(house, "POST", "/workflows/lint", 200, json=WRONG)
        assert [issue["code"] for issue in bad["compile_issues"]] == [
            "missing_model",
            "invalid_node_id",
            "unknown_node",
        ]
        assert "plan_hash" not in bad
        assert "compile_issues" not in await told(house, "POST", "/workflows/lint?compile=false", 200, json=WRONG)
        await refused(house, "POST", "/workflows/lint", 400, "INVALID_INPUT", json=[])
        await refused(house, "POST", "/workflows/lint?compile=x", 400, "INVALID_INPUT", json=SPEC)

    visit(scene)


def test_doubts_about_strict_schemas_are_told_by_their_place() -> None:
    async def scene(house: House) -> None:
        schema = {"type": "object", "properties": {"x": {"type": "string"}}}
        form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
        spec = {**SPEC, "nodes": [{**SPEC["nodes"][0], "output_format": form}]}
        found = await told(house, "POST", "/workflows/lint", 200, json=spec, headers=OTHER)
        assert found["plan_hash"]
        prefix = "$.nodes[0].output_format.json_schema"
        assert found["lint_issues"]
        assert all(issue["path"].startswith(prefix) for issue in found["lint_issues"])

    visit(scene)
