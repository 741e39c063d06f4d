"""Specs for tests, and responses of models."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.events import Usage
from proxy.workflows.compile import Plan, compile_workflow
from proxy.workflows.issues import InvalidWorkflow, Issue
from proxy.workflows.responses import response

Json = dict[str, Any]


def spec(*nodes: Json, outputs: dict[str, str] | None = None, **more: Any) -> Json:
    """A workflow of these nodes; `outputs` by name, each a node (the last one if there are none)."""
    named = outputs if outputs is not None else {"result": nodes[-1]["id"]}
    return {
        "kind": "workflow",
        "model": "demo",
        "nodes": list(nodes),
        "outputs": [{"name": name, "from": node} for name, node in named.items()],
        **more,
    }


def llm(name: str, user: str = "Go.", **more: Any) -> Json:
    return {"id": name, "type": "llm", "user": user, **more}


def join(kind: str, name: str, *branches: str, **more: Any) -> Json:
    return {"id": name, "type": f"join.{kind}", "depends_on": list(branches), **more}


def fanout(name: str, subnode: Json, **more: Any) -> Json:
    return {"id": name, "type": "map.fanout", "subnode": subnode, **more}


def transform(name: str, **more: Any) -> Json:
    return {"id": name, "type": "transform.json", **more}


def plan(*nodes: Json, outputs: dict[str, str] | None = None, **more: Any) -> Plan:
    return compile_workflow(spec(*nodes, outputs=outputs, **more))


def said(text: str, **more: Any) -> Json:
    return response("resp-1", text=text, usage=Usage(model="demo", input_tokens=3, output_tokens=2), **more)


def issues(document: object, **more: Any) -> tuple[Issue, ...]:
    with pytest.raises(InvalidWorkflow) as caught:
        compile_workflow(document, **more)
    assert caught.value.status == 400
    assert all(each.code and each.path.startswith("$") and each.message for each in caught.value.issues)
    return caught.value.issues


def faults(document: object, **more: Any) -> list[tuple[str, str]]:
    return [(each.code, each.path) for each in issues(document, **more)]
