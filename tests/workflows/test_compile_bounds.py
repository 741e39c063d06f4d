"""Specs that nobody would write by accident."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from proxy.workflows.compile import compile_workflow, load
from proxy.workflows.issues import MOST, InvalidWorkflow
from proxy.workflows.lint import lint
from proxy.workflows.spec import Bounds
from tests.workflows.faulty import EACH
from tests.workflows.specs import Json, fanout, faults, issues, join, llm, plan, spec

SOUND = spec(llm("a", "{{x}}"), fanout("f", llm("s"), items_from="a"), inputs=[{"name": "x"}], name="n")
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


@pytest.mark.parametrize("text", ["{{" * 3_000_000, "{{x}}" * 3_000_000])
def test_placeholders_by_the_million_are_refused(text: str) -> None:
    assert faults(spec(llm("a", text))) == [("too_large", "$.nodes")]
    assert lint(spec(llm("a", text))) == ()


@pytest.mark.parametrize("text", ["{{" * 50_000, "{{ " + " " * 5_000_000, "{{a." * 50_000, "{{a" + ".bb" * 1_000_000])
def test_braces_that_are_no_placeholders_are_text(text: str) -> None:
    assert plan(llm("a", text)).order == ("a",)


def test_misspelt_names_by_the_thousand_are_not_all_compared_with_known_ones() -> None:
    assert len(issues(spec(llm("a", **{f"usr{index}": 1 for index in range(100_000)})))) == MOST
    names = [f"unknown{index}" for index in range(100_000)]
    assert len(issues(spec(*(llm(f"n{index}") for index in range(45)), join("all", "j", *names)))) == MOST


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
