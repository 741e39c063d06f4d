from __future__ import annotations

from openai.types import Model as OfficialModel

from proxy.adapter import Model
from proxy.errors import UpstreamError
from proxy.settings import Agent
from proxy.testing import Script
from tests.api.scripted import SCRIPT, House, visit


class Catalogue(Script):
    """Publishes models of its own, one of them under the name of another agent."""

    async def models(self) -> list[Model] | None:
        return [Model(id="up/meta/llama-3", created=1234, owned_by="meta"), Model(id="script")]


class Broken(Script):
    async def models(self) -> list[Model] | None:
        raise UpstreamError


AGENTS = {
    "many": Agent(adapter=f"{__name__}:Catalogue"),
    "taking": Agent(adapter="proxy.testing:Script", client_tools="pass", streaming=False, history="last"),
    "script": SCRIPT,
}
PLAIN = {
    "id": "script",
    "object": "model",
    "owned_by": "runwire",
    "description": "Says what the test says.",
    "agent": "script",
    "adapter": "proxy.testing:Script",
    "capabilities": {"streaming": True, "tools": False, "history": "full", "model_override": False},
}


def test_the_list_has_each_name_once_with_what_it_can_do() -> None:
    async def scene(house: House) -> None:
        listed = (await house.http.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["up/meta/llama-3", "script", "taking"]
        for model in listed["data"]:
            OfficialModel.model_validate(model, strict=True)
        upstream, script, taking = listed["data"]
        assert {name: value for name, value in script.items() if name != "created"} == PLAIN
        assert taking["capabilities"] == {
            "streaming": False,
            "tools": True,
            "history": "last",
            "model_override": False,
        }
        assert (upstream["created"], upstream["owned_by"], upstream["agent"]) == (1234, "meta", "many")
        assert (await house.http.get("/v1/models")).json() == listed

    visit(scene, AGENTS)


def test_one_model_is_the_same_as_in_the_list_also_with_slashes_in_its_name() -> None:
    async def scene(house: House) -> None:
        listed = (await house.http.get("/v1/models")).json()["data"]
        for model in listed:
            assert (await house.http.get(f"/v1/models/{model['id']}")).json() == model
        assert (await house.http.get("/v1/models/up%2Fmeta%2Fllama-3")).json() == listed[0]

    visit(scene, AGENTS)


def test_an_unknown_model_is_an_openai_404() -> None:
    async def scene(house: House) -> None:
        for name in ("nobody", "up/nobody", "many"):
            answer = await house.http.get(f"/v1/models/{name}")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")

    visit(scene, AGENTS)


def test_a_broken_catalogue_hides_its_own_models_only() -> None:
    async def scene(house: House) -> None:
        listed = (await house.http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["script"]
        assert (await house.http.get("/v1/models/script")).status_code == 200
        assert (await house.http.get("/v1/models/else")).status_code == 502

    visit(scene, {"script": SCRIPT, "broken": Agent(adapter=f"{__name__}:Broken")})


def test_other_paths_and_methods_are_refused_in_openais_form() -> None:
    async def scene(house: House) -> None:
        for method, path, status in [
            ("GET", "/v1/responses", 404),
            ("POST", "/v1/embeddings", 404),
            ("POST", "/v1/models", 405),
            ("DELETE", "/v1/models/script", 405),
        ]:
            answer = await house.http.request(method, path)
            assert (answer.status_code, set(answer.json()["error"])) == (status, {"message", "type", "param", "code"})

    visit(scene)
