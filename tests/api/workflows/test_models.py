"""The list of models, as the plugin helpers of the workflow dialect read it."""

from __future__ import annotations

from proxy.settings import Agent, Price, Runs
from tests.api.scripted import SCRIPT, House, visit
from tests.api.workflows.callers import refused, told

AGENTS = {"script": SCRIPT, "tooled": Agent(adapter="proxy.testing:Script", client_tools="pass")}
PLAIN = {
    "model_id": "script",
    "provider": "openai",
    "display_name": "script",
    "description": "Says what the test says.",
    "capabilities": [],
    "context_window": 0,
    "max_output_tokens": 0,
    "training_cutoff": "",
    "deprecated": False,
    "deprecation_message": "",
    "input_cost_per_million_cents": 0,
    "output_cost_per_million_cents": 0,
}


def test_every_model_has_every_field_and_costs_are_in_cents() -> None:
    async def scene(house: House) -> None:
        script, tooled = (await told(house, "GET", "/models", 200))["models"]
        assert script == PLAIN
        assert (tooled["model_id"], tooled["capabilities"]) == ("tooled", ["tools"])
        assert (tooled["input_cost_per_million_cents"], tooled["output_cost_per_million_cents"]) == (15, 1001)

    visit(scene, AGENTS, runs=Runs(prices={"tooled": Price(input=0.15, output=10.01)}))


def test_models_are_picked_by_what_they_can_do() -> None:
    async def scene(house: House) -> None:
        async def names(query: str) -> list[str]:
            return [model["model_id"] for model in (await told(house, "GET", f"/models?{query}", 200))["models"]]

        assert await names("capability=tools") == ["tooled"]
        assert await names("capability=vision") == []
        assert await names("provider=openai") == ["script", "tooled"]
        assert await names("provider=anthropic") == []
        await refused(house, "GET", "/models", 401, "UNAUTHORIZED", headers={"authorization": ""})

    visit(scene, AGENTS)
