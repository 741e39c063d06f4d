"""The adapter against the contract that all adapters keep."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from adapters.langgraph import LangGraphAdapter
from adapters.langgraph.options import GraphOptions
from proxy.adapter import RunInput, Site
from proxy.testing import check_adapter
from tests.adapters import busy_graphs
from tests.adapters.langgraph_runs import run_of


@pytest.mark.parametrize("temporary", [True, False])
def test_the_adapter_keeps_the_contract(tmp_path: Path, temporary: bool) -> None:
    shared: dict[str, Any] = {}

    def make() -> LangGraphAdapter:
        site = Site(agent="a", folder=tmp_path, state="sqlite:///runs.db", shared=shared)
        return LangGraphAdapter(GraphOptions(graph=f"{busy_graphs.__name__}:everything_graph"), site)

    def run(text: str) -> RunInput:
        return run_of(text, temporary=temporary)

    asyncio.run(
        check_adapter(
            make,
            ends=[run("answer"), run("tool"), run("pause")],
            hangs=run("hang"),
            held=lambda: busy_graphs.everything.held,
            fails=[run("fail")],
            within=10,
        )
    )
