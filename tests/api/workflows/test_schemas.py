"""The published schemas."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.api.scripted import House, visit
from tests.api.workflows.callers import ask, refused
from tests.api.workflows.test_plans import SPEC


@pytest.mark.parametrize("name", ["run_event", "workflow"])
def test_a_schema_is_read_without_a_key_and_is_sound(name: str) -> None:
    async def scene(house: House) -> None:
        answer = await ask(house, "GET", f"/schemas/{name}.schema.json", headers={"authorization": ""})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/schema+json"
        assert answer.headers["x-modelrelay-request-id"]
        schema: Any = answer.json()
        Draft7Validator.check_schema(schema)
        assert schema["$schema"].startswith("http://json-schema.org/draft-07/")
        if name == "workflow":
            Draft7Validator(schema).validate(SPEC)

    visit(scene)


def test_no_other_path_is_open_besides_them() -> None:
    async def scene(house: House) -> None:
        for path in ("/schemas/other.schema.json", "/schemas", "/models", "/sessions"):
            await refused(house, "GET", path, 401, "UNAUTHORIZED", headers={"authorization": ""})

    visit(scene)
