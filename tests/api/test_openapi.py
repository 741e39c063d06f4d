"""The server's own description, against the routes that it serves."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.api.scripted import House, visit

ANYONE = {"authorization": ""}


def test_the_description_can_be_read_without_a_key_and_names_what_bodies_take() -> None:
    async def scene(house: House) -> None:
        document = (await house.http.get("/openapi.json", headers=ANYONE)).raise_for_status().json()
        assert document["openapi"] == "3.1.0"
        run = document["paths"]["/threads/{thread_id}/runs/stream"]["post"]
        assert [parameter["name"] for parameter in run["parameters"]] == ["thread_id"]
        fields = resolved(document, body_of(run))["properties"]
        assert {"assistant_id", "input", "command", "stream_mode", "multitask_strategy"} <= fields.keys()
        chat = document["paths"]["/v1/chat/completions"]["post"]
        assert {"model", "messages"} <= resolved(document, body_of(chat))["properties"].keys()

    visit(scene)


def test_every_operation_has_a_name_of_its_own_and_every_body_a_schema() -> None:
    async def scene(house: House) -> None:
        document = (await house.http.get("/openapi.json")).raise_for_status().json()
        operations = [one for methods in document["paths"].values() for one in methods.values()]
        names = [operation["operationId"] for operation in operations]
        assert len(names) == len(set(names))
        for operation in operations:
            if "requestBody" in operation:
                resolved(document, body_of(operation))

    visit(scene)


def test_every_path_of_the_description_is_served() -> None:
    async def scene(house: House) -> None:
        document = (await house.http.get("/openapi.json")).raise_for_status().json()
        for path in document["paths"]:
            answer: httpx2.Response = await house.http.request("TRACE", path.replace("{", "").replace("}", ""))
            assert answer.status_code == 405, path

    visit(scene)


def test_a_browser_gets_a_page_that_needs_no_network() -> None:
    async def scene(house: House) -> None:
        page = (await house.http.get("/docs", headers=ANYONE)).raise_for_status()
        assert page.headers["content-type"].startswith("text/html")
        assert "/threads/{thread_id}/runs/stream" in page.text
        assert "<script" not in page.text
        assert "http" not in page.text.replace("<!doctype html>", "").replace("html lang", "")

    visit(scene)


def body_of(operation: dict[str, Any]) -> Any:
    return operation["requestBody"]["content"]["application/json"]["schema"]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    place: Any = document
    for name in (schema.get("items") or schema)["$ref"].removeprefix("#/").split("/"):
        place = place[name]
    assert isinstance(place, dict)
    return place
